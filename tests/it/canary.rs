//! Nothing secret in the log at its most verbose, nor in the metrics; and nothing that is told to any method in any field.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use prost::Message as _;
use sea_orm::{ConnectionTrait, Statement};
use token_authority::proto::{
    self, api_key_service_client::ApiKeyServiceClient, issue_token_request::Credential,
    token_service_client::TokenServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use tracing_subscriber::EnvFilter;

use crate::{
    hostile_text::requests_with,
    support::{
        Engine, Server, TestDatabase, as_caller, binary::Binary, call_any, password_request,
    },
    walk::World,
};

/// Everything but the frames themselves.
const FILTER: &str = "trace,sqlx=trace,sea_orm=trace,tower=trace,tonic=trace,hyper=debug,h2=debug";
const VERBOSE: &[(&str, &str)] = &[("TOKEN_AUTHORITY_LOG_FILTER", FILTER)];

/// Does a bit of everything with secrets, and gives back all of them.
async fn secrets_of_a_day(server: &Binary) -> Vec<String> {
    let password = server.admin_password();
    let admin = server.admin_token().await;
    let mut tokens = TokenServiceClient::new(server.connect().await);
    let mut keys = ApiKeyServiceClient::new(server.connect().await);
    let wrong = "not the password of anybody".to_owned();
    let refused = tokens.issue_token(password_request("admin", &wrong, ""));
    refused.await.unwrap_err();
    let request = proto::CreateApiKeyRequest {
        api_key: Some(proto::ApiKey {
            display_name: "canary".to_owned(),
            scopes: vec!["authority.tokens.introspect".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let created = keys.create_api_key(as_caller(&admin, request)).await;
    let key = created.unwrap().into_inner().api_key_token;
    let exchanged = tokens.issue_token(proto::IssueTokenRequest {
        credential: Some(Credential::ApiKeyToken(key.clone())),
        ..Default::default()
    });
    let exchanged = exchanged.await.unwrap().into_inner().token.unwrap();
    server.survives(&exchanged.access_token).await;
    let rotated = tokens.rotate_token(proto::RotateTokenRequest {
        access_token: admin.clone(),
        ..Default::default()
    });
    let rotated = rotated.await.unwrap().into_inner().token.unwrap();
    let refused = tokens.get_caller_identity(as_caller(&admin, proto::GetCallerIdentityRequest {}));
    refused.await.unwrap_err();
    let revoked = tokens.revoke_token(proto::RevokeTokenRequest {
        token: rotated.access_token.clone(),
        ..Default::default()
    });
    revoked.await.unwrap();
    let key_secret = key.rsplit('_').next().unwrap().to_owned();
    let master_key = std::fs::read_to_string(server.data.path().join("master-key")).unwrap();
    let jwts = [admin, exchanged.access_token, rotated.access_token];
    let signatures = jwts.map(|jwt| jwt.rsplit('.').next().unwrap().to_owned());
    let mut secrets = vec![password, wrong, key_secret, master_key.trim().to_owned()];
    secrets.extend(signatures);
    secrets
}

async fn metrics(server: &Binary) -> String {
    let mut stream = TcpStream::connect(server.ops).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_appears_in_the_log_or_the_metrics() {
    let server = Binary::start(VERBOSE).await;
    let secrets = secrets_of_a_day(&server).await;
    let metrics = metrics(&server).await;
    assert!(metrics.contains("token_authority_calls_total"));
    server.terminate();
    let (status, log, data) = server.ended().await;
    assert!(status.success());
    assert!(
        log.contains("\"TRACE\"") || log.contains("\"DEBUG\""),
        "it is verbose"
    );
    assert!(
        !log.contains("log.lines_dropped"),
        "nothing of it is missing"
    );
    for secret in &secrets {
        for (place, text) in [("log", &log), ("metrics", &metrics)] {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{place}: {line:?}");
        }
    }
    let database = std::fs::read(data.path().join("token-authority.db")).unwrap();
    let database = String::from_utf8_lossy(&database);
    assert!(
        secrets
            .iter()
            .all(|secret| !database.contains(secret.as_str()))
    );
}

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every audit event, with its columns of text.
async fn audit_events(server: &Server) -> Vec<String> {
    let db = server.authority.db.reader();
    let from = |table| {
        format!(
            "SELECT space_id || actor_user_id || action || resource_id || error_reason || client_address
                    || request_id || CAST(details AS text) FROM {table}"
        )
    };
    let (waiting, chained) = (from("audit_inbox"), from("audit_events"));
    let sql = format!("{waiting} UNION ALL {chained}");
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql));
    let rows = rows.await.unwrap();
    rows.iter()
        .map(|row| row.try_get_by_index(0).unwrap())
        .collect()
}

/// One thread, so that its subscriber hears of everything.
#[tokio::test]
async fn what_is_told_in_any_field_comes_out_nowhere() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        if let Some(database) = TestDatabase::create(engine).await {
            comes_out_nowhere(database).await;
        }
    }
}

async fn comes_out_nowhere(database: TestDatabase) {
    // No name can be this; a password, a token or a description may.
    const CANARY: &str = "Canary 7f3a9c51b2d4 sings!";
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(FILTER))
        .with_writer(move || writer.clone());
    // As long as there is but one, tracing asks whoever comes first, in another test's thread, whether to log at all.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _listening = tracing::subscriber::set_default(subscriber.finish());
    let server = Server::start(database).await;
    let world = World::new(&server).await;
    let channel = server.connect().await;
    let mut told = 0;
    for path in proto::METHODS.iter().copied() {
        for (field, message) in requests_with(&world, path, CANARY).await {
            if field == "comment" {
                // It is for the audit log.
                continue;
            }
            told += 1;
            let request = as_caller(world.root(), message.encode_to_vec());
            if let Err(status) = call_any(&channel, path, request).await {
                let text = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
                assert!(!text.contains(CANARY), "{path}.{field}: {text}");
            }
            server.clock.advance(Duration::from_secs(10));
        }
    }
    assert!(told > 100, "{told} fields");
    for event in audit_events(&server).await {
        assert!(!event.contains(CANARY), "{event}");
    }
    drop((world, channel));
    server.stop().await;
    let logged = logged.0.lock().unwrap();
    let logged = String::from_utf8_lossy(&logged);
    assert!(logged.contains("TRACE") && logged.contains("call failed"));
    let line = logged.lines().find(|line| line.contains(CANARY));
    assert!(line.is_none(), "{line:?}");
}

//! Nothing secret in the log at its most verbose, nor in the metrics.

use token_authority::proto::{
    self, api_key_service_client::ApiKeyServiceClient, issue_token_request::Credential,
    token_service_client::TokenServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{as_caller, binary::Binary, password_request};

const VERBOSE: &[(&str, &str)] = &[(
    "TOKEN_AUTHORITY_LOG_FILTER",
    "trace,sqlx=trace,sea_orm=trace,tower=trace,tonic=trace,hyper=debug,h2=debug",
)];

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

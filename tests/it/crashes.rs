//! A server that is killed in a storm of revocations has forgotten nothing that it acknowledged.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::Connection as _;
use tempfile::TempDir;
use token_authority::{
    proto::{
        self, api_key_service_client::ApiKeyServiceClient,
        revocation_service_client::RevocationServiceClient, revocation_subject::Subject,
        token_service_client::TokenServiceClient,
    },
    server::verify_audit,
};
use tonic::{Status, transport::Channel};

use crate::support::{
    Count, Dice, Engine, Process, TestDatabase, as_caller, eventually, key_request,
    password_request, revocation_of, settings, spawn,
};

const KILLS: Count = Count {
    quick: 10,
    full: 50,
};
const REVOKERS: usize = 6;
/// How many revocations are acknowledged, give or take, before the server is killed among the next ones.
const STORM: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_kill_is_still_revoked_sqlite() {
    kill_again_and_again(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_kill_is_still_revoked_postgres() {
    kill_again_and_again(Engine::Postgres).await;
}

async fn kill_again_and_again(engine: Engine) {
    let Some(database) = TestDatabase::create(engine).await else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let mut dice = Dice::seeded(50);
    let mut dead: Vec<String> = Vec::new();
    let mut starts = Vec::new();
    let (admin, key) = first_start(&database, &data).await;
    for kill in 0..KILLS.get() {
        let server = Process::start_at_last(&database, data.path(), &[]).await;
        starts.push(server.started_in);
        assert_all_dead(&server, &admin, &dead).await;
        assert_intact(engine, &data).await;
        let enough = dice.below(2 * STORM);
        let acknowledged = storm_and_kill(server, &admin, &key, enough).await;
        assert!(acknowledged.len() as u64 >= enough, "kill {kill}");
        dead.extend(acknowledged);
    }
    let server = Process::start_at_last(&database, data.path(), &[]).await;
    starts.push(server.started_in);
    assert_all_dead(&server, &admin, &dead).await;
    assert_intact(engine, &data).await;
    assert_audited(&database, &data, &dead).await;
    starts.sort();
    eprintln!(
        "{engine:?}: killed {} times, {} acknowledged revocations in force after each restart; start-up median \
         {:.0?}, longest {:.0?}",
        KILLS.get(),
        dead.len(),
        starts[starts.len() / 2],
        starts.last().unwrap(),
    );
    assert!(*starts.last().unwrap() < Duration::from_secs(10));
}

/// Makes the database, an admin's token and an API key, and ends with a kill, too.
async fn first_start(database: &TestDatabase, data: &TempDir) -> (String, String) {
    let server = Process::start_at_last(database, data.path(), &[]).await;
    let password = std::fs::read_to_string(data.path().join("bootstrap-password")).unwrap();
    let request = password_request("admin", password.trim(), "");
    let issued = server.tokens().await.issue_token(request).await.unwrap();
    let admin = issued.into_inner().token.unwrap().access_token;
    let key = make_key(&mut server.api_keys().await, &admin)
        .await
        .unwrap();
    server.kill();
    (admin, key)
}

async fn make_key(keys: &mut ApiKeyServiceClient<Channel>, admin: &str) -> Result<String, Status> {
    let request = proto::CreateApiKeyRequest {
        api_key: Some(proto::ApiKey {
            display_name: "one of many".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = keys.create_api_key(as_caller(admin, request)).await?;
    Ok(made.into_inner().api_key_token)
}

/// Revokes from all sides, and kills the server when `enough` was acknowledged, in the middle of what follows. What was
/// acknowledged.
async fn storm_and_kill(server: Process, admin: &str, key: &str, enough: u64) -> Vec<String> {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let killed = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let mut revoking = Vec::new();
    for number in 0..REVOKERS {
        let revoker = Revoker {
            tokens: server.tokens().await,
            keys: server.api_keys().await,
            revocations: server.revocations().await,
            admin: admin.to_owned(),
            key: key.to_owned(),
        };
        let (acknowledged, killed) = (Arc::clone(&acknowledged), Arc::clone(&killed));
        let count = Arc::clone(&count);
        revoking.push(spawn(async move {
            let mut revoker = revoker;
            for way in number.. {
                match revoker.end(way).await {
                    Ok(dead) => {
                        acknowledged.lock().unwrap().push(dead);
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(status) => {
                        assert!(killed.load(Ordering::SeqCst), "{status:?}");
                        return;
                    }
                }
            }
        }));
    }
    while (count.load(Ordering::SeqCst) as u64) < enough {
        tokio::task::yield_now().await;
    }
    killed.store(true, Ordering::SeqCst);
    tokio::task::spawn_blocking(move || server.kill())
        .await
        .unwrap();
    for revoker in revoking {
        revoker.await.unwrap();
    }
    std::mem::take(&mut *acknowledged.lock().unwrap())
}

struct Revoker {
    tokens: TokenServiceClient<Channel>,
    keys: ApiKeyServiceClient<Channel>,
    revocations: RevocationServiceClient<Channel>,
    admin: String,
    key: String,
}

impl Revoker {
    /// Issues a token or a key and ends it, in one of the ways there are. What is dead then.
    async fn end(&mut self, way: usize) -> Result<String, Status> {
        if way.is_multiple_of(5) {
            return self.end_key().await;
        }
        let issued = self.tokens.issue_token(key_request(&self.key)).await?;
        let issued = issued.into_inner().token.unwrap();
        let token = issued.access_token;
        match way % 5 {
            1 => {
                let subject = Subject::TokenId(issued.token_id);
                self.revoke(subject).await?;
            }
            2 => {
                let subject = Subject::SessionId(issued.session_id);
                self.revoke(subject).await?;
            }
            3 => {
                let request = proto::RotateTokenRequest {
                    access_token: token.clone(),
                    ..Default::default()
                };
                self.tokens.rotate_token(request).await?;
            }
            _ => {
                let request = proto::RevokeTokenRequest {
                    token: token.clone(),
                    wait: None,
                };
                self.tokens.revoke_token(request).await?;
            }
        }
        Ok(token)
    }

    async fn end_key(&mut self) -> Result<String, Status> {
        let token = make_key(&mut self.keys, &self.admin).await?;
        let request = proto::RevokeTokenRequest {
            token: token.clone(),
            wait: None,
        };
        self.tokens.revoke_token(request).await?;
        Ok(token)
    }

    async fn revoke(&mut self, subject: Subject) -> Result<(), Status> {
        let request = as_caller(&self.admin, revocation_of(subject, ""));
        self.revocations.create_revocation(request).await?;
        Ok(())
    }
}

async fn assert_all_dead(server: &Process, admin: &str, dead: &[String]) {
    let mut tokens = server.tokens().await;
    for some in dead.chunks(100) {
        let request = proto::BatchIntrospectTokensRequest {
            // The admin's own is asked for, too: the answer is not "inactive" to everything.
            tokens: some.iter().cloned().chain([admin.to_owned()]).collect(),
            ..Default::default()
        };
        let told = tokens.batch_introspect_tokens(as_caller(admin, request));
        let verdicts = told.await.unwrap().into_inner().introspections;
        let (own, verdicts) = verdicts.split_last().unwrap();
        assert!(own.active());
        assert_eq!(verdicts.len(), some.len());
        assert!(verdicts.iter().all(|verdict| !verdict.active()));
    }
}

/// The audit log is whole, beside the server that runs: what it did before each kill was chained then or afterwards.
async fn assert_audited(database: &TestDatabase, data: &TempDir, dead: &[String]) {
    let settings = settings(database, data);
    eventually("every event is chained", async || {
        verify_audit(&settings).await.unwrap().not_chained == 0
    })
    .await;
    let head = verify_audit(&settings).await.unwrap().chain.unwrap();
    assert!(head.sequence >= dead.len() as u64);
}

/// What SQLite says of its file.
async fn assert_intact(engine: Engine, data: &TempDir) {
    if engine == Engine::Postgres {
        return;
    }
    let file = data.path().join("token-authority.db");
    let url = format!("sqlite://{}", file.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(verdict, "ok");
    connection.close().await.unwrap();
}

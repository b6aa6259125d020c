//! Master keys: several, another one, the wrong one, none.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tempfile::TempDir;
use token_authority::{
    authority::audit::keeping,
    clock::Clock,
    proto::{self, SigningAlgorithm, SigningKeyState as State, revocation_subject::Subject},
    server::{self, Life},
    storage,
};

use super::kid_of;
use crate::{
    audit::{kept, rows},
    support::{
        Engine, Server, TestDatabase, as_caller, create_key, eventually, introspect_request, key,
        settings,
    },
};

/// A file with a master key.
fn file(directory: &TempDir, byte: u8) -> PathBuf {
    let path = directory.path().join(format!("key-{byte}"));
    fs::write(&path, STANDARD.encode([byte; 32])).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A server that is stopped and started with other master keys.
struct Restarted {
    files: TempDir,
    clock: Clock,
    server: Server,
}

impl Restarted {
    async fn with(engine: Engine, master_keys: &[u8]) -> Option<Self> {
        let database = TestDatabase::create(engine).await?;
        let (files, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clock::set_to(Clock::system().now());
        let server = start(database, data, &clock, &files, master_keys).await;
        Some(Self {
            files,
            clock,
            server,
        })
    }

    /// Another server over the same database. PostgreSQL only.
    async fn beside(&self, master_keys: &[u8]) -> Self {
        let (files, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let password = Path::new("bootstrap-password");
        fs::copy(
            self.server.data.path().join(password),
            data.path().join(password),
        )
        .unwrap();
        let (clock, database) = (self.clock.clone(), self.server.database.shared());
        let server = start(database, data, &clock, &files, master_keys).await;
        Self {
            files,
            clock,
            server,
        }
    }

    async fn again_with(self, master_keys: &[u8]) -> Self {
        let (database, data) = self.server.stop().await;
        let server = start(database, data, &self.clock, &self.files, master_keys).await;
        Self { server, ..self }
    }

    /// What a start with other master keys says, where it must be refused. Then the server runs again.
    async fn refused_with(self, master_keys: &[u8], then: &[u8]) -> (Self, String) {
        let (database, data) = self.server.stop().await;
        let mut settings = settings(&database, &data);
        settings.master_key_file = paths(&self.files, master_keys);
        let life = Life::default();
        let clock = self.clock.clone();
        let opened = server::open(&settings, clock, &life.background).await;
        let refusal = opened.unwrap_err().to_string();
        life.background.stop();
        let server = start(database, data, &self.clock, &self.files, then).await;
        (Self { server, ..self }, refusal)
    }
}

fn paths(files: &TempDir, master_keys: &[u8]) -> Vec<PathBuf> {
    master_keys.iter().map(|byte| file(files, *byte)).collect()
}

async fn start(
    database: TestDatabase,
    data: TempDir,
    clock: &Clock,
    files: &TempDir,
    master_keys: &[u8],
) -> Server {
    Server::start_in(database, data, clock.clone(), |settings| {
        settings.master_key_file = paths(files, master_keys);
    })
    .await
}

/// What was given out before, and must be taken afterwards.
struct Before {
    token: String,
    cursor: String,
    page_token: String,
    request: proto::CreateApiKeyRequest,
    api_key_token: String,
}

impl Before {
    async fn of(server: &Server) -> Self {
        let token = server.admin().await.access_token;
        let subject = Subject::SessionId("any".to_owned());
        let revoked = server.revoke_by_reference(&token, subject, "").await;
        let cursor = revoked.unwrap().effect.unwrap().cursor;
        let first = proto::ListSigningKeysRequest {
            page_size: 1,
            ..Default::default()
        };
        let mut client = server.signing_keys().await;
        let listed = client.list_signing_keys(as_caller(&token, first)).await;
        let request = proto::CreateApiKeyRequest {
            idempotency_key: uuid::Uuid::now_v7().to_string(),
            ..create_key(key(&[]))
        };
        let made = server.create_key(&token, request.clone()).await.unwrap();
        Self {
            token,
            cursor,
            page_token: listed.unwrap().into_inner().next_page_token,
            request,
            api_key_token: made.api_key_token,
        }
    }

    async fn is_taken_by(&self, server: &Server) {
        let token = &self.token;
        let introspection = proto::IntrospectTokenRequest {
            min_cursor: self.cursor.clone(),
            ..introspect_request(token)
        };
        let told = server.judge(token, introspection).await.unwrap();
        assert_eq!(told.active, Some(true));
        let next = proto::ListSigningKeysRequest {
            page_size: 1,
            page_token: self.page_token.clone(),
        };
        let mut client = server.signing_keys().await;
        let listed = client.list_signing_keys(as_caller(token, next)).await;
        assert_eq!(listed.unwrap().into_inner().signing_keys.len(), 1);
        let retried = server.create_key(token, self.request.clone()).await;
        assert_eq!(retried.unwrap().api_key_token, self.api_key_token);
        server.verdict(token, &self.api_key_token).await.unwrap();
    }
}

async fn a_master_key_is_exchanged_for_another(engine: Engine) {
    let Some(server) = Restarted::with(engine, &[1]).await else {
        return;
    };
    let before = Before::of(&server.server).await;
    let active = kid_of(&before.token);
    // Both are known, the old one seals: nothing happens.
    let server = server.again_with(&[1, 2]).await;
    before.is_taken_by(&server.server).await;
    assert!(rows(&server.server, "master_key.change").await.is_empty());

    let server = server.again_with(&[2, 1]).await;
    before.is_taken_by(&server.server).await;
    assert_eq!(rows(&server.server, "master_key.change").await.len(), 1);
    let meanwhile = Before::of(&server.server).await;
    assert_eq!(kid_of(&meanwhile.token), active, "no other key was made");
    // Once is enough.
    let server = server.again_with(&[2, 1]).await;
    assert_eq!(rows(&server.server, "master_key.change").await.len(), 1);
    before.is_taken_by(&server.server).await;

    // The old one is not needed any more, and does not open the database any more.
    let server = server.again_with(&[2]).await;
    meanwhile.is_taken_by(&server.server).await;
    let (server, refusal) = server.refused_with(&[1], &[2]).await;
    assert!(
        refusal.contains("is not the one that this database"),
        "{refusal}"
    );
    let admin = server.server.admin().await.access_token;
    assert_eq!(kid_of(&admin), active);
    server.server.verdict(&admin, &before.token).await.unwrap();
    // The prepared key was sealed anew, too: it can take over.
    let prepared = server.server.id(&admin, State::Prepared).await;
    server
        .server
        .activate(&admin, &prepared, true)
        .await
        .unwrap();
    assert_eq!(kid_of(&server.server.admin().await.access_token), prepared);
    server.server.stop().await;
}

/// Whether a server's first master key has sealed the end of the audit log, and nothing is left to chain.
async fn has_sealed_the_audit_log(server: &Server) -> bool {
    let db = &server.authority.db;
    let ends = storage::audit::ends(db.reader()).await.unwrap();
    ends.not_chained == 0 && db.audit_key().unwrap().has_sealed(&ends.sealed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_servers_the_last_one_that_is_given_the_new_key_first_seals_the_audit_log_under_it()
 {
    let Some(one) = Restarted::with(Engine::Postgres, &[1, 2]).await else {
        return;
    };
    let other = one.beside(&[1, 2]).await;
    let one = one.again_with(&[2, 1]).await;
    let admin = other.server.admin().await.access_token;
    // Whichever server comes first chains an event.
    eventually("the old key has sealed last", async || {
        other.server.made_key(&admin, key(&[])).await;
        keeping::keep_once(&other.server.authority).await.unwrap();
        has_sealed_the_audit_log(&other.server).await
    })
    .await;

    let other = other.again_with(&[2, 1]).await;
    assert!(has_sealed_the_audit_log(&other.server).await);
    // That is no other change of the key.
    assert_eq!(rows(&other.server, "master_key.change").await.len(), 1);
    other.server.stop().await;
    let one = one.again_with(&[2]).await;
    let before = kept(&one.server).await;
    one.server.made_key(&admin, key(&[])).await;
    let after = kept(&one.server).await;
    assert_eq!(after, before + 1);

    let mut settings = settings(&one.server.database, &one.server.data);
    settings.master_key_file = paths(&one.files, &[2]);
    let verdict = server::verify_audit(&settings).await.unwrap();
    assert_eq!(verdict.chain.unwrap().sequence, after);
    one.server.stop().await;
}

async fn the_wrong_master_key_is_a_refusal_and_makes_nothing(engine: Engine) {
    let Some(server) = Restarted::with(engine, &[1]).await else {
        return;
    };
    let admin = server.server.admin().await.access_token;
    let keys = server.server.keys(&admin).await;
    let (server, refusal) = server.refused_with(&[2, 3], &[1]).await;
    assert!(
        refusal.contains("is not the one that this database"),
        "{refusal}"
    );
    assert_eq!(server.server.keys(&admin).await, keys);
    server.server.verdict(&admin, &admin).await.unwrap();
    server.server.stop().await;
}

async fn without_its_master_key_a_database_is_left_alone(engine: Engine) {
    let Some(database) = TestDatabase::create(engine).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    let clock = server.clock.clone();
    let (database, data) = server.stop().await;
    let (path, kept) = (master_key(data.path()), data.path().join("kept"));
    fs::rename(&path, &kept).unwrap();

    let settings = settings(&database, &data);
    let life = Life::default();
    let opened = server::open(&settings, clock.clone(), &life.background).await;
    let refusal = opened.unwrap_err().to_string();
    assert!(refusal.contains("there is no master key file"), "{refusal}");
    assert!(!path.exists(), "no other one is left behind");
    life.background.stop();

    fs::rename(&kept, &path).unwrap();
    let server = Server::start_in(database, data, clock, |_| {}).await;
    server.verdict(&admin, &admin).await.unwrap();
    server.stop().await;
}

fn master_key(data: &Path) -> PathBuf {
    data.join("master-key")
}

async fn a_key_made_under_either_is_sealed_under_the_first(engine: Engine) {
    let Some(server) = Restarted::with(engine, &[1, 2]).await else {
        return;
    };
    let admin = server.server.admin().await.access_token;
    for _ in 0..3 {
        let made = server.server.prepare(&admin, SigningAlgorithm::Es256).await;
        made.unwrap();
    }
    let server = server.again_with(&[3, 2, 1]).await.again_with(&[3]).await;
    let mut admin = server.server.admin().await.access_token;
    for prepared in server.server.ids(&admin, State::Prepared).await {
        server
            .server
            .activate(&admin, &prepared, true)
            .await
            .unwrap();
        admin = server.server.admin().await.access_token;
        assert_eq!(kid_of(&admin), prepared);
    }
    server.server.stop().await;
}

/// Whoever can write to the database cannot have one key's private half sign as another key.
async fn a_private_key_is_bound_to_its_kid(engine: Engine) {
    let Some(server) = Restarted::with(engine, &[1]).await else {
        return;
    };
    let swap = "UPDATE signing_keys SET sealed_private_key =
                (SELECT other.sealed_private_key FROM signing_keys other WHERE other.state = 'prepared')
                WHERE state = 'active'";
    server.server.sql(swap).await;
    let (database, data) = server.server.stop().await;
    let mut settings = settings(&database, &data);
    settings.master_key_file = paths(&server.files, &[1]);
    let life = Life::default();
    let opened = server::open(&settings, server.clock, &life.background).await;
    let refusal = opened.unwrap_err().to_string();
    assert!(
        refusal.contains("was changed, or belongs elsewhere"),
        "{refusal}"
    );
    life.background.stop();
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::support::Engine;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(Engine::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(Engine::Postgres).await;
            }
        }
    )*};
}

on_both!(
    a_master_key_is_exchanged_for_another,
    the_wrong_master_key_is_a_refusal_and_makes_nothing,
    without_its_master_key_a_database_is_left_alone,
    a_key_made_under_either_is_sealed_under_the_first,
    a_private_key_is_bound_to_its_kid,
);

//! S15: whatever somebody does to the audit log in the database, `audit verify` says so and names the event.

use std::os::unix::fs::PermissionsExt as _;

use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;
use token_authority::{
    authority::audit::keeping,
    domain::audit::{Fault, Head},
    server::{database_settings, verify_audit},
    storage::{self, ConnectionTrait as _, Database},
};

use crate::support::{Engine, Server, TestDatabase, binary, eventually, key, run_on, settings};

/// A database whose server has ended, and its data directory.
struct Remains {
    database: TestDatabase,
    data: TempDir,
    /// How many events there are.
    count: u64,
}

impl Remains {
    /// What a server leaves that has done some things.
    async fn of(engine: Engine) -> Option<Self> {
        let server = Server::start(TestDatabase::create(engine).await?).await;
        let tenant = server.tenant("acme").await;
        for _ in 0..9 {
            server.made_key(&tenant.alice_token, key(&[])).await;
        }
        let count = super::kept(&server).await;
        assert!(count > 10);
        let (database, data) = server.stop().await;
        let remains = Self {
            database,
            data,
            count,
        };
        for table in ["audit_events", "authority"] {
            remains
                .execute(&format!(
                    "CREATE TABLE {table}_kept AS SELECT * FROM {table}"
                ))
                .await;
        }
        Some(remains)
    }

    async fn execute(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        if let Some(url) = self.database.url() {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            connection.execute(sql).await.unwrap();
        } else {
            let file = self.data.path().join("token-authority.db");
            let url = format!("sqlite://{}", file.display());
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            connection.execute(sql).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    async fn restore(&self) {
        for table in ["audit_events", "authority"] {
            self.execute(&format!("DELETE FROM {table}")).await;
            self.execute(&format!("INSERT INTO {table} SELECT * FROM {table}_kept"))
                .await;
        }
    }

    async fn open(&self) -> Database {
        let settings = database_settings(&settings(&self.database, &self.data));
        Database::open_read_only(&settings).await.unwrap()
    }

    /// `audit verify`: its exit code and what it says.
    fn verify(&self) -> (i32, String) {
        let data = self.data.path().to_str().unwrap();
        let mut variables = Vec::new();
        if let Some(url) = self.database.url() {
            variables.push(("TOKEN_AUTHORITY_DATABASE_URL", url));
        }
        let output = binary::run(&["audit", "verify", "--data-dir", data], &variables);
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    }

    /// Says that this is found, and told with these words; nothing is wrong afterwards.
    async fn finds(&self, tampering: &[&str], words: &[&str]) {
        for sql in tampering {
            self.execute(sql).await;
        }
        let (code, said) = self.verify();
        assert_eq!(code, 1, "{tampering:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{tampering:?}: {said}");
        }
        self.restore().await;
    }
}

async fn on_both(test: impl AsyncFn(&Remains)) {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        if let Some(remains) = Remains::of(engine).await {
            let (code, said) = remains.verify();
            assert_eq!(code, 0, "{said}");
            let whole = format!("good\t{} events", remains.count);
            assert!(
                said.contains(&whole) && said.contains("0 not chained"),
                "{said}"
            );
            test(&remains).await;
            assert_eq!(remains.verify(), (0, said));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_every_column_that_was_changed_is_seen() {
    on_both(async |remains| {
        let id = remains.id_of(5).await;
        let (none, digit) = match remains.database.engine() {
            Engine::Sqlite => ("x''", "x'00'"),
            Engine::Postgres => ("''", r"'\x00'"),
        };
        for (column, value) in [
            ("event_time", "event_time + 1"),
            ("space_id", "'spc_other'"),
            ("actor_user_id", "'usr_other'"),
            ("actor_api_key_id", "'other'"),
            ("action", "'user.other'"),
            ("resource_id", "'other'"),
            ("outcome", "2"),
            ("outcome", "9"),
            ("error_reason", "'OTHER'"),
            ("client_address", "'192.0.2.1'"),
            ("request_id", "'other'"),
            ("details", r#"'{"other":"word"}'"#),
            ("details", "'[7]'"),
            ("digest", none),
            ("digest", digit),
        ] {
            let sql = format!("UPDATE audit_events SET {column} = {value} WHERE sequence = 5");
            remains.finds(&[&sql], &["event 5 ", &id]).await;
        }
        let sql = "UPDATE audit_events SET audit_event_id = 'aud_other' WHERE sequence = 5";
        remains.finds(&[sql], &["event 5 ", "aud_other"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_an_event_that_was_taken_out_or_moved_is_named() {
    on_both(async |remains| {
        let (fifth, sixth) = (remains.id_of(5).await, remains.id_of(6).await);
        for sql in [
            "DELETE FROM audit_events WHERE sequence = 5",
            "UPDATE audit_events SET sequence = 100000 WHERE sequence = 5",
        ] {
            remains.finds(&[sql], &["event 5 is missing", &sixth]).await;
        }
        let swap = [
            "UPDATE audit_events SET sequence = 100000 WHERE sequence = 5",
            "UPDATE audit_events SET sequence = 5 WHERE sequence = 9",
            "UPDATE audit_events SET sequence = 9 WHERE sequence = 100000",
        ];
        let ninth = remains.id_of(9).await;
        remains.finds(&swap, &["event 5 ", &ninth]).await;
        let first = "UPDATE audit_events SET sequence = -1 WHERE sequence = 5";
        remains.finds(&[first], &["event 1 ", &fifth]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_a_tail_that_was_cut_off_is_missed() {
    on_both(async |remains| {
        let last = remains.count;
        let one = format!("DELETE FROM audit_events WHERE sequence = {last}");
        let words = format!("event {last}, the last one, is missing");
        remains.finds(&[&one], &[&words]).await;
        let most = "DELETE FROM audit_events WHERE sequence > 4";
        let words = format!("events 5 to {last}, the last ones, are missing");
        remains.finds(&[most], &[&words]).await;
        let all = "DELETE FROM audit_events";
        let words = format!("events 1 to {last}, the last ones, are missing");
        remains.finds(&[all], &[&words]).await;
        // The end put back to where the tail begins, which takes the key.
        let head = "UPDATE authority SET audit_sequence = 4, audit_digest =
                        (SELECT digest FROM audit_events WHERE sequence = 4)";
        let forged = ["not sealed under this master key"];
        remains.finds(&[most, head], &forged).await;
        for head in NO_HEAD {
            remains.finds(&[head], &forged).await;
            remains.finds(&[all, head], &forged).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_a_chain_made_anew_without_the_key_is_seen() {
    on_both(async |remains| {
        let edit = "UPDATE audit_events SET resource_id = 'other' WHERE sequence = 5";
        remains.execute(edit).await;
        let anew = remains.chain_anew().await;
        for (head, sql) in &anew {
            remains.execute(sql).await;
            assert!(head.sequence <= remains.count);
        }
        let (code, said) = remains.verify();
        assert_eq!(code, 1, "{said}");
        let last = remains.id_of(remains.count).await;
        assert!(said.contains("was made anew") && said.contains(&last), "{said}");
        // With its end written, too, but not sealed.
        let digest = "UPDATE authority SET audit_digest = (SELECT digest FROM audit_events WHERE sequence = audit_sequence)";
        remains.execute(digest).await;
        let (code, said) = remains.verify();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("not sealed under this master key"), "{said}");
        remains.restore().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_master_key_nothing_is_said_of_the_chain() {
    on_both(async |remains| {
        let file = remains.data.path().join("master-key");
        let kept = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let (code, said) = remains.verify();
        assert_eq!(code, 1);
        assert!(said.contains("there is no master key"), "{said}");
        assert!(!file.exists(), "a key was made");
        std::fs::write(&file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (code, said) = remains.verify();
        assert_eq!(code, 1);
        assert!(
            said.contains("is not the one that this database was sealed with"),
            "{said}"
        );
        std::fs::write(&file, kept).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_goes_on_over_a_chain_that_was_tampered_with_and_seals_nothing() {
    let put_back = "UPDATE authority SET audit_sequence = 1, audit_digest =
                        (SELECT digest FROM audit_events WHERE sequence = 1)";
    for engine in [Engine::Sqlite, Engine::Postgres] {
        goes_on_after(engine, &[put_back]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_seals_no_chain_that_was_emptied() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        for head in NO_HEAD {
            goes_on_after(engine, &["DELETE FROM audit_events", head]).await;
        }
    }
}

/// The end of a chain without events, as somebody may write it who has not the key.
const NO_HEAD: [&str; 2] = [
    "UPDATE authority SET audit_sequence = 0, audit_digest = NULL, audit_hmac = NULL",
    "UPDATE authority SET audit_sequence = 0, audit_digest = NULL",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_of_another_type_keeps_nobody_from_revoking() {
    for garble in GARBLE {
        goes_on_after(Engine::Sqlite, &[garble]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_over_an_end_of_another_type() {
    let database = TestDatabase::create(Engine::Sqlite).await.unwrap();
    let server = Server::start(database).await;
    super::kept(&server).await;
    for garble in GARBLE {
        server.sql(garble).await;
    }
    let clock = server.clock.clone();
    let (database, data) = server.stop().await;

    let server = Server::start_in(database, data, clock, |_| {}).await;
    let admin = server.admin().await.access_token;
    let (id, token) = server.made_key(&admin, key(&[])).await;
    server.revoke_key(&admin, &id).await.unwrap();
    assert!(!server.introspect(&admin, &token).await.active());
    let verdict = super::verdict(&server).await;
    assert_eq!(verdict.chain, Err(Fault::HeadForged));
    assert_eq!(verdict.not_chained, 2);
    server.stop().await;
}

/// SQLite takes into any column what is of another type.
const GARBLE: [&str; 3] = [
    "UPDATE authority SET audit_sequence = 'x'",
    "UPDATE authority SET audit_digest = 7",
    "UPDATE authority SET audit_hmac = 7",
];

/// A server that finds another end of the chain revokes as ever, adds nothing to the chain, and `audit verify` names the fault.
async fn goes_on_after(engine: Engine, tampering: &[&str]) {
    run_on(engine, async |server| {
        let tenant = server.tenant("acme").await;
        let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
        super::kept(server).await;
        let transaction = server.authority.db.begin().await.unwrap();
        for sql in tampering {
            transaction.execute_unprepared(sql).await.unwrap();
        }
        transaction.commit().await.unwrap();

        let root = &tenant.root_token;
        let revoked = server.revoke_key(root, &id).await.unwrap();
        assert_eq!(revoked.effect.unwrap().effective, Some(true));
        assert!(!server.introspect(root, &token).await.active());
        let mut failed = None;
        // While the server itself is at it, there is nothing to do for anybody else.
        eventually("nothing is chained", async || {
            failed = keeping::keep_once(&server.authority).await.err();
            failed.is_some()
        })
        .await;
        let error = failed.unwrap();
        assert!(error.message().contains("not sealed"), "{error:?}");
        let verdict = verify_audit(&settings(&server.database, &server.data)).await;
        let verdict = verdict.unwrap();
        assert_eq!(verdict.chain, Err(Fault::HeadForged), "{tampering:?}");
        assert_eq!(verdict.not_chained, 1, "{tampering:?}");
    })
    .await;
}

impl Remains {
    async fn id_of(&self, sequence: u64) -> String {
        let db = self.open().await;
        let links = storage::audit::links(db.reader(), Some(sequence - 1), i64::MAX, 1).await;
        let id = links.unwrap()[0].id.to_string();
        db.close().await;
        id
    }

    /// The statements that give every event the digest that it would have if what is there now had always been there.
    async fn chain_anew(&self) -> Vec<(Head, String)> {
        let db = self.open().await;
        let links = storage::audit::links(db.reader(), None, i64::MAX, 10_000).await;
        db.close().await;
        let mut head = Head::EMPTY;
        let mut statements = Vec::new();
        for link in links.unwrap() {
            head = head.then(&link.event.unwrap());
            let digest = match self.database.engine() {
                Engine::Sqlite => format!("x'{}'", head.digest),
                Engine::Postgres => format!(r"'\x{}'", head.digest),
            };
            let sequence = head.sequence;
            statements.push((
                head,
                format!("UPDATE audit_events SET digest = {digest} WHERE sequence = {sequence}"),
            ));
        }
        statements
    }
}

//! Whatever is done in one space changes no row of another.

use sea_orm::{ConnectionTrait, Statement};
use token_authority::{domain::ids::SpaceId, proto};

use super::{World, requests};
use crate::support::{Engine, Server, as_caller, both, call_any, key};

/// Where the rows of a space are, and which of them are its own.
const TABLES: [(&str, &str); 8] = [
    ("spaces", "space_id = $1"),
    ("users", "space_id = $1"),
    ("roles", "space_id = $1"),
    (
        "role_assignments",
        "space_id = $1 OR user_id IN (SELECT user_id FROM users WHERE space_id = $1)",
    ),
    ("api_keys", "space_id = $1"),
    (
        "api_key_secrets",
        "api_key_id IN (SELECT api_key_id FROM api_keys WHERE space_id = $1)",
    ),
    ("revocation_log", "space_id = $1"),
    ("audit_events", "space_id = $1"),
];

async fn texts(server: &Server, sql: &str, value: &str) -> Vec<String> {
    let db = server.authority.db.reader();
    let backend = db.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [value.into()]);
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| row.try_get_by_index::<String>(0).unwrap())
        .collect()
}

/// Every row of a space, with every column but those of the audit chain, which is one for all spaces.
async fn rows_of(server: &Server, space: &SpaceId) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, own) in TABLES {
        let columns = match server.database.engine() {
            Engine::Sqlite => "SELECT name FROM pragma_table_info($1)",
            Engine::Postgres => {
                "SELECT column_name::text FROM information_schema.columns WHERE table_name = $1"
            }
        };
        let mut columns = texts(server, columns, table).await;
        columns.retain(|name| name != "sequence" && name != "digest");
        assert!(columns.len() > 3, "{table}: {columns:?}");
        let columns: Vec<String> = match server.database.engine() {
            Engine::Sqlite => columns
                .iter()
                .map(|name| format!("quote({name})"))
                .collect(),
            Engine::Postgres => columns
                .iter()
                .map(|name| format!("coalesce({name}::text, 'NULL')"))
                .collect(),
        };
        let row = columns.join(" || ',' || ");
        let sql = format!("SELECT {row} FROM {table} WHERE {own} ORDER BY 1");
        let found = texts(server, &sql, space.as_str()).await;
        assert!(!found.is_empty(), "{table}: nothing to compare");
        rows.extend(found);
    }
    rows
}

both!(
    what_is_done_in_one_space_changes_no_row_of_another,
    async |server| {
        let world = World::new(server).await;
        let channel = server.connect().await;
        let globex = &world.globex;
        server
            .made_key(&globex.alice_token, key(&["orders.read"]))
            .await;
        // An entry of its log.
        server.revoke(&globex.alice_token).await.unwrap();
        let before = rows_of(server, &globex.space).await;
        let mut done = 0;
        for path in proto::METHODS.iter().copied() {
            let boss = server.token_of(&world.acme.name("boss")).await;
            for caller in [&*boss, world.root()] {
                let message = requests::message(&world, path).await;
                let answer = call_any(&channel, path, as_caller(caller, message)).await;
                done += usize::from(answer.is_ok());
                let after = rows_of(server, &globex.space).await;
                assert_eq!(after, before, "{path}: {answer:?}");
            }
        }
        assert!(done > proto::METHODS.len(), "{done} calls did something");
    }
);

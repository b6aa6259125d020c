//! Whatever is done in one space changes no row of another, and shows none.

use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use sea_orm::{ConnectionTrait, Statement};
use token_authority::{
    authority::{audit::keeping, last_use},
    domain::ids::SpaceId,
    proto,
};
use tonic::{Code, transport::Channel};

use super::{World, requests};
use crate::support::{
    Engine, Server, answer_of, as_caller, both, call_any, key, method_of, reason, refused,
};

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
        // Its audit events are in their places, and its sign-ins are written, which is done once a minute.
        keeping::keep_once(&server.authority).await.unwrap();
        last_use::write(&server.authority).await.unwrap();
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

/// What tells of `acme` wherever it is shown.
async fn marks(world: &World<'_>) -> Vec<String> {
    let acme = &world.acme;
    let mut marks = vec![
        acme.slug.clone(),
        acme.space.to_string(),
        acme.alice.to_string(),
        acme.boss.to_string(),
    ];
    for _ in 0..2 {
        let made = world
            .server
            .made_key(&acme.alice_token, key(&["orders.read"]));
        marks.push(made.await.0);
        let token = world.server.token_of(&acme.name("alice")).await;
        world.server.revoke(&token).await.unwrap();
    }
    marks
}

fn shows(answer: &[u8], marks: &[String]) -> bool {
    marks.iter().any(|mark| {
        let mut places = answer.windows(mark.len());
        places.any(|place| place == mark.as_bytes())
    })
}

both!(
    x03_nothing_of_one_space_is_shown_to_another,
    async |server| {
        let world = World::new(server).await;
        let channel = server.connect().await;
        let marks = marks(&world).await;
        let (mut looked, mut would_show) = (0, 0);
        for path in proto::METHODS.iter().copied() {
            let name = path.rsplit('/').next().unwrap();
            if !["List", "Get"].iter().any(|verb| name.starts_with(verb)) {
                continue;
            }
            // What it shows to the operator who asks about acme, it does not show to its neighbour who asks about what is there.
            let about_acme = requests::message(&world, path).await;
            let told = answer_of(&channel, path, as_caller(world.root(), about_acme)).await;
            match told {
                Ok(told) => would_show += usize::from(shows(&told, &marks)),
                Err(status) => assert_eq!(status.code(), Code::Unimplemented, "{path}"),
            }
            for caller in [&world.globex.boss_token, &world.globex.alice_token] {
                let told = answer_of(&channel, path, as_caller(caller, Vec::new())).await;
                let Ok(told) = told else { continue };
                looked += 1;
                assert!(!shows(&told, &marks), "{path}");
            }
        }
        assert!(looked >= 10, "{looked} answers");
        assert!(would_show >= 8, "{would_show} methods show anything");
    }
);

/// `request` for one row of the page that a token tells of; nothing where the method has no pages.
fn with_page(path: &str, request: &[u8], token: &str) -> Option<Vec<u8>> {
    let input = method_of(path).input();
    input.get_field_by_name("page_token")?;
    let mut request = DynamicMessage::decode(input, request).unwrap();
    request.set_field_by_name("page_size", Value::I32(1));
    request.set_field_by_name("page_token", Value::String(token.to_owned()));
    Some(request.encode_to_vec())
}

async fn next_page(channel: &Channel, path: &'static str, caller: &str, page: Vec<u8>) -> String {
    let answer = answer_of(channel, path, as_caller(caller, page)).await;
    let answer = DynamicMessage::decode(method_of(path).output(), &*answer.unwrap()).unwrap();
    let next = answer.get_field_by_name("next_page_token").unwrap();
    next.as_str().unwrap().to_owned()
}

both!(
    x03_a_page_token_is_good_for_its_own_listing_alone,
    async |server| {
        let world = World::new(server).await;
        let channel = server.connect().await;
        marks(&world).await;
        let mut next_pages = Vec::new();
        for path in proto::METHODS.iter().copied() {
            let request = requests::message(&world, path).await;
            if let Some(first) = with_page(path, &request, "") {
                let next = next_page(&channel, path, world.root(), first).await;
                assert!(!next.is_empty(), "{path} has a second page");
                next_pages.push((path, request, next));
            }
        }
        assert!(next_pages.len() >= 8, "{next_pages:?}");
        for (path, request, own) in &next_pages {
            let present = async |caller: &str, token: &str| {
                let page = with_page(path, request, token).unwrap();
                call_any(&channel, path, as_caller(caller, page)).await
            };
            let altered = format!(
                "{}{}",
                if own.starts_with('A') { 'B' } else { 'A' },
                &own[1..]
            );
            let others = next_pages.iter().filter(|(other, ..)| other != path);
            let others = others.map(|(.., token)| token.as_str());
            for token in others.chain(["made-up", "' OR 1=1 --", &altered]) {
                let answer = present(world.root(), token).await;
                refused(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
            }
            // Nor is it good for another tenant, who asks about what is there.
            let page = with_page(path, &[], own).unwrap();
            let answer = call_any(&channel, path, as_caller(&world.globex.boss_token, page)).await;
            let status = answer.expect_err(path);
            let told = (status.code(), &*reason(&status));
            let of_system = (Code::PermissionDenied, "PERMISSION_MISSING");
            let not_ones_own = (Code::InvalidArgument, "PAGE_TOKEN_INVALID");
            assert!(
                told == of_system || told == not_ones_own,
                "{path}: {told:?}"
            );
            present(world.root(), own).await.unwrap();
        }
    }
);

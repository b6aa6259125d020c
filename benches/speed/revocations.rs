//! How fast single revocations become durable, and effective, against what the database itself takes for a row.
//!
//! Each caller revokes a session that nobody has revoked, by a call of its own, and then the next one; an answer comes when the
//! revocation lasts and has its place (`wait: 0`), or when it is effective. The baseline writes a row of as many columns into a
//! table with a primary key, by as many connections, each row in a transaction of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use prost::Message as _;
use sqlx::{Connection as _, Executor as _, PgConnection};
use token_authority::{
    domain::ids::SessionId,
    proto::{CreateRevocationRequest, RevocationSubject, revocation_subject::Subject},
};
use tokio::runtime::Runtime;
use tonic::codegen::Bytes;

use crate::{
    database::Engine,
    load::Load,
    report::{Contender, Table, measure},
    server::Server,
};

const CREATE: &str = "/tokenauthority.v1.RevocationService/CreateRevocation";
const CALLERS: usize = 64;
const WINDOW: Duration = Duration::from_secs(2);

/// P6.
pub(crate) fn revocations(engine: Engine, client: &Runtime, table: &mut Table) {
    let server = engine.start();
    let load = Load::new(client, server.address, CREATE, &server.admin, CALLERS);
    let revoke = |wait: Option<prost_types::Duration>| {
        let load = &load;
        move || {
            // More than any machine manages in the time.
            let messages: Arc<[Bytes]> = (0..200_000).map(|_| request(wait)).collect();
            load.for_a_while(&messages, WINDOW)
        }
    };
    let durable = Contender::new("durable", revoke(Some(prost_types::Duration::default())));
    let effective = Contender::new("effective", revoke(None));
    let name = engine.name();
    let what = |which: &str| format!("P6 {name}: {which} by {CALLERS} callers");
    match engine {
        Engine::Sqlite => {
            let measured = measure(vec![durable, effective]);
            let per_second = measured.per_second("durable");
            table.at_least(
                &what("durable revocations"),
                per_second,
                10_000.0,
                "calls/s",
            );
            let per_second = measured.per_second("effective");
            table.figure(&what("effective revocations"), per_second, "calls/s");
        }
        Engine::Postgres => {
            let inserting = Contender::new("inserts", inserts(&server, client));
            let measured = measure(vec![durable, effective, inserting]);
            for which in ["durable", "effective"] {
                let per_second = measured.per_second(which);
                table.figure(
                    &what(&format!("{which} revocations")),
                    per_second,
                    "calls/s",
                );
            }
            let per_second = measured.per_second("inserts");
            table.figure(&what("plain inserts"), per_second, "rows/s");
            table.ratio(
                &format!("P6 {name}: durable revocations / plain inserts"),
                measured.ratio("durable", "inserts"),
                0.7,
            );
        }
    }
}

/// A revocation of a session that nobody has heard of.
fn request(wait: Option<prost_types::Duration>) -> Bytes {
    let session = SessionId::random().unwrap();
    let subject = Subject::SessionId(session.as_str().to_owned());
    let request = CreateRevocationRequest {
        subject: Some(RevocationSubject {
            subject: Some(subject),
        }),
        wait,
        ..Default::default()
    };
    request.encode_to_vec().into()
}

/// Inserts rows one by one, by as many connections as there are callers.
fn inserts<'a>(server: &'a Server, client: &'a Runtime) -> impl FnMut() -> f64 + 'a {
    let url = server.database_url().unwrap();
    let connections = client.block_on(async {
        let mut first = PgConnection::connect(url).await.unwrap();
        let table = "CREATE TABLE plain (id text PRIMARY KEY, kind smallint, subject_kind text, subject_id text, space_id text, \
                     sessions_until bigint, effective_time bigint, create_time bigint, forget_time bigint, reason smallint)";
        first.execute(table).await.unwrap();
        let mut connections = vec![first];
        while connections.len() < CALLERS {
            connections.push(PgConnection::connect(url).await.unwrap());
        }
        connections
    });
    let mut connections = Some(connections);
    move || {
        let begun = Instant::now();
        let rows = AtomicUsize::new(0);
        let used = connections.take().unwrap();
        let (rows, back) = client.block_on(async {
            let rows = Arc::new(rows);
            let mut tasks = tokio::task::JoinSet::new();
            for mut connection in used {
                let rows = Arc::clone(&rows);
                tasks.spawn(async move {
                    while begun.elapsed() < WINDOW {
                        insert(&mut connection).await;
                        rows.fetch_add(1, Ordering::Relaxed);
                    }
                    connection
                });
            }
            let back = tasks.join_all().await;
            (rows.load(Ordering::Relaxed), back)
        });
        connections = Some(back);
        f64::from(u32::try_from(rows).unwrap()) / begun.elapsed().as_secs_f64()
    }
}

async fn insert(connection: &mut PgConnection) {
    let session = SessionId::random().unwrap();
    sqlx::query("INSERT INTO plain VALUES ($1, 1, 'session', $1, 'spc_x', NULL, NULL, 1, 2, 3)")
        .bind(session.as_str())
        .execute(connection)
        .await
        .unwrap();
}

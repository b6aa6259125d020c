//! How soon a revocation reaches a subscriber, and how soon it is effective: on SQLite one server, on PostgreSQL three replicas,
//! each a process of its own, with the subscriber at another one than the callers.
//!
//! A subscriber's time counts from the moment that the entry is dated with: its commit, and on SQLite the turn at writing that
//! it waited for, are part of it.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};

use token_authority::{
    clock::{Clock, Timestamp},
    domain::ids::SessionId,
    proto::{
        CreateRevocationRequest, RevocationEffect, RevocationSubject,
        revocation_service_client::RevocationServiceClient, revocation_subject::Subject,
    },
};
use tokio::{runtime::Runtime, sync::Barrier, task::JoinSet};

use crate::{
    database::{Database, Engine},
    process::Process,
    report::Table,
    server::as_caller,
    subscriber::{Subscriber, administrator, connect},
};

const REPLICAS: usize = 3;
const REVOCATIONS: usize = 480;
/// Those that come first, on connections and statements that are new, do not count.
const WARMING: usize = 32;

/// P7.
pub(crate) fn reach(engine: Engine, client: &Runtime, table: &mut Table) {
    let data = tempfile::tempdir().unwrap();
    let database = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(Database::create()),
    };
    let url = database.as_ref().map(Database::url);
    let replicas = if url.is_some() { REPLICAS } else { 1 };
    let servers: Vec<Process> = (0..replicas)
        .map(|_| Process::start(data.path(), url))
        .collect();
    let (called, watched) = (servers[0].grpc, servers[replicas - 1].grpc);
    let token = client.block_on(administrator(called, data.path()));
    client.block_on(revoke(called, watched, &token, 1, WARMING));
    for callers in [1, 16] {
        let each = REVOCATIONS / callers;
        let (reached, effective) = client.block_on(revoke(called, watched, &token, callers, each));
        let among = format!("{}, {replicas} replicas, {callers} callers", engine.name());
        let lines = [
            ("commit to subscriber", reached, 10.0),
            ("revoke to effective", effective, 50.0),
        ];
        for (what, times, most) in lines {
            percentiles(table, &format!("P7 {among}: {what}"), times, most);
        }
    }
    for server in servers {
        server.end();
    }
}

fn percentiles(table: &mut Table, what: &str, mut milliseconds: Vec<f64>, most: f64) {
    milliseconds.sort_by(f64::total_cmp);
    let at = |share: usize| milliseconds[(milliseconds.len() - 1) * share / 100];
    let figures = format!("{:.1} / {:.1} ms", at(50), at(100));
    table.line(&format!("{what}: median / most"), &figures, "");
    table.at_most(&format!("{what}: p99"), at(99), most, "ms");
}

/// Revokes at one server and watches at another. In milliseconds, how long each revocation took to the subscriber, and until it
/// was effective.
async fn revoke(
    called: SocketAddr,
    watched: SocketAddr,
    token: &str,
    callers: usize,
    each: usize,
) -> (Vec<f64>, Vec<f64>) {
    let mut subscriber = Subscriber::open(watched, token, "").await;
    subscriber.catch_up().await;
    let total = callers * each;
    let mut receiving = JoinSet::new();
    receiving.spawn(async move {
        let mut received = HashMap::new();
        while received.len() < total {
            let told = subscriber.next().await;
            let now = Clock::system().now();
            let entries = told.entries as u64;
            received.extend((0..entries).map(|back| (told.position - back, now)));
        }
        received
    });
    let start = Arc::new(Barrier::new(callers));
    let mut calling = JoinSet::new();
    for _ in 0..callers {
        calling.spawn(call(called, token.to_owned(), each, Arc::clone(&start)));
    }
    let effects: Vec<_> = calling.join_all().await.into_iter().flatten().collect();
    let received: HashMap<u64, Timestamp> = receiving.join_all().await.remove(0);
    let to_subscriber = |effect: &RevocationEffect| {
        let time = effect.commit_time.unwrap();
        let micros = time.seconds * 1_000_000 + i64::from(time.nanos / 1000);
        let took = received[&effect.position].since(Timestamp::from_micros(micros));
        took.as_secs_f64() * 1e3
    };
    effects
        .iter()
        .map(|(effect, took)| (to_subscriber(effect), *took))
        .unzip()
}

/// Revokes sessions, one after the other, on a connection of its own. How long each took until it was effective.
async fn call(
    address: SocketAddr,
    token: String,
    count: usize,
    start: Arc<Barrier>,
) -> Vec<(RevocationEffect, f64)> {
    let mut client = RevocationServiceClient::new(connect(address).await);
    start.wait().await;
    let mut effects = Vec::with_capacity(count);
    for _ in 0..count {
        let request = some_revocation();
        let begun = Instant::now();
        let answer = client.create_revocation(as_caller(&token, request)).await;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let effect = answer.unwrap().into_inner().effect.unwrap();
        assert_eq!(effect.effective, Some(true));
        effects.push((effect, took));
    }
    effects
}

/// Of a session that nobody has.
pub(crate) fn some_revocation() -> CreateRevocationRequest {
    let session = SessionId::random().unwrap().to_string();
    CreateRevocationRequest {
        subject: Some(RevocationSubject {
            subject: Some(Subject::SessionId(session)),
        }),
        ..Default::default()
    }
}

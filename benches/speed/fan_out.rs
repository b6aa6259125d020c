//! Many subscribers of one server, each told of every revocation while a hundred a second are made. The server is a process of
//! its own; the subscribers are all here and look at no more than they must, which takes its share of the processors all the
//! same.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use token_authority::{
    clock::Clock,
    proto::{
        self, revocation_service_client::RevocationServiceClient,
        role_service_client::RoleServiceClient, user_service_client::UserServiceClient,
    },
};
use tokio::{runtime::Runtime, task::JoinSet, time::Instant};
use tonic::{Code, transport::Channel};

use crate::{
    database::{Database, Engine},
    process::Process,
    reach::some_revocation,
    report::Table,
    server::{PASSWORD, as_caller, sign_in},
    subscriber::{Subscriber, administrator, connect},
};

const STREAMS_PER_CONNECTION: usize = 100;
/// A user may have 1024.
const STREAMS_PER_USER: usize = 1000;
const PER_SECOND: u32 = 100;
const REVOCATIONS: u32 = 1000;
/// How long the last of them may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// P9.
pub(crate) fn fan_out(engine: Engine, subscribers: usize, client: &Runtime, table: &mut Table) {
    let data = tempfile::tempdir().unwrap();
    let database = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(Database::create()),
    };
    let server = Process::start(data.path(), database.as_ref().map(Database::url));
    let delays = Arc::new(Delays::default());
    let took = client.block_on(run(&server, data.path(), subscribers, &delays));
    let name = format!("P9 {}, {subscribers} subscribers", engine.name());
    let delivered = delays.count();
    let all = subscribers as u64 * u64::from(REVOCATIONS);
    let told = if delivered == all { "all" } else { "NOT ALL" };
    table.line(&format!("{name}: delivered"), &delivered.to_string(), told);
    table.at_most(&format!("{name}: p99"), delays.at(99), 1.0, "s");
    let figures = format!("{:.3} / {:.3} s", delays.at(50), delays.at(100));
    table.line(&format!("{name}: median / most"), &figures, "");
    let resident = server.resident_mib();
    table.at_most(&format!("{name}: resident"), resident, 400.0, "MiB");
    let share = took.as_secs_f64() / f64::from(REVOCATIONS / PER_SECOND);
    let what = format!("{name}: processors that the server takes");
    table.line(&what, &format!("{share:.2}"), "");
    server.end();
}

/// Revokes while all watch. How much processor time the server took meanwhile.
async fn run(server: &Process, data: &Path, subscribers: usize, delays: &Arc<Delays>) -> Duration {
    let address = server.grpc;
    let admin = administrator(address, data).await;
    let mut tokens = Vec::new();
    for user in 0..subscribers.div_ceil(STREAMS_PER_USER) {
        tokens.push(watcher(address, &admin, &format!("watcher.{user}")).await);
    }
    let mut opening = JoinSet::new();
    for (connection, begin) in (0..subscribers).step_by(STREAMS_PER_CONNECTION).enumerate() {
        let streams = STREAMS_PER_CONNECTION.min(subscribers - begin);
        let token = tokens[connection % tokens.len()].clone();
        opening.spawn(open(address, token, streams));
    }
    let mut reading = JoinSet::new();
    for subscriber in opening.join_all().await.into_iter().flatten() {
        reading.spawn(read(subscriber, Arc::clone(delays)));
    }
    let before = server.processor_time();
    revoke(address, &admin).await;
    let took = server.processor_time().saturating_sub(before);
    // What is late shows in what was not delivered.
    let _late = tokio::time::timeout(PATIENCE, reading.join_all()).await;
    took
}

/// Somebody who may watch every space.
async fn watcher(address: SocketAddr, admin: &str, name: &str) -> String {
    let channel = connect(address).await;
    let user = proto::User {
        username: name.to_owned(),
        space_id: "system".to_owned(),
        ..Default::default()
    };
    let request = proto::CreateUserRequest {
        user: Some(user),
        password: PASSWORD.to_owned(),
    };
    let mut users = UserServiceClient::new(channel.clone());
    users.create_user(as_caller(admin, request)).await.unwrap();
    let assignment = proto::RoleAssignment {
        space_id: "system".to_owned(),
        role: "introspector".to_owned(),
        user_id: name.to_owned(),
        create_time: None,
    };
    let request = proto::AssignRoleRequest {
        assignment: Some(assignment),
    };
    let mut roles = RoleServiceClient::new(channel);
    roles.assign_role(as_caller(admin, request)).await.unwrap();
    sign_in(address, name, PASSWORD).await
}

/// Streams on one connection that have caught up.
async fn open(address: SocketAddr, token: String, count: usize) -> Vec<Subscriber> {
    let channel = connect(address).await;
    let mut subscribers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut subscriber = Subscriber::over(channel.clone(), &token, "").await;
        subscriber.catch_up().await;
        subscribers.push(subscriber);
    }
    subscribers
}

async fn read(mut subscriber: Subscriber, delays: Arc<Delays>) {
    let mut entries = 0;
    while entries < REVOCATIONS as usize {
        let told = subscriber.next().await;
        if told.entries > 0 {
            delays.add(told.first_time, told.entries);
            entries += told.entries;
        }
    }
}

async fn revoke(address: SocketAddr, token: &str) {
    let channel = connect(address).await;
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..REVOCATIONS {
        tokio::time::sleep_until(begun + Duration::from_secs(1) * number / PER_SECOND).await;
        calls.spawn(until_revoked(channel.clone(), token.to_owned()));
    }
    calls.join_all().await;
}

/// Tries again where the server is too busy, as anybody would.
async fn until_revoked(channel: Channel, token: String) {
    let mut client = RevocationServiceClient::new(channel);
    loop {
        let request = as_caller(&token, some_revocation());
        match client.create_revocation(request).await {
            Ok(_) => return,
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
    }
}

/// How late entries were, in milliseconds. Those of one message count like its first.
struct Delays(Vec<AtomicU64>);

impl Default for Delays {
    fn default() -> Self {
        Self((0..10_000).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Delays {
    fn add(&self, decided: u64, entries: usize) {
        let now = u64::try_from(Clock::system().now().micros()).unwrap();
        let late = usize::try_from(now.saturating_sub(decided) / 1000).unwrap();
        let counter = &self.0[late.min(self.0.len() - 1)];
        counter.fetch_add(entries as u64, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        let counters = self.0.iter();
        counters.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How late no more than a share were, in seconds.
    fn at(&self, percent: u64) -> f64 {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut counted = 0;
        let late = self.0.iter().position(|count| {
            counted += count.load(Ordering::Relaxed);
            counted >= wanted
        });
        Duration::from_millis(late.unwrap_or_default() as u64 + 1).as_secs_f64()
    }
}

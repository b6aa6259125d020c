//! Servers that are processes over one PostgreSQL database, each behind a `proxy` of its own, how clients reach them, and a
//! `load` of clients.

mod load;
mod proxy;
mod stepped_clock;

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use token_authority::proto::token_service_client::TokenServiceClient;
use tokio::time::Instant;
use tonic::transport::Channel;

pub(crate) use self::{
    load::{Load, introspect, never_sent},
    proxy::{Proxy, Snag, Weather},
    stepped_clock::SteppedClock,
};
use super::{Process, TestDatabase, answered, data_beside, password_request};

/// Replicas that are there from the beginning to the end, but for when they are killed.
pub(crate) const STANDING: usize = 3;

/// The slot whose wall clock is stepped.
pub(crate) const STEPPED: usize = STANDING - 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Those that stand, and one that comes and goes.
    pub(crate) slots: Vec<Slot>,
    pub(crate) database: TestDatabase,
}

/// Where a replica is, or was, or will be.
#[derive(Debug)]
pub(crate) struct Slot {
    letter: char,
    pub(crate) proxy: Proxy,
    /// Held by whoever stops, kills, starts or ends its process.
    pub(crate) hands: tokio::sync::Mutex<()>,
    /// The wall clock of its process, where it can be stepped.
    pub(crate) clock: Option<SteppedClock>,
    data: TempDir,
    database: TestDatabase,
    lives: AtomicUsize,
    running: Mutex<Option<At>>,
}

/// A running replica, as clients see it.
#[derive(Debug, Clone)]
pub(crate) struct At {
    /// Its letter, and how often it has been started.
    pub(crate) name: String,
    pub(crate) channel: Channel,
    process: Arc<Process>,
}

impl At {
    /// A connection beside that of [`At::channel`], which carries only so many streams.
    pub(crate) fn another_channel(&self) -> Channel {
        self.process.connect_lazily()
    }
}

impl Cluster {
    /// Starts the replicas that stand. Their data directories are made from that of the first.
    pub(crate) async fn start(database: TestDatabase) -> Self {
        let postgres = address(database.url().unwrap());
        let mut slots = Vec::new();
        for (number, letter) in ('a'..='d').enumerate() {
            let proxy = Proxy::before(postgres).await;
            let data = match slots.first() {
                None => tempfile::tempdir().unwrap(),
                Some(Slot { data, .. }) => data_beside(data),
            };
            let slot = Slot {
                letter,
                hands: tokio::sync::Mutex::default(),
                clock: (number == STEPPED).then(SteppedClock::find).flatten(),
                database: database.through(proxy.port),
                proxy,
                data,
                lives: AtomicUsize::new(0),
                running: Mutex::new(None),
            };
            if number < STANDING {
                slot.start().await;
            }
            slots.push(slot);
        }
        Self { slots, database }
    }

    /// A JWT of `admin`.
    pub(crate) async fn admin(&self) -> String {
        let file = self.slots[0].data.path().join("bootstrap-password");
        let password = std::fs::read_to_string(file).unwrap();
        let mut client = TokenServiceClient::new(self.running().remove(0).channel);
        let issued = answered(async || {
            let request = password_request("admin", password.trim(), "");
            client.issue_token(request).await
        });
        let issued = issued.await.unwrap().into_inner();
        issued.token.unwrap().access_token
    }

    /// The replicas that run.
    pub(crate) fn running(&self) -> Vec<At> {
        self.slots.iter().filter_map(Slot::at).collect()
    }
}

impl Slot {
    /// Starts it, however often the database cannot be reached meanwhile.
    pub(crate) async fn start(&self) {
        let clock = self.clock.as_ref().map(SteppedClock::environment);
        let clock = clock.unwrap_or_default();
        let process = Process::start_at_last(&self.database, self.data.path(), &clock).await;
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let at = At {
            name: format!("{}{life}", self.letter),
            channel: process.connect_lazily(),
            process: Arc::new(process),
        };
        *self.lock() = Some(at);
    }

    /// How clients reach it; none where it does not run.
    pub(crate) fn at(&self) -> Option<At> {
        self.lock().clone()
    }

    /// What to stop and to let go on; none where it does not run.
    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.lock().as_ref().map(|at| Arc::clone(&at.process))
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        // Clients may hold on to how it was reached.
        if let Some(at) = self.lock().take() {
            at.process.kill();
        }
    }

    /// Ends it politely, while clients still ask it.
    pub(crate) async fn leave(&self) {
        let Some(process) = self.process() else {
            return;
        };
        process.end();
        let end = Instant::now() + ENDS_WITHIN;
        while !process.has_ended() {
            assert!(Instant::now() < end, "{} does not end", self.letter);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(self.lock().take());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<At>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where PostgreSQL listens.
pub(crate) fn address(url: &str) -> SocketAddr {
    let (_, behind) = url.split_once("://").unwrap();
    let authority = behind.split('/').next().unwrap();
    let host = authority.rsplit('@').next().unwrap();
    host.to_socket_addrs().unwrap().next().unwrap()
}

/// Who is asked to end does so in half a minute, however much has to be cut by then.
const ENDS_WITHIN: Duration = Duration::from_secs(35);

/// Longer than any call takes that is answered at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

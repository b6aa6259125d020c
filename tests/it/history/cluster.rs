//! The servers: processes over one PostgreSQL database, each behind a proxy of its own.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::{proxy::Proxy, stepped_clock::SteppedClock};
use crate::support::{Process, TestDatabase, data_beside};

/// Replicas that are there from the beginning to the end, but for when they are killed.
pub(super) const STANDING: usize = 3;

/// The slot whose wall clock is stepped.
pub(super) const STEPPED: usize = STANDING - 1;

/// See the module.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Those that stand, and one that comes and goes.
    pub(super) slots: Vec<Slot>,
    pub(super) database: TestDatabase,
}

/// Where a replica is, or was, or will be.
#[derive(Debug)]
pub(super) struct Slot {
    letter: char,
    pub(super) proxy: Proxy,
    /// Held by whoever stops, kills, starts or ends its process.
    pub(super) hands: tokio::sync::Mutex<()>,
    /// The wall clock of its process, where it can be stepped.
    pub(super) clock: Option<SteppedClock>,
    data: TempDir,
    database: TestDatabase,
    lives: AtomicUsize,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    at: At,
    process: Arc<Process>,
}

/// A running replica, as clients see it.
#[derive(Debug, Clone)]
pub(super) struct At {
    /// Its letter, and how often it has been started.
    pub(super) name: String,
    pub(super) channel: Channel,
}

impl Cluster {
    /// Starts the replicas that stand. Their data directories are made from that of the first.
    pub(super) async fn start(database: TestDatabase) -> Self {
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

    /// The password of `admin`.
    pub(super) fn admin_password(&self) -> String {
        let file = self.slots[0].data.path().join("bootstrap-password");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// The replicas that run.
    pub(super) fn running(&self) -> Vec<At> {
        self.slots.iter().filter_map(Slot::at).collect()
    }
}

impl Slot {
    /// Starts it, however often the database cannot be reached meanwhile.
    pub(super) async fn start(&self) {
        let end = Instant::now() + JOINS_WITHIN;
        let process = loop {
            let (database, data) = (self.database.shared(), self.data.path().to_owned());
            let clock = self.clock.as_ref().map(SteppedClock::environment);
            let starting = tokio::task::spawn_blocking(move || {
                Process::start_with(&database, &data, &clock.unwrap_or_default())
            });
            match starting.await.unwrap() {
                Ok(process) => break process,
                Err(said) => assert!(Instant::now() < end, "{} ends: {said}", self.letter),
            }
        };
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let at = At {
            name: format!("{}{life}", self.letter),
            channel: process.connect_lazily(),
        };
        let process = Arc::new(process);
        *self.lock() = Some(Running { at, process });
    }

    /// How clients reach it; none where it does not run.
    pub(super) fn at(&self) -> Option<At> {
        self.lock().as_ref().map(|running| running.at.clone())
    }

    /// What to stop and to let go on; none where it does not run.
    pub(super) fn process(&self) -> Option<Arc<Process>> {
        self.lock()
            .as_ref()
            .map(|running| Arc::clone(&running.process))
    }

    /// Kills it.
    pub(super) fn kill(&self) {
        drop(self.lock().take());
    }

    /// Ends it politely, while clients still ask it.
    pub(super) async fn leave(&self) {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where PostgreSQL listens.
fn address(url: &str) -> SocketAddr {
    let (_, behind) = url.split_once("://").unwrap();
    let authority = behind.split('/').next().unwrap();
    let host = authority.rsplit('@').next().unwrap();
    host.to_socket_addrs().unwrap().next().unwrap()
}

/// However often the database cannot be reached while it starts.
const JOINS_WITHIN: Duration = Duration::from_mins(2);

/// Who is asked to end does so in half a minute, however much has to be cut by then.
const ENDS_WITHIN: Duration = Duration::from_secs(35);

/// Longer than any call takes that is answered at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

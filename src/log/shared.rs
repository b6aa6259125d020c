//! What the parts of the log have in common, and how they are put together.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use metrics::Histogram;
use tokio::sync::{Notify, Semaphore};

use super::{
    Herald, Opening,
    awaited::Awaited,
    barrier::{self, Barrier},
    cursor::{CursorSeal, LogIdentity},
    lease,
    memory::Memory,
    right::Right,
    sequencer, tail,
};
use crate::{
    background::Background,
    clock::Clock,
    domain::ids::ReplicaId,
    error::{Error, Reason, Result},
    storage::{self, Database, Engine, Pool},
    telemetry::metrics as names,
};

/// None of the log's own connections holds a transaction open for longer: whoever is stopped in one must not stop the rest.
const IDLE: Duration = Duration::from_millis(500);

/// How many of those who are far behind read the table at a time. SQLite has four connections to read.
const TABLE_READS: usize = 2;

#[derive(Debug)]
pub(super) struct Shared {
    /// What keeps all this up to date.
    pub(super) background: Background,
    pub(super) db: Database,
    /// The tail's own.
    pub(super) reader: Pool,
    pub(super) clock: Clock,
    /// What the log is called; another one where it begins anew.
    identity: RwLock<LogIdentity>,
    pub(super) seal: CursorSeal,
    pub(super) memory: Memory,
    pub(super) wake_tail: Notify,
    pub(super) wake_sequencer: Notify,
    pub(super) awaited: Awaited,
    pub(super) wake_lease: Notify,
    pub(super) right: Right,
    pub(super) barrier: Barrier,
    pub(super) herald: Herald,
    /// Turns at reading the table for those who are far behind: however many they are, others find a connection.
    pub(super) table_reads: Semaphore,
    /// From the commit of a revocation until it is effective.
    pub(super) effective_seconds: Histogram,
    /// Entries that the sequencer gave their places in one step.
    pub(super) sequenced_entries: Histogram,
}

impl Shared {
    pub(super) async fn new(
        db: Database,
        clock: Clock,
        opening: Opening,
        background: Background,
    ) -> Result<Arc<Self>> {
        let reader = db.dedicated("token-authority tail", IDLE).await?;
        let identity = LogIdentity(storage::authority::log_identity(&reader).await?);
        let barrier = Barrier::new(name(), ReplicaId::new(clock.now())?);
        Ok(Arc::new(Self {
            background,
            db,
            reader,
            clock,
            identity: RwLock::new(identity),
            seal: opening.seal,
            herald: opening.herald,
            memory: Memory::default(),
            wake_tail: Notify::new(),
            wake_sequencer: Notify::new(),
            wake_lease: Notify::new(),
            awaited: Awaited::default(),
            right: Right::none(),
            barrier,
            table_reads: Semaphore::new(TABLE_READS),
            effective_seconds: metrics::histogram!(names::EFFECTIVE_SECONDS),
            sequenced_entries: metrics::histogram!(names::SEQUENCED_ENTRIES),
        }))
    }

    /// A connection that nobody else waits for.
    pub(super) async fn own_connection(&self, name: &str) -> Result<Pool> {
        self.db.dedicated(name, IDLE).await
    }

    /// Takes a lease, loads the log and only then says so: whoever revokes meanwhile waits for this server.
    pub(super) async fn join(self: &Arc<Self>, issuer: String) -> Result<()> {
        let mut keeper = lease::Keeper::new(Arc::clone(self), issuer).await?;
        keeper.join().await?;
        self.background.begin("lease", |stop| keeper.run(stop));
        Ok(())
    }

    /// Works with the other servers. PostgreSQL only.
    pub(super) async fn work_with_others(self: &Arc<Self>) -> Result<()> {
        let sequencer = sequencer::Sequencer::new(Arc::clone(self)).await?;
        let observer = barrier::Observer::new(Arc::clone(self)).await?;
        let listening = Arc::clone(self);
        let background = &self.background;
        background.begin("sequencer", |stop| sequencer.run(stop));
        background.begin("barrier", |stop| observer.run(stop));
        background.begin("listener", |stop| tail::listen(listening, stop));
        Ok(())
    }

    /// UNAVAILABLE where not even reading the log would help: somebody who applies it was lost, or it is no longer the log that
    /// the next start will find.
    pub(super) fn require_of_use(&self) -> Result<()> {
        if self.background.is_whole() && (self.right.is_there() || self.db.is_in_place()) {
            return Ok(());
        }
        let message = "the database cannot be reached";
        Err(Error::new(Reason::DatabaseUnavailable, message).retry_after(Duration::from_secs(1)))
    }

    pub(super) fn identity(&self) -> LogIdentity {
        *self.identity.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_identity(&self, identity: LogIdentity) {
        let own = self.identity.write();
        *own.unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// After a commit: gives the entry its place, or reads it.
    pub(super) fn wake(&self) {
        match self.db.engine() {
            Engine::Sqlite => self.wake_tail.notify_one(),
            Engine::Postgres => self.wake_sequencer.notify_one(),
        }
    }
}

/// Host and process, as people know a server by.
fn name() -> String {
    let host = rustix::system::uname();
    let process = std::process::id();
    format!("{}:{process}", host.nodename().to_string_lossy())
}

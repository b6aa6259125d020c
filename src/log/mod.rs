//! The revocation log at work: what was decided gets its place, is applied in memory, and is told to whoever waits or watches.
//!
//! A writer appends in its own transaction ([`Pending`]) and commits. On PostgreSQL the `sequencer` then gives the entry its
//! place; on SQLite the append did. The `tail` reads what is new, in order and without a gap, applies it (`applied`), and
//! only then does the writer learn the [`Effect`] and reply. Streams read what was applied (`recent`, most of it packed:
//! `packing`, `packed_id`), or the table where they are further behind. `herald` tells who holds signing keys before an entry
//! about one is applied. `retention` forgets the oldest.
//! [`cursor`] makes places opaque. `beginning` is for logs that have lost their end.
//!
//! Each server holds a `lease`, which it renews as long as it follows the log, and which gives it the `right` to answer from memory
//! for a while. Over one PostgreSQL database there may be many: there the lease says how far its server has applied the log, and
//! the `barrier` waits until none is behind a place, and takes away those of servers that have fallen silent.
//!
//! Invariants: positions are dense from the floor to the head, but where the log began anew; nothing is applied before it is durable; a reply that calls a
//! revocation effective comes after every server that may answer from memory has applied it.

mod applied;
mod barrier;
mod beginning;
pub mod cursor;
mod effect;
mod herald;
mod lease;
mod packed_id;
mod packing;
mod recent;
mod retention;
mod right;
mod scan_bound;
mod sequencer;
mod tail;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::Histogram;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, oneshot, watch},
    time::Instant,
};

pub use applied::Applied;
pub use barrier::Replica;
pub use beginning::begin_anew;
pub use effect::{Effect, Pending, WaitUntil};
pub use herald::Herald;

use self::{
    barrier::Barrier,
    cursor::{Coverage, Cursor, CursorSeal, EntryMark, LogIdentity},
    right::Right,
};
use crate::{
    background::Background,
    clock::{Clock, Timestamp},
    domain::{
        ids::{EventId, ReplicaId},
        revocation::{Entry, Position},
    },
    error::{Error, Reason, Result},
    storage::{self, Database, Engine, Pool, revocation_log},
    telemetry::metrics as names,
};

/// How many entries a reader best asks for at a time.
pub const PAGE: u32 = 500;
const _: () = assert!(PAGE as usize == recent::PACKED);

/// How long an entry is remembered: longer than anything it kills can live, so that verifiers which were away for long find
/// it still.
const RETENTION: Duration = Duration::from_hours(48);

/// None of the log's own connections holds a transaction open for longer: whoever is stopped in one must not stop the rest.
const IDLE: Duration = Duration::from_millis(500);

/// How many of those who are far behind read the table at a time. SQLite has four connections to read.
const TABLE_READS: usize = 2;

/// A handle on the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RevocationLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What keeps all this up to date.
    background: Background,
    db: Database,
    /// The tail's own.
    reader: Pool,
    clock: Clock,
    /// What the log is called; another one where it begins anew.
    identity: RwLock<LogIdentity>,
    seal: CursorSeal,
    applied: RwLock<Applied>,
    /// The last place applied. Changes with it, and when the log was loaded anew.
    place: watch::Sender<Position>,
    /// Changes with every read.
    progress: watch::Sender<Progress>,
    /// Reads that somebody asked for; the tail says up to which it has answered.
    asked: AtomicU64,
    wake_tail: Notify,
    wake_sequencer: Notify,
    /// Who waits for an entry's place: whoever wrote it, and those who found it there.
    waiting: Mutex<HashMap<EventId, Vec<oneshot::Sender<Position>>>>,
    wake_lease: Notify,
    right: Right,
    barrier: Barrier,
    herald: Herald,
    /// Turns at reading the table for those who are far behind: however many they are, others find a connection.
    table_reads: Semaphore,
    /// From the commit of a revocation until it is effective.
    effective_seconds: Histogram,
    /// Entries that the sequencer gave their places in one step.
    sequenced_entries: Histogram,
}

/// How far the tail is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// The last place applied.
    pub position: Position,
    /// When the log was last read, and found to end there.
    pub read_time: Timestamp,
    /// The last read that was asked for and is done.
    answered: u64,
}

/// What a log is opened with.
#[derive(Debug)]
pub struct Opening {
    /// Makes its places opaque.
    pub seal: CursorSeal,
    /// Told of entries about signing keys.
    pub herald: Herald,
}

impl RevocationLog {
    /// Loads the log and follows it in the background. Fails where it cannot be read.
    pub async fn open(
        db: Database,
        clock: Clock,
        opening: Opening,
        background: &Background,
    ) -> Result<Self> {
        let reader = db.dedicated("token-authority tail", IDLE).await?;
        let identity = LogIdentity(storage::authority::log_identity(&reader).await?);
        let barrier = Barrier::new(name(), ReplicaId::new(clock.now())?);
        let shared = Arc::new(Shared {
            background: background.clone(),
            db,
            reader,
            clock,
            identity: RwLock::new(identity),
            seal: opening.seal,
            herald: opening.herald,
            applied: RwLock::new(Applied::default()),
            place: watch::Sender::new(Position::default()),
            progress: watch::Sender::new(Progress::default()),
            asked: AtomicU64::new(0),
            wake_tail: Notify::new(),
            wake_sequencer: Notify::new(),
            wake_lease: Notify::new(),
            waiting: Mutex::default(),
            right: Right::none(),
            barrier,
            table_reads: Semaphore::new(TABLE_READS),
            effective_seconds: metrics::histogram!(names::EFFECTIVE_SECONDS),
            sequenced_entries: metrics::histogram!(names::SEQUENCED_ENTRIES),
        });
        if shared.db.engine() == Engine::Postgres {
            shared.work_with_others().await?;
        }
        shared.join().await?;
        let (following, forgetting) = (Arc::clone(&shared), Arc::clone(&shared));
        background.begin("tail", |stop| tail::follow(following, stop));
        background.begin("retention", |stop| retention::run(forgetting, stop));
        Ok(Self(shared))
    }

    /// Everything that the log says, as of a moment after this was called. Held for a few look-ups, never across an await.
    ///
    /// It is what memory holds while this server may answer from it; else the log is read first. UNAVAILABLE where it cannot be.
    pub async fn applied(&self) -> Result<RwLockReadGuard<'_, Applied>> {
        if !self.is_current() {
            self.0.require_of_use()?;
            self.catch_up().await?;
        }
        Ok(self
            .0
            .applied
            .read()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this server may answer from what it remembers.
    pub fn is_current(&self) -> bool {
        self.0.background.is_whole() && self.0.right.is_there()
    }

    /// The servers over this database, this one first.
    pub async fn replicas(&self) -> Result<Vec<Replica>> {
        barrier::replicas(&self.0).await
    }

    /// The last place applied. Changes with it, and when the log was loaded anew; not when it was read and nothing was new.
    pub fn place(&self) -> watch::Receiver<Position> {
        self.0.place.subscribe()
    }

    /// Waits for a read of the log that began after this call, and says how far it came. UNAVAILABLE where there is none
    /// within 2 seconds.
    pub async fn catch_up(&self) -> Result<Progress> {
        let ticket = self.0.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.wake_tail.notify_one();
        let mut progress = self.0.progress.subscribe();
        let read = progress.wait_for(|progress| progress.answered >= ticket);
        match tokio::time::timeout(Duration::from_secs(2), read).await {
            Ok(Ok(progress)) => Ok(*progress),
            Ok(Err(_)) | Err(_) => Err(Error::new(
                Reason::DatabaseUnavailable,
                "the revocation log cannot be read",
            )
            .retry_after(Duration::from_secs(1))),
        }
    }

    /// Waits until everything up to a client's `min_cursor` is applied. `UNAVAILABLE/CURSOR_NOT_REACHED` where that is not by
    /// `until`; `FAILED_PRECONDITION/CURSOR_FOREIGN` for a cursor of another log.
    pub async fn reach(&self, min_cursor: &str, until: Instant) -> Result<()> {
        let cursor = self.open_cursor(min_cursor)?;
        let mut place = self.0.place.subscribe();
        if *place.borrow() >= cursor.position {
            return Ok(());
        }
        self.0.wake_tail.notify_one();
        let reached = place.wait_for(|place| *place >= cursor.position);
        match tokio::time::timeout_at(until, reached).await {
            // A log that has begun anew meanwhile is beyond that place, too, and may lack what was there.
            Ok(Ok(_)) => self.open_cursor(min_cursor).map(drop),
            Ok(Err(_)) | Err(_) => Err(Error::new(
                Reason::CursorNotReached,
                "this replica has not reached the cursor yet",
            )
            .retry_after(Duration::from_millis(100))),
        }
    }

    /// What a client's cursor stands for. `INVALID_ARGUMENT/CURSOR_INVALID` where it is none;
    /// `FAILED_PRECONDITION/CURSOR_FOREIGN` where it is of another log.
    pub fn open_cursor(&self, text: &str) -> Result<Cursor> {
        let cursor = self.0.seal.open(text)?;
        if cursor.log == self.0.identity() {
            return Ok(cursor);
        }
        Err(Error::new(
            Reason::CursorForeign,
            "the cursor is of another log",
        ))
    }

    /// The cursor of a place in the log.
    pub fn cursor(&self, position: Position, mark: EntryMark, coverage: Coverage) -> String {
        self.0.seal.seal(&Cursor {
            log: self.0.identity(),
            position,
            mark,
            coverage,
        })
    }

    /// Up to `limit` entries after `position`, in order: from memory, or from the table where memory does not reach back so
    /// far. `OUT_OF_RANGE/CURSOR_EXPIRED` where the table does not either.
    pub async fn after(&self, position: Position, limit: u32) -> Result<Vec<Arc<Entry>>> {
        let wanted = limit as usize;
        let (head, recent) = {
            let applied = self.applied().await?;
            (applied.position(), applied.recent_after(position, wanted))
        };
        if let Some(found) = recent {
            return Ok(found.after(position, wanted));
        }
        let turn = self.turn_at_table().await?;
        let entries = revocation_log::read(self.0.db.reader(), position.next(), limit).await?;
        drop(turn);
        if !beginning::all_follow(position, &entries) || entries.is_empty() {
            return Err(Error::new(
                Reason::CursorExpired,
                "the log no longer reaches back to the cursor",
            ));
        }
        // What is in the table but not applied yet is for the next call.
        Ok(entries
            .into_iter()
            .filter(|entry| entry.position <= head)
            .map(Arc::new)
            .collect())
    }

    /// The place before the oldest entry that is still remembered.
    pub async fn floor(&self) -> Result<Position> {
        let _turn = self.turn_at_table().await?;
        revocation_log::floor(self.0.db.reader()).await
    }

    async fn turn_at_table(&self) -> Result<SemaphorePermit<'_>> {
        let turn = self.0.table_reads.acquire().await;
        turn.map_err(|error| Error::internal("nobody reads the table any more").because(error))
    }

    /// The place of the newest entry, read from the database: what a new token carries as `rev`, read before anything about
    /// its user.
    pub async fn head(&self) -> Result<Position> {
        self.0.require_of_use()?;
        revocation_log::head(self.0.db.reader()).await
    }

    /// The first of entries that one change will append.
    pub fn pending(&self) -> Pending {
        Pending::new(Arc::clone(&self.0))
    }
}

/// Host and process, as people know a server by.
fn name() -> String {
    let host = rustix::system::uname();
    let process = std::process::id();
    format!("{}:{process}", host.nodename().to_string_lossy())
}

impl Shared {
    /// A connection that nobody else waits for.
    async fn own_connection(&self, name: &str) -> Result<Pool> {
        self.db.dedicated(name, IDLE).await
    }

    /// Takes a lease, loads the log and only then says so: whoever revokes meanwhile waits for this server.
    async fn join(self: &Arc<Self>) -> Result<()> {
        let mut keeper = lease::Keeper::new(Arc::clone(self)).await?;
        keeper.join().await?;
        self.background.begin("lease", |stop| keeper.run(stop));
        Ok(())
    }

    /// Works with the other servers. PostgreSQL only.
    async fn work_with_others(self: &Arc<Self>) -> Result<()> {
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
    fn require_of_use(&self) -> Result<()> {
        if self.background.is_whole() && (self.right.is_there() || self.db.is_in_place()) {
            return Ok(());
        }
        let message = "the database cannot be reached";
        Err(Error::new(Reason::DatabaseUnavailable, message).retry_after(Duration::from_secs(1)))
    }

    fn identity(&self) -> LogIdentity {
        *self.identity.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a commit: gives the entry its place, or reads it.
    fn wake(&self) {
        match self.db.engine() {
            Engine::Sqlite => self.wake_tail.notify_one(),
            Engine::Postgres => self.wake_sequencer.notify_one(),
        }
    }

    fn tell_waiting(&self, entries: &[Arc<Entry>]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            for teller in waiting.remove(&entry.event_id).unwrap_or_default() {
                // One whose call has ended waits no more.
                let _ = teller.send(entry.position);
            }
        }
    }
}

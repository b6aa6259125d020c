//! The log as everybody else sees it: what it says, how far it is, and its entries.

use std::{
    sync::{Arc, RwLockReadGuard},
    time::Duration,
};

use tokio::{
    sync::{SemaphorePermit, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Applied, Herald, Pending, Progress, Replica, Shared, barrier, beginning,
    cursor::{Coverage, Cursor, CursorSeal, EntryMark},
    retention, tail,
};
use crate::{
    background::Background,
    clock::{Clock, Timestamp, boottime},
    domain::revocation::{Entry, Position},
    error::{Error, Reason, Result},
    storage::{Database, Engine, revocation_log},
};

/// A handle on the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RevocationLog(Arc<Shared>);

/// What a log is opened with.
#[derive(Debug)]
pub struct Opening {
    /// Makes its places opaque.
    pub seal: CursorSeal,
    /// Told of entries about signing keys.
    pub herald: Herald,
    /// Who this server says issues its tokens: all that work on one log say the same.
    pub issuer: String,
}

impl RevocationLog {
    /// Loads the log and follows it in the background. Fails where it cannot be read, and beside a server with another issuer.
    pub async fn open(
        db: Database,
        clock: Clock,
        opening: Opening,
        background: &Background,
    ) -> Result<Self> {
        let issuer = opening.issuer.clone();
        let shared = Shared::new(db, clock, opening, background.clone()).await?;
        if shared.db.engine() == Engine::Postgres {
            shared.work_with_others().await?;
        }
        shared.join(issuer).await?;
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
        Ok(self.0.memory.read())
    }

    /// What `judge` says by [`RevocationLog::applied`], which alone makes it right for whoever asks once a revocation is effective.
    /// The last step is to look at the time until which this server might answer from what it remembered at first: one that was
    /// stopped in between judges anew, once, so that a revocation that became effective meanwhile is not overlooked for as long
    /// as it was stopped.
    pub async fn judged<T, F>(&self, judge: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let right = self.0.right.now();
        let remembered = right.allows(boottime());
        let judged = judge().await?;
        if remembered && !(self.is_current() && right.allows(boottime())) {
            return judge().await;
        }
        Ok(judged)
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
        self.0.memory.places()
    }

    /// Waits for a read of the log that began after this call, and says how far it came. UNAVAILABLE where there is none
    /// within 2 seconds.
    pub async fn catch_up(&self) -> Result<Progress> {
        let ticket = self.0.memory.ask();
        self.0.wake_tail.notify_one();
        let mut progress = self.0.memory.progress();
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
        let mut place = self.0.memory.places();
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

    /// Forgets what is too old to kill anything, as is done once a minute: in the table by a time that is `believed`, in memory
    /// what the table has forgotten.
    pub async fn forget(&self, believed: Option<Timestamp>) -> Result<()> {
        retention::forget(&self.0, believed, &CancellationToken::new()).await
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

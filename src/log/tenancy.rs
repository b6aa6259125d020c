//! One server at a time over one PostgreSQL database: a session lock, and the right to answer while it is held.
//!
//! On SQLite the locked file is enough, for as long as it is where it was.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    clock::boottime,
    error::{Error, Reason, Result},
    storage::{Database, Engine, SessionLock},
};

/// `tknaauth`, so that it is nobody else's lock.
const LOCK: i64 = 0x746b_6e61_6175_7468;
const NAME: &str = "token-authority server";
/// How long the lock counts as held after it was last seen to be.
const TTL: Duration = Duration::from_millis(2500);
/// The same as another server may measure it: its clock may run slower by a hundredth.
const OTHERS_TTL: Duration = Duration::from_millis(2525);
const BEAT: Duration = Duration::from_millis(500);
/// How often it is looked where the database file is.
const LOOK: Duration = Duration::from_millis(250);
/// How long to wait at the start for a server that has just gone.
const PATIENCE: u32 = 30;
/// How often in a row the lock may be refused before another server counts as its holder.
const REFUSALS: u32 = 10;

#[derive(Debug)]
pub(super) struct Tenancy {
    /// Until when this server may answer from what it remembers, in milliseconds of [`boottime`].
    until: AtomicU64,
    /// How often the log has turned out, or may turn out, not to be what was applied; and up to which of these it was loaded
    /// again.
    reloads: (AtomicU64, AtomicU64),
    /// The database file is not where it was: what is decided here is not what the next start will find.
    out_of_place: AtomicBool,
    /// Another server has the database: this one ends.
    pub(super) lost: CancellationToken,
}

impl Tenancy {
    /// Takes the lock, which is to be kept with [`keep`]. Fails where another server holds it.
    ///
    /// A server that lost the lock without knowing may go on to answer until its right to ends: that is waited for, but on a
    /// `new` database.
    pub(super) async fn take(db: &Database, new: bool) -> Result<(Self, Option<SessionLock>)> {
        let tenancy = Self {
            until: AtomicU64::new(u64::MAX),
            reloads: Default::default(),
            out_of_place: AtomicBool::new(false),
            lost: CancellationToken::new(),
        };
        if db.engine() == Engine::Sqlite {
            return Ok((tenancy, None));
        }
        for _ in 0..PATIENCE {
            if let Some(mut lock) = SessionLock::try_acquire(db, NAME, LOCK).await? {
                if !new {
                    tokio::time::sleep(OTHERS_TTL).await;
                }
                let asked = boottime();
                lock.check().await?;
                tenancy.extend(asked);
                return Ok((tenancy, Some(lock)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::internal("another server runs over this database"))
    }

    /// UNAVAILABLE where the lock has not been seen to be held for too long, or the file is not in its place.
    pub(super) fn check(&self) -> Result<()> {
        let until = self.until.load(Ordering::Relaxed);
        let in_time = until == u64::MAX || millis(boottime()) < until;
        if in_time && !self.must_reload() && !self.out_of_place.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Error::new(
            Reason::DatabaseUnavailable,
            "the database cannot be reached",
        )
        .retry_after(Duration::from_secs(1)))
    }

    /// Whether the lock was lost and taken again: what was applied may have been overtaken meanwhile.
    pub(super) fn must_reload(&self) -> bool {
        let (wanted, done) = &self.reloads;
        done.load(Ordering::SeqCst) < wanted.load(Ordering::SeqCst)
    }

    /// What was applied is not what the log says: nothing is answered from it until it was loaded again.
    pub(super) fn suspend(&self) {
        self.reloads.0.fetch_add(1, Ordering::SeqCst);
    }

    /// How many reloads are wanted so far: to be said when one that begins now is done.
    pub(super) fn reloads_wanted(&self) -> u64 {
        self.reloads.0.load(Ordering::SeqCst)
    }

    /// What was applied is what the log said after so many reloads had been wanted.
    pub(super) fn reloaded(&self, wanted: u64) {
        self.reloads.1.fetch_max(wanted, Ordering::SeqCst);
    }

    fn extend(&self, asked: Duration) {
        self.until.store(millis(asked + TTL), Ordering::Relaxed);
    }
}

/// Sees to it that the lock stays held, until `stop`.
pub(super) async fn keep(shared: Arc<Shared>, lock: SessionLock, stop: CancellationToken) {
    let mut lock = Some(lock);
    let mut refused = 0;
    while !shared.tenancy.lost.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = stop.cancelled() => return,
        }
        let asked = boottime();
        match &mut lock {
            Some(held) => match held.check().await {
                Ok(()) => still_held(&shared, asked),
                Err(error) => {
                    tracing::warn!(error = ?error, "server_lock.lost");
                    lock = None;
                }
            },
            None => lock = take_again(&shared, &mut refused).await,
        }
    }
}

/// Sees to it that nothing is answered while the database file is not where it was, until `stop`. SQLite only.
pub(super) async fn stay_in_place(shared: Arc<Shared>, stop: CancellationToken) {
    let out_of_place = &shared.tenancy.out_of_place;
    while stop
        .run_until_cancelled(tokio::time::sleep(LOOK))
        .await
        .is_some()
    {
        let gone = !shared.db.is_in_place();
        match (gone, out_of_place.swap(gone, Ordering::Relaxed)) {
            (true, false) => tracing::error!("the database file was moved or removed"),
            (false, true) => tracing::warn!("the database file is back"),
            (true, true) | (false, false) => {}
        }
    }
}

fn still_held(shared: &Shared, asked: Duration) {
    if shared.tenancy.must_reload() {
        shared.wake_tail.notify_one();
    } else {
        shared.tenancy.extend(asked);
    }
}

async fn take_again(shared: &Shared, refused: &mut u32) -> Option<SessionLock> {
    let tenancy = &shared.tenancy;
    match SessionLock::try_acquire(&shared.db, NAME, LOCK).await {
        Ok(Some(lock)) => {
            tracing::warn!("server_lock.taken_again");
            // Another server may have had it in between, and may not know yet that it has it no more.
            tokio::time::sleep(OTHERS_TTL).await;
            tenancy.suspend();
            shared.wake_tail.notify_one();
            *refused = 0;
            return Some(lock);
        }
        // At first it may be this server's own session, of which the database does not know yet that it is over.
        Ok(None) if *refused < REFUSALS => *refused += 1,
        Ok(None) => {
            tracing::error!("server_lock.another_server");
            tenancy.until.store(0, Ordering::Relaxed);
            tenancy.lost.cancel();
        }
        Err(error) => tracing::warn!(error = ?error, "server_lock.cannot_be_taken"),
    }
    None
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

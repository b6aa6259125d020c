//! The right to answer from memory: while the lease lasts (PostgreSQL), or the file is in its place (SQLite), and while nothing
//! is to be loaded anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{clock::boottime, domain::lease::TTL};

/// How often it is looked where the database file is.
const LOOK: Duration = Duration::from_millis(250);
/// Never.
const WITHOUT_END: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Right {
    /// When it ends, in milliseconds of [`boottime`].
    ends: AtomicU64,
    loads: Loads,
    /// When the log was last read, in milliseconds of [`boottime`].
    log_read: AtomicU64,
    /// The database file is not where it was: what is decided here is not what the next start will find.
    out_of_place: AtomicBool,
}

/// How often the log was found not to be what was applied, or not to be known; up to which of these it may be loaded anew, under
/// a lease that is younger; and up to which it was.
#[derive(Debug, Default)]
struct Loads {
    wanted: AtomicU64,
    allowed: AtomicU64,
    done: AtomicU64,
}

impl Right {
    /// Without end: nobody else has the database. The log is still to be loaded.
    pub(super) fn without_end() -> Self {
        let right = Self::until(WITHOUT_END);
        right.loads.allowed.store(u64::MAX, Ordering::SeqCst);
        right
    }

    /// None yet: a lease gives it. The log is still to be loaded.
    pub(super) fn none() -> Self {
        Self::until(0)
    }

    fn until(ends: u64) -> Self {
        let right = Self {
            ends: AtomicU64::new(ends),
            loads: Loads::default(),
            log_read: AtomicU64::new(millis(boottime())),
            out_of_place: AtomicBool::new(false),
        };
        right.suspend();
        right
    }

    /// Whether it is there at this moment.
    pub(super) fn is_there(&self) -> bool {
        let ends = self.ends.load(Ordering::SeqCst);
        (ends == WITHOUT_END || millis(boottime()) < ends)
            && self.is_loaded(self.loads_wanted())
            && !self.out_of_place.load(Ordering::Relaxed)
    }

    /// Whether the log is the one that the next start will find.
    pub(super) fn is_in_place(&self) -> bool {
        !self.out_of_place.load(Ordering::Relaxed)
    }

    /// It ends then, in time since boot; never rounded up.
    pub(super) fn ends_at(&self, end: Duration) {
        self.ends.store(millis(end), Ordering::SeqCst);
    }

    /// Something of the log was read, or it was found that there is nothing new.
    pub(super) fn log_was_read(&self, now: Duration) {
        self.log_read.store(millis(now), Ordering::SeqCst);
    }

    /// Whether the log was read lately. Where it was not, a lease must not be renewed: whoever revokes would wait for a server
    /// that learns of nothing, for as long as that lasts.
    pub(super) fn follows_the_log(&self, now: Duration) -> bool {
        let read = Duration::from_millis(self.log_read.load(Ordering::SeqCst));
        now.saturating_sub(read) < TTL
    }

    /// What was applied is not what the log says, or may not be: nothing is answered from it until the log was loaded anew.
    pub(super) fn suspend(&self) {
        self.loads.wanted.fetch_add(1, Ordering::SeqCst);
    }

    /// How many loads are wanted so far.
    pub(super) fn loads_wanted(&self) -> u64 {
        self.loads.wanted.load(Ordering::SeqCst)
    }

    /// There is a lease that is younger than the first so many wishes.
    pub(super) fn allow_loads(&self, wanted: u64) {
        self.loads.allowed.fetch_max(wanted, Ordering::SeqCst);
    }

    /// What a load that begins now will have done; none where it may not begin.
    pub(super) fn load_allowed(&self) -> Option<u64> {
        let allowed = self.loads.allowed.load(Ordering::SeqCst);
        let would_do = self.loads_wanted().min(allowed);
        (!self.is_loaded(would_do)).then_some(would_do)
    }

    /// A load that began with [`Right::load_allowed`] is done.
    pub(super) fn loaded(&self, done: u64) {
        self.loads.done.fetch_max(done, Ordering::SeqCst);
    }

    /// Whether the log was loaded since the first so many wishes.
    pub(super) fn is_loaded(&self, wanted: u64) -> bool {
        self.loads.done.load(Ordering::SeqCst) >= wanted
    }
}

/// Sees to it that nothing is answered while the database file is not where it was, until `stop`. SQLite only.
pub(super) async fn stay_in_place(shared: Arc<Shared>, stop: CancellationToken) {
    let out_of_place = &shared.right.out_of_place;
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(WITHOUT_END - 1)
}

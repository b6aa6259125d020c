//! Waiting until nobody can still answer as if an entry were not there: until every other server has applied it, or has lost its
//! lease.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Shared, cursor::LogIdentity};
use crate::{
    clock::boottime,
    domain::{
        ids::ReplicaId,
        lease::{self, Fencing, RENEWED_EVERY, Terms, Verdict},
        revocation::Position,
    },
    error::Result,
    storage::{
        Engine, Pool,
        replica_leases::{self, Looked},
    },
};

/// How often the leases are looked at while somebody waits.
const WAITED_FOR: Duration = Duration::from_millis(3);
/// How often while the database gives no answer, whoever waits.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// For how long a lease is remembered that was taken away.
const FENCED_KEPT: Duration = Duration::from_hours(1);

/// A server over this database.
#[derive(Debug, Clone)]
pub struct Replica {
    /// New at every start, and whenever its lease was taken away.
    pub id: ReplicaId,
    /// Host and process, for people.
    pub name: String,
    /// Whether it is this one.
    pub this: bool,
    /// The last place in the log that it has applied.
    pub applied: Position,
    /// How far that is behind the head.
    pub lag: u64,
    /// How long ago this server saw it renew its lease.
    pub beat_age: Duration,
    /// Whether its lease was taken away.
    pub fenced: bool,
}

/// What those who wait and the one who looks have in common.
#[derive(Debug)]
pub(super) struct Barrier {
    /// What people know this server by.
    pub(super) name: String,
    own: Mutex<ReplicaId>,
    waiting: AtomicUsize,
    wake: Notify,
    /// The leases of the others, as last seen.
    others: watch::Sender<Others>,
}

#[derive(Debug)]
struct Others {
    barrier: lease::Barrier,
    /// What the log was called then.
    log: Option<LogIdentity>,
}

/// How far an entry has reached.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reach {
    /// Servers that have applied it.
    pub(super) applied: usize,
    /// Servers that may answer from memory.
    pub(super) total: usize,
    /// Whether nobody can answer any more as if it were not there.
    pub(super) effective: bool,
}

impl Barrier {
    pub(super) fn new(name: String, own: ReplicaId) -> Self {
        Self {
            name,
            own: Mutex::new(own),
            waiting: AtomicUsize::new(0),
            wake: Notify::new(),
            others: watch::Sender::new(Others {
                barrier: lease::Barrier::new(Terms::STANDARD),
                log: None,
            }),
        }
    }

    pub(super) fn set_own(&self, id: &ReplicaId) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = id.clone();
    }

    fn own(&self) -> ReplicaId {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.clone()
    }
}

/// Waits until every other server has applied what is at `position` of `log`, and this one, of which `here` tells; and says how
/// far it has come.
pub(super) async fn reach(
    shared: &Shared,
    log: LogIdentity,
    position: Position,
    here: impl Future<Output = bool>,
    until: Instant,
) -> Reach {
    if shared.db.engine() == Engine::Sqlite {
        let here = here.await;
        return Reach {
            applied: usize::from(here),
            total: 1,
            effective: here,
        };
    }
    let barrier = &shared.barrier;
    let _waiting = Waiting::among(&barrier.waiting);
    barrier.wake.notify_one();
    let mut others = barrier.others.subscribe();
    let reached = async {
        let reached = others.wait_for(|others| others.barrier.is_reached(position));
        // A log that has begun anew is beyond that place, too, and may lack what was there.
        matches!(tokio::time::timeout_at(until, reached).await, Ok(Ok(others)) if others.log == Some(log))
    };
    let (here, reached) = tokio::join!(here, reached);
    let standing = barrier.others.borrow().barrier.standing(position);
    Reach {
        applied: standing.applied + usize::from(here),
        total: standing.replicas + 1,
        effective: here && reached,
    }
}

/// One more who waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Looks at the leases of the others: often while somebody waits for them, and now and then to learn in time who has fallen
/// silent.
pub(super) struct Observer {
    shared: Arc<Shared>,
    connection: Pool,
}

impl Observer {
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self> {
        let connection = shared.own_connection("token-authority barrier").await?;
        Ok(Self { shared, connection })
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let barrier = &self.shared.barrier;
        let mut failing = false;
        loop {
            match self.look().await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(error = ?error, "leases.cannot_be_read");
                    }
                    failing = true;
                }
            }
            let waited_for = barrier.waiting.load(Ordering::SeqCst) > 0;
            tokio::select! {
                () = tokio::time::sleep(pause(waited_for, failing)) => {}
                () = barrier.wake.notified(), if !failing => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads the leases of the others, and takes away those that hold the log up and were not renewed for too long.
    async fn look(&self) -> Result<()> {
        let barrier = &self.shared.barrier;
        loop {
            let Looked {
                log,
                head,
                mut leases,
            } = replica_leases::look(&self.connection).await?;
            // Not before they were read: until then one may have been renewed.
            let now = boottime();
            let own = barrier.own();
            leases.retain(|lease| lease.id != own);
            barrier.others.send_modify(|others| {
                others.barrier.observe(now, head, &leases);
                others.log = Some(LogIdentity(log));
            });
            let verdict = barrier.others.borrow().barrier.verdict(now, head);
            match verdict {
                Verdict::Waiting(silent) if !silent.is_empty() => self.fence(&silent).await?,
                Verdict::Waiting(_) | Verdict::Reached => return Ok(()),
            }
        }
    }

    async fn fence(&self, silent: &[Fencing]) -> Result<()> {
        let now = self.shared.clock.now();
        let transaction = self.connection.begin().await?;
        for Fencing { id, beat } in silent {
            if replica_leases::fence(&transaction, id, *beat, now).await? {
                tracing::warn!(replica.id = %id, "replica.fenced");
            }
        }
        replica_leases::forget(&transaction, now - FENCED_KEPT).await?;
        transaction.commit().await
    }
}

/// Until the leases are looked at again.
fn pause(waited_for: bool, failing: bool) -> Duration {
    match (waited_for, failing) {
        (true, true) => AFTER_FAILURE,
        (true, false) => WAITED_FOR,
        (false, _) => RENEWED_EVERY,
    }
}

/// The servers over this database, as their leases tell.
pub(super) async fn replicas(shared: &Shared) -> Result<Vec<Replica>> {
    let own = shared.barrier.own();
    if shared.db.engine() == Engine::Sqlite {
        return Ok(vec![Replica {
            id: own,
            name: shared.barrier.name.clone(),
            this: true,
            applied: shared.memory.place(),
            lag: 0,
            beat_age: Duration::ZERO,
            fenced: false,
        }]);
    }
    let names = replica_leases::names(shared.db.reader()).await?;
    let Looked { head, leases, .. } = replica_leases::look(shared.db.reader()).await?;
    let now = boottime();
    let others = shared.barrier.others.borrow();
    let others = &others.barrier;
    let replica = |lease: lease::LeaseRow| Replica {
        this: lease.id == own,
        name: names.get(&lease.id).cloned().unwrap_or_default(),
        lag: head.0.saturating_sub(lease.applied.0),
        beat_age: others.beat_age(now, &lease.id).unwrap_or_default(),
        applied: lease.applied,
        fenced: lease.fenced,
        id: lease.id,
    };
    let mut replicas: Vec<Replica> = leases.into_iter().map(replica).collect();
    replicas.sort_by_key(|replica| !replica.this);
    Ok(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_hurries_a_database_that_answers_and_no_other() {
        assert_eq!(pause(true, false), Duration::from_millis(3));
        assert_eq!(pause(true, true), Duration::from_millis(100));
        assert_eq!(pause(false, true), pause(false, false));
    }
}

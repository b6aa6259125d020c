//! Sessions and tokens that are ended at the same time share a commit: the disk is waited for once for all of them, and what is
//! written costs a statement each time rather than each one.
//!
//! Whoever comes while a commit is under way is in the next one. Where a batch fails, each is done by itself, so that nobody
//! fails for another's sake; where the database cannot be reached, all are told so at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use metrics::Histogram;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    authority::idempotency::{Answer, Request},
    background::Background,
    clock::{Clock, Timestamp},
    domain::{
        audit::Event,
        ids::EventId,
        revocation::{Decision, FORGET_AFTER, Reason},
    },
    error::{self, Error, Result},
    log::{Pending, RevocationLog},
    storage::{
        self, Database, Engine, Transaction,
        revocation_log::{self, Found, Target},
    },
    telemetry::metrics as names,
};

/// The most that share a commit.
const BATCH: usize = 256;
/// How many commits are under way at a time, where there can be several: one waits for the disk while the next is written.
const COMMITS: usize = 2;
/// How many have one of their own at a time: others need connections, too.
const ALONE: usize = 4;
/// How long one waits for its turn at that: where the database is away, calls must not pile up behind each other.
const TURN: Duration = Duration::from_secs(5);
/// How many may wait for the next one; whoever comes then waits to be let in.
const QUEUE: usize = 4096;

/// Ends sessions and tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedCommits {
    committer: Arc<Committer>,
    queue: mpsc::Sender<Waiting>,
}

/// A session or token to be ended.
#[derive(Debug)]
pub struct Ending {
    /// Which, and why: at once, and sparing none.
    pub target: Decision,
    /// What the audit log is to say of it.
    pub event: Event,
    /// The request, where it is to be known again.
    pub request: Option<Request>,
}

impl Ending {
    fn target(&self) -> Target<'_> {
        (&self.target.subject, self.target.space_id.as_ref())
    }
}

/// One that was ended, now or earlier.
#[derive(Debug)]
pub struct Ended {
    /// Its entry, which is committed, and waits for its place.
    pub pending: Pending,
    /// Why it was ended the first time.
    pub reason: Reason,
}

#[derive(Debug)]
struct Waiting {
    ending: Ending,
    teller: oneshot::Sender<Result<Ended>>,
}

impl SharedCommits {
    /// Begins to take them.
    pub fn start(
        db: &Database,
        log: &RevocationLog,
        clock: &Clock,
        background: &Background,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let committer = Arc::new(Committer {
            db: db.clone(),
            log: log.clone(),
            clock: clock.clone(),
            tasks: background.tasks().clone(),
            alone: Semaphore::new(ALONE),
            shared: metrics::histogram!(names::SHARED_COMMIT_ENTRIES),
        });
        let committing = Arc::clone(&committer);
        background.begin("shared commits", |stop| committing.run(waiting, stop));
        Self { committer, queue }
    }

    /// Ends it, with others that come at the same time. Once this has returned it lasts; its entry is still to be waited for.
    ///
    /// A request that is to be known again has a commit of its own: it may have to wait until the same request is over elsewhere.
    /// RESOURCE_EXHAUSTED where too many wait before it.
    pub async fn end(&self, ending: Ending) -> Result<Ended> {
        if ending.request.is_some() {
            let turn = self.committer.alone.acquire();
            let _turn = timeout(TURN, turn).await.map_err(|_| too_many())?;
            return self.committer.end_alone(&ending).await;
        }
        let (teller, told) = oneshot::channel();
        if self.queue.send(Waiting { ending, teller }).await.is_err() {
            return Err(storage::unavailable());
        }
        told.await.map_err(|_| storage::unavailable())?
    }
}

#[derive(Debug)]
struct Committer {
    db: Database,
    log: RevocationLog,
    clock: Clock,
    tasks: TaskTracker,
    /// Turns of those that have a commit of their own.
    alone: Semaphore,
    /// How many shared a commit.
    shared: Histogram,
}

impl Committer {
    async fn run(self: Arc<Self>, mut receiver: mpsc::Receiver<Waiting>, stop: CancellationToken) {
        let commits = Arc::new(Semaphore::new(match self.db.engine() {
            Engine::Sqlite => 1,
            Engine::Postgres => COMMITS,
        }));
        while let Ok(turn) = Arc::clone(&commits).acquire_owned().await
            && let Some(Some(batch)) = stop.run_until_cancelled(together(&mut receiver)).await
        {
            self.shared
                .record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
            let committer = Arc::clone(&self);
            self.tasks.spawn(async move {
                committer.commit(batch).await;
                drop(turn);
            });
        }
    }

    async fn commit(&self, batch: Vec<Waiting>) {
        let (endings, tellers): (Vec<Ending>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.ending, waiting.teller))
            .unzip();
        let failed = match self.end_all(&endings).await {
            Ok(ended) => {
                for (teller, ended) in tellers.into_iter().zip(ended) {
                    // Nobody listens any more where the call has ended; what was done stays done.
                    let _ = teller.send(Ok(ended));
                }
                return;
            }
            Err(error) => error,
        };
        let mut unavailable = failed.reason() == error::Reason::DatabaseUnavailable;
        tracing::warn!(error = ?failed, revocations = endings.len(), "shared_commit.failed");
        for (ending, teller) in endings.iter().zip(tellers) {
            let ended = if unavailable {
                Err(storage::unavailable())
            } else {
                self.end_alone(ending).await
            };
            if let Err(error) = &ended {
                unavailable |= error.reason() == error::Reason::DatabaseUnavailable;
            }
            let _ = teller.send(ended);
        }
    }

    async fn end_alone(&self, ending: &Ending) -> Result<Ended> {
        let mut ended = self.end_all(std::slice::from_ref(ending)).await?;
        ended
            .pop()
            .ok_or_else(|| Error::internal("a revocation was lost"))
    }

    /// Ends them in one transaction; what is ended already is joined.
    async fn end_all(&self, endings: &[Ending]) -> Result<Vec<Ended>> {
        let now = self.clock.now();
        let transaction = self.db.begin().await?;
        let entries = tell_apart(&transaction, endings, now).await?;
        let made = append(&transaction, endings, &entries, now).await?;
        let mut written = entries.iter().any(Entry::is_new);
        for (ending, entry) in endings.iter().zip(&entries) {
            if let Some(request) = &ending.request {
                let answer = Answer::event(entry.id());
                request.remember(&transaction, answer, now).await?;
                written = true;
            }
        }
        let ended = endings.iter().zip(entries);
        let ended = ended
            .map(|(ending, entry)| self.ended(ending, entry, made))
            .collect();
        if written {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(ended)
    }

    fn ended(&self, ending: &Ending, entry: Entry, made: Timestamp) -> Ended {
        let mut pending = self.log.pending();
        let reason = match entry {
            Entry::New(id) => {
                pending.expect(&id, ending.target.kind, made);
                ending.target.reason
            }
            Entry::Twin(id, reason) => {
                pending.expect(&id, ending.target.kind, made);
                reason
            }
            Entry::Known(found) => {
                pending.join(&found);
                found.reason
            }
        };
        Ended { pending, reason }
    }
}

fn too_many() -> Error {
    let message = "too many revocations with an idempotency key are under way";
    Error::new(error::Reason::Overloaded, message).retry_after(Duration::from_secs(1))
}

/// Those that come at the same time as the next one; none where nobody comes any more. While others keep arriving they are let
/// in, and no longer: nobody waits for who may not come.
async fn together(receiver: &mut mpsc::Receiver<Waiting>) -> Option<Vec<Waiting>> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut taken = receiver.recv_many(&mut batch, BATCH).await;
    while taken > 0 && batch.len() < BATCH {
        tokio::task::yield_now().await;
        taken = 0;
        while batch.len() < BATCH
            && let Ok(waiting) = receiver.try_recv()
        {
            batch.push(waiting);
            taken += 1;
        }
    }
    (!batch.is_empty()).then_some(batch)
}

/// What ends a session or token.
enum Entry {
    /// An entry that is to be made, with this id.
    New(EventId),
    /// One that is made for another of the batch, and why.
    Twin(EventId, Reason),
    /// One that is there.
    Known(Found),
}

impl Entry {
    fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }

    fn id(&self) -> &EventId {
        match self {
            Self::New(id) | Self::Twin(id, _) => id,
            Self::Known(found) => &found.event_id,
        }
    }
}

async fn tell_apart(
    transaction: &Transaction,
    endings: &[Ending],
    now: Timestamp,
) -> Result<Vec<Entry>> {
    let targets: Vec<Target<'_>> = endings.iter().map(Ending::target).collect();
    let ever = Timestamp::default();
    let mut known = revocation_log::find_each(transaction, &targets, ever).await?;
    let mut in_batch: HashMap<Target<'_>, (EventId, Reason)> = HashMap::new();
    let mut entries = Vec::with_capacity(endings.len());
    for (number, ending) in endings.iter().enumerate() {
        if let Some(found) = known.remove(&number) {
            entries.push(Entry::Known(found));
        } else if let Some((id, reason)) = in_batch.get(&ending.target()) {
            entries.push(Entry::Twin(id.clone(), *reason));
        } else {
            let id = EventId::new(now)?;
            in_batch.insert(ending.target(), (id.clone(), ending.target.reason));
            entries.push(Entry::New(id));
        }
    }
    Ok(entries)
}

/// Appends what is new, and says how it is dated.
async fn append(
    transaction: &Transaction,
    endings: &[Ending],
    entries: &[Entry],
    now: Timestamp,
) -> Result<Timestamp> {
    let new = endings
        .iter()
        .zip(entries)
        .filter(|(_, entry)| entry.is_new());
    let (appended, events): (Vec<_>, Vec<_>) = new
        .map(|(ending, entry)| ((entry.id(), &ending.target), &ending.event))
        .unzip();
    if appended.is_empty() {
        return Ok(now);
    }
    storage::audit::insert(transaction, &events).await?;
    revocation_log::append(transaction, &appended, now, FORGET_AFTER).await
}

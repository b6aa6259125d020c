//! Reads what is new in the log, in order and without a gap, and applies it.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Applied, Shared,
    beginning::follows,
    cursor::{Coverage, Cursor, EntryMark, LogIdentity},
};
use crate::{
    clock::boottime,
    domain::{
        lease::Answering,
        revocation::{Entry, Position, Subject},
    },
    error::{Error, Result},
    storage::{self, Engine, Listener, revocation_log},
};

/// Entries in one read.
const BATCH: u32 = 2048;

/// Loads the whole log from nothing, and says how far: at the start, and when what was applied is not what the log says.
async fn load(shared: &Shared) -> Result<Position> {
    let asked = shared.memory.asked();
    let read_time = shared.clock.now();
    let mut fresh = Applied::after(revocation_log::floor(&shared.reader).await?);
    read_all(shared, &mut fresh).await?;
    // What the log is called now that it reaches as far as this. Had it begun anew since, that would come next, and be a gap.
    let identity = storage::authority::log_identity(&shared.reader).await?;
    shared.set_identity(LogIdentity(identity));
    // Keys may have changed without an entry that is still remembered.
    shared.herald.tell().await?;
    let position = fresh.position();
    seal_cursor(shared, &mut fresh);
    let newest = fresh.newest();
    {
        let mut applied = shared.memory.write();
        fresh.begin_after(&applied, boottime());
        *applied = fresh;
    }
    shared.memory.moved_to(position);
    shared.memory.was_read(read_time, asked);
    shared.awaited.tell(&newest);
    Ok(position)
}

/// Applies everything after what is applied. The database looks for the next page while one is applied.
async fn read_all(shared: &Shared, fresh: &mut Applied) -> Result<()> {
    let read = |first| revocation_log::read(&shared.reader, first, BATCH);
    let mut page = read(fresh.position().next()).await?;
    while page.len() == BATCH as usize
        && let Some(last) = page.last()
    {
        let next = last.position.next();
        // The first of the two is begun first.
        let (read, applied) =
            tokio::join!(biased; read(next), async { apply(shared, fresh, page) });
        applied?;
        page = read?;
        shared.right.step(|right| right.loads(boottime()));
    }
    apply(shared, fresh, page)?;
    Ok(())
}

/// Follows the log until `stop`.
pub(super) async fn follow(shared: Arc<Shared>, stop: CancellationToken) {
    let pause = match shared.db.engine() {
        // Nobody else writes, and what is new wakes this task. It reads all the same: it must follow to keep the lease.
        Engine::Sqlite => Duration::from_secs(1),
        Engine::Postgres => Duration::from_millis(20),
    };
    let mut failing = false;
    loop {
        tokio::select! {
            () = shared.wake_tail.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        match read_on(&shared).await {
            Ok(()) if failing => {
                failing = false;
                tracing::info!("revocation_log.read_again");
            }
            Ok(()) => {}
            Err(error) => {
                if !failing {
                    tracing::warn!(error = ?error, "revocation_log.read_failed");
                }
                failing = true;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Wakes the tail when a sequencer, wherever it is, says that the log has grown, until `stop`. PostgreSQL only.
pub(super) async fn listen(shared: Arc<Shared>, stop: CancellationToken) {
    let mut listener = None;
    let hearing = async {
        loop {
            match &mut listener {
                None => listener = Listener::open(&shared.db).await.ok(),
                Some(heard) => {
                    if heard.heard().await.is_err() {
                        listener = None;
                    }
                }
            }
            shared.wake_tail.notify_one();
            if listener.is_none() {
                // It asks every 20 ms anyway.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    stop.run_until_cancelled(hearing).await;
}

/// Reads to the end of the log.
async fn read_on(shared: &Shared) -> Result<()> {
    if !shared.right.step(|right| right.is_loaded()) {
        return load_anew(shared).await;
    }
    loop {
        let begun = boottime();
        let asked = shared.memory.asked();
        let read_time = shared.clock.now();
        let known = {
            let applied = shared.memory.read();
            (applied.position(), applied.mark())
        };
        // The entry at our own place is read as well: a failover can lose the end of a log.
        let first = Position(known.0.0.max(1));
        let mut entries = revocation_log::read(&shared.reader, first, BATCH).await?;
        let last = entries.len() < BATCH as usize;
        if known.0 > Position(0) {
            let same = entries.first().is_some_and(|entry| {
                entry.position == known.0 && EntryMark::of(&entry.event_id) == known.1
            });
            if !same {
                tracing::error!(
                    revocation_log.position = known.0.0,
                    "revocation_log.diverged"
                );
                return begin_anew(shared).await;
            }
            entries.remove(0);
        }
        if !is_next(&entries, known.0) {
            tracing::error!(revocation_log.position = known.0.0, "revocation_log.gap");
            return begin_anew(shared).await;
        }
        take_in(shared, entries).await?;
        // Not before: who reads and cannot apply must not keep others waiting.
        shared.right.step(|right| right.followed(begun));
        if last {
            shared.memory.was_read(read_time, asked);
            return Ok(());
        }
    }
}

/// What was applied is not what the log says: nothing is answered from it any more.
async fn begin_anew(shared: &Shared) -> Result<()> {
    shared.right.step(Answering::end);
    shared.wake_lease.notify_one();
    load_anew(shared).await
}

/// Begins again from nothing, unless there is no lease yet under which that may be done.
pub(super) async fn load_anew(shared: &Shared) -> Result<()> {
    let Some(leave) = shared.right.step(|right| right.load()) else {
        // There is a lease as long as the log can be read.
        let begun = boottime();
        revocation_log::head(&shared.reader).await?;
        shared.right.step(|right| right.followed(begun));
        return Ok(());
    };
    let loaded = load(shared).await;
    shared.right.step(|right| match &loaded {
        Ok(position) => right.loaded(leave, *position, boottime()),
        Err(_) => right.load_failed(),
    });
    shared.wake_lease.notify_one();
    loaded.map(drop)
}

/// Whether these come next. The first entry of a log that began anew does not: then everything is loaded again.
fn is_next(entries: &[Entry], position: Position) -> bool {
    entries
        .iter()
        .zip(position.0 + 1..)
        .all(|(entry, place)| entry.position.0 == place)
}

/// Applies, then tells those who wait.
async fn take_in(shared: &Shared, entries: Vec<Entry>) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    if entries.iter().any(is_about_signing_key) {
        shared.herald.tell().await?;
    }
    let (position, taken) = {
        let mut applied = shared.memory.write();
        let taken = apply(shared, &mut applied, entries)?;
        seal_cursor(shared, &mut applied);
        (applied.position(), taken)
    };
    shared.memory.moved_to(position);
    shared.wake_lease.notify_one();
    shared.awaited.tell(&taken);
    Ok(())
}

fn is_about_signing_key(entry: &Entry) -> bool {
    matches!(entry.decision.subject, Subject::SigningKey(_))
}

fn apply(shared: &Shared, applied: &mut Applied, entries: Vec<Entry>) -> Result<Vec<Arc<Entry>>> {
    let now = shared.clock.now();
    let mut taken = Vec::with_capacity(entries.len());
    for entry in entries {
        if !follows(applied.position(), &entry) {
            return Err(Error::internal("the revocation log has a gap"));
        }
        let entry = Arc::new(entry);
        applied.apply(Arc::clone(&entry), now);
        taken.push(entry);
    }
    Ok(taken)
}

fn seal_cursor(shared: &Shared, applied: &mut Applied) {
    let cursor = Cursor {
        log: shared.identity(),
        position: applied.position(),
        mark: applied.mark(),
        coverage: Coverage::PLACE,
    };
    applied.set_cursor(shared.seal.seal(&cursor));
}

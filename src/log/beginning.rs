//! Where a log begins anew: after a failover of PostgreSQL that may have lost its end, and after a backup was restored.
//!
//! Positions that were given out may be lost then, in cursors and in the `rev` of tokens. So the next position is raised beyond
//! all of them, and the log gets another name: no token outranks a later entry, and no cursor resumes where entries are missing.

use crate::{
    clock::Timestamp,
    domain::{
        ids::EventId,
        revocation::{Decision, Entry, FORGET_AFTER, Position, Subject},
    },
    error::Result,
    random,
    storage::{self, Engine, Transaction, revocation_log},
};

/// By how much positions are raised: more than any log can have lost.
const RAISED_BY: u64 = 1 << 32;

/// Whether `next` may come after what is at `position`: it is the next one, or the first one of a log that began anew. Nothing
/// else is decided about everything, and there may have been several beginnings.
pub(super) fn follows(position: Position, next: &Entry) -> bool {
    let begins = matches!(next.decision.subject, Subject::Everything);
    next.position == position.next() || (begins && next.position > position)
}

/// Whether all of these follow each other, and the first one what is at `position`.
pub(super) fn all_follow(mut position: Position, entries: &[Entry]) -> bool {
    entries.iter().all(|entry| {
        let follows = follows(position, entry);
        position = entry.position;
        follows
    })
}

/// Begins the log anew with a decision about everything, in the caller's transaction.
pub async fn begin_anew(
    transaction: &Transaction,
    decision: &Decision,
    now: Timestamp,
) -> Result<EventId> {
    let base = Position(revocation_log::head(transaction).await?.0 + RAISED_BY);
    let now = revocation_log::dated(transaction, now).await?;
    let event_id = EventId::new(now)?;
    let forget_time = now + FORGET_AFTER;
    revocation_log::append_at(transaction, base, &event_id, decision, now, forget_time).await?;
    storage::authority::name_log(transaction, random::bytes()?).await?;
    if storage::engine_of(transaction) == Engine::Postgres {
        // Whatever this timeline lacks is outranked now.
        let (_, timeline) = storage::authority::timelines(transaction).await?;
        storage::authority::set_timeline(transaction, timeline).await?;
    }
    tracing::warn!(
        revocation_log.position = base.0,
        "revocation_log.begun_anew"
    );
    Ok(event_id)
}

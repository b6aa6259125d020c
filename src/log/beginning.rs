//! Where a log begins anew: after a failover of PostgreSQL that may have lost its end, and after a backup was restored.
//!
//! Positions that were given out may be lost then, in cursors and in the `rev` of tokens. So the next position is raised beyond
//! all of them, and the log gets another name: no token outranks a later entry, and no cursor resumes where entries are missing.

use super::cursor::LogIdentity;
use crate::{
    clock::Timestamp,
    domain::{
        ids::EventId,
        revocation::{Decision, Entry, FORGET_AFTER, Position},
    },
    error::Result,
    random,
    storage::{self, Transaction, revocation_log},
};

/// By how much positions are raised: more than any log can have lost.
const RAISED_BY: u64 = 1 << 32;

/// What a log is called, and the place of its first entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) identity: LogIdentity,
    pub(super) base: Position,
}

impl Beginning {
    pub(super) async fn read(db: &storage::Pool) -> Result<Self> {
        let (identity, base) = storage::authority::log(db).await?;
        Ok(Self {
            identity: LogIdentity(identity),
            base,
        })
    }

    /// Whether `next` may come after what is at `position`: it is the next one, or the first one of this log.
    pub(super) fn follows(&self, position: Position, next: Position) -> bool {
        next == position.next() || (next == self.base && next > position)
    }

    /// Whether all of these follow each other, and the first one what is at `position`.
    pub(super) fn all_follow(&self, mut position: Position, entries: &[Entry]) -> bool {
        entries.iter().all(|entry| {
            let follows = self.follows(position, entry.position);
            position = entry.position;
            follows
        })
    }
}

/// Begins the log anew with a decision about everything, in the caller's transaction.
pub async fn begin_anew(
    transaction: &Transaction,
    decision: &Decision,
    now: Timestamp,
) -> Result<EventId> {
    let base = Position(revocation_log::head(transaction).await?.0 + RAISED_BY);
    let event_id = EventId::new(now)?;
    let forget_time = now + FORGET_AFTER;
    revocation_log::append_at(transaction, base, &event_id, decision, now, forget_time).await?;
    storage::authority::begin_log(transaction, random::bytes()?, base).await?;
    tracing::warn!(
        revocation_log.position = base.0,
        "revocation_log.begun_anew"
    );
    Ok(event_id)
}

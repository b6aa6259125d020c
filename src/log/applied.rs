//! What the log says, in memory: what is dead, what has changed, and the newest entries for those who follow.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::cursor::EntryMark;
use crate::{
    clock::Timestamp,
    domain::revocation::{Changes, Entry, Position, Revocations},
};

/// How many of the newest entries are kept for streams.
const RECENT: usize = 16_384;

/// Kills are remembered for a day longer than anything they kill can live: should the clock be set forward and back again,
/// what was forgotten meanwhile must be dead for good.
const KILLS_KEPT: Duration = Duration::from_hours(23);

/// For longer than any remembered record lives.
const CHANGES_KEPT: Duration = Duration::from_mins(6);

/// The log up to a position, as it bears on tokens.
#[derive(Debug, Default)]
pub struct Applied {
    /// How often the log had been loaded from nothing before.
    beginning: u64,
    since: Duration,
    position: Position,
    mark: EntryMark,
    cursor: Arc<str>,
    revocations: Revocations,
    changes: Changes,
    recent: VecDeque<Arc<Entry>>,
}

impl Applied {
    /// A log that begins after `floor`.
    pub(super) fn after(floor: Position) -> Self {
        Self {
            position: floor,
            changes: Changes::after(floor),
            ..Self::default()
        }
    }

    /// Counts how often the log was loaded from nothing: what was read before may not go with what is read now.
    pub fn beginning(&self) -> u64 {
        self.beginning
    }

    /// When it was loaded from nothing, in time since boot: places known before may not be those of this log.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// The last place applied.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The entry at that place.
    pub fn mark(&self) -> EntryMark {
        self.mark
    }

    /// That place as verdicts carry it.
    pub fn cursor(&self) -> &Arc<str> {
        &self.cursor
    }

    /// What is dead.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// What has changed.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Takes in the next entry.
    pub(super) fn apply(&mut self, entry: Arc<Entry>, now: Timestamp) {
        self.position = entry.position;
        self.mark = EntryMark::of(&entry.event_id);
        if entry.forget_time > now - KILLS_KEPT {
            self.revocations.apply(&entry);
            self.changes.apply(&entry, now);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(entry);
    }

    pub(super) fn begin_after(&mut self, earlier: &Self, now: Duration) {
        self.beginning = earlier.beginning + 1;
        self.since = now;
    }

    pub(super) fn set_cursor(&mut self, cursor: String) {
        self.cursor = cursor.into();
    }

    /// Lets go of what bears on nothing any more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.revocations.forget(now - KILLS_KEPT);
        self.changes.forget(now - CHANGES_KEPT);
    }

    /// The newest entries.
    pub(super) fn newest(&self) -> Vec<Arc<Entry>> {
        self.recent.iter().cloned().collect()
    }

    /// Up to `limit` entries after `position`; none where memory does not reach back so far.
    pub fn recent_after(&self, position: Position, limit: u32) -> Option<Vec<Arc<Entry>>> {
        if position >= self.position {
            return Some(Vec::new());
        }
        let first = self.recent.front()?.position;
        if position.next() < first {
            return None;
        }
        let skipped = self
            .recent
            .partition_point(|entry| entry.position <= position);
        Some(
            self.recent
                .iter()
                .skip(skipped)
                .take(limit as usize)
                .cloned()
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{EventId, TokenId},
        revocation::{Decision, Reason, Subject},
    };

    #[test]
    fn the_newest_entries_are_given_in_order_and_older_ones_are_not_made_up() {
        let mut applied = Applied::after(Position(10));
        for position in 11..=10 + RECENT as u64 + 5 {
            let entry = Entry {
                event_id: EventId::known(format!("rev_{position:026}")),
                position: Position(position),
                decision: Decision::revocation(
                    Subject::Token(TokenId::known("t")),
                    None,
                    Reason::Unspecified,
                ),
                create_time: Timestamp::default(),
                forget_time: Timestamp::from_seconds(1),
            };
            applied.apply(Arc::new(entry), Timestamp::default());
        }
        let head = applied.position();
        assert!(applied.recent_after(Position(12), 10).is_none());
        let oldest: Vec<u64> = applied
            .recent_after(Position(15), 3)
            .unwrap()
            .iter()
            .map(|e| e.position.0)
            .collect();
        assert_eq!(oldest, [16, 17, 18]);
        assert_eq!(
            applied
                .recent_after(Position(head.0 - 1), 10)
                .unwrap()
                .len(),
            1
        );
        assert!(applied.recent_after(head, 10).unwrap().is_empty());
    }
}

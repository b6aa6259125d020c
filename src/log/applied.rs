//! What the log says, in memory: what is dead, what has changed, and the newest entries for those who follow.

use std::{sync::Arc, time::Duration};

use super::{
    cursor::EntryMark,
    recent::{Found, Recent},
};
use crate::{
    clock::Timestamp,
    domain::revocation::{Changes, Entry, Position, Revocations},
};

/// Until when a kill is remembered is kept to the second.
const TO_THE_SECOND: Duration = Duration::from_secs(1);

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
    /// The latest time that an entry was decided at.
    time: Timestamp,
    /// The last time by a clock that is believed; the beginning of time where there was none.
    believed: Timestamp,
    cursor: Arc<str>,
    revocations: Revocations,
    changes: Changes,
    recent: Recent,
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

    /// What is in force no longer than until then is worth telling nobody: by the latest entry, and by a clock here that is
    /// believed. Either may be wrong for a while.
    pub fn over(&self) -> Timestamp {
        self.time.min(self.believed)
    }

    pub(super) fn believe(&mut self, now: Timestamp) {
        self.believed = now;
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

    /// Takes in the next entry. The place comes last: it says that everything up to there is in force.
    pub(super) fn apply(&mut self, entry: Arc<Entry>, now: Timestamp) {
        let (position, mark) = (entry.position, EntryMark::of(&entry.event_id));
        self.revocations.apply(&entry);
        self.changes.apply(&entry, now);
        self.time = self.time.max(entry.create_time);
        self.recent.push(entry);
        self.position = position;
        self.mark = mark;
    }

    pub(super) fn begin_after(&mut self, earlier: &Self, now: Duration) {
        self.beginning = earlier.beginning + 1;
        self.since = now;
    }

    pub(super) fn set_cursor(&mut self, cursor: String) {
        self.cursor = cursor.into();
    }

    /// Lets go of what bears on nothing any more: of kills that the table has forgotten, all of whose entries are in force until
    /// `in_force` or later. A clock that is set forward and back again must not bring anything to life.
    pub(super) fn forget(&mut self, in_force: Timestamp, now: Timestamp) {
        self.revocations.forget(in_force - TO_THE_SECOND);
        self.changes.forget(now - CHANGES_KEPT);
        self.recent.forget(self.time);
    }

    /// The newest entries.
    pub(super) fn newest(&self) -> Vec<Arc<Entry>> {
        self.recent.newest()
    }

    /// Up to `limit` entries after `position`; none where memory does not reach back so far.
    pub(super) fn recent_after(&self, position: Position, limit: usize) -> Option<Found> {
        if position >= self.position {
            return Some(Found::Entries(Vec::new()));
        }
        self.recent.after(position, limit)
    }
}

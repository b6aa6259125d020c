//! The newest entries, for those who follow: the very newest as they are, a million before them packed.
//!
//! Whoever begins at the floor, be it a thousand verifiers after a failure, is served out of memory; the table is for logs that
//! are longer yet.

use std::{collections::VecDeque, sync::Arc};

use super::packing::Pack;
use crate::{
    clock::Timestamp,
    domain::revocation::{Entry, Position},
};

/// How many entries a pack has: as many as a stream sends in one message.
pub(super) const PACKED: usize = 500;
/// How many entries are kept as they are.
const NEWEST: usize = 16_384;
/// How many packs are kept.
const PACKS: usize = (1 << 20) / PACKED;

/// The newest entries, in order.
#[derive(Debug, Default)]
pub(super) struct Recent {
    packs: VecDeque<Arc<Pack>>,
    newest: VecDeque<Arc<Entry>>,
}

/// Some entries.
#[derive(Debug)]
pub(super) enum Found {
    /// As they are.
    Entries(Vec<Arc<Entry>>),
    /// Those of a pack that are wanted, to be unpacked where nobody is held up.
    Packed(Arc<Pack>),
}

impl Recent {
    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        self.newest.push_back(entry);
        if self.newest.len() == NEWEST + PACKED {
            self.pack();
        }
    }

    /// Packs the oldest of the newest.
    fn pack(&mut self) {
        let first = self.newest.front().map_or(0, |entry| entry.position.0);
        // Where the log began anew, places do not follow each other.
        let following = self
            .newest
            .iter()
            .zip(first..)
            .take(PACKED)
            .take_while(|(entry, place)| entry.position.0 == *place)
            .count();
        let oldest: Vec<_> = self.newest.drain(..following).collect();
        let pack = Pack::of(oldest.iter().map(AsRef::as_ref));
        if self.packs.len() == PACKS {
            self.packs.pop_front();
        }
        self.packs.push_back(Arc::new(pack));
    }

    /// Those that are kept as they are.
    pub(super) fn newest(&self) -> Vec<Arc<Entry>> {
        self.newest.iter().cloned().collect()
    }

    /// Up to `limit` entries after `position`; none where these do not reach back so far.
    pub(super) fn after(&self, position: Position, limit: usize) -> Option<Found> {
        let packed = self.packs.front().map(|pack| pack.first());
        let first = packed.or(self.newest.front().map(|entry| entry.position))?;
        if position.next() < first {
            return None;
        }
        let passed = self.packs.partition_point(|pack| pack.last() <= position);
        if let Some(pack) = self.packs.get(passed) {
            return Some(Found::Packed(Arc::clone(pack)));
        }
        let passed = self
            .newest
            .partition_point(|entry| entry.position <= position);
        let wanted = self.newest.iter().skip(passed).take(limit);
        Some(Found::Entries(wanted.cloned().collect()))
    }

    /// Lets go of packs of which nothing bears on anything after `now`.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some(pack) = self.packs.front()
            && pack.forget_time() <= now
        {
            self.packs.pop_front();
        }
    }
}

impl Found {
    /// Up to `limit` of them that are after `position`.
    pub(super) fn after(self, position: Position, limit: usize) -> Vec<Arc<Entry>> {
        match self {
            Self::Entries(entries) => entries,
            Self::Packed(pack) => pack.after(position, limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{EventId, TokenId},
        revocation::{Decision, Reason, Subject},
    };

    fn push(recent: &mut Recent, position: u64) {
        let subject = Subject::Token(TokenId::known("t"));
        let entry = Entry {
            event_id: EventId::known(format!("rev_{position:026}")),
            position: Position(position),
            decision: Decision::revocation(subject, None, Reason::Unspecified),
            create_time: Timestamp::default(),
            forget_time: Timestamp::from_micros(i64::try_from(position).unwrap()),
        };
        recent.push(Arc::new(entry));
    }

    /// Places of entries after `position`; none where they do not reach back so far.
    fn after(recent: &Recent, position: u64, limit: usize) -> Option<Vec<u64>> {
        let position = Position(position);
        let found = recent.after(position, limit)?.after(position, limit);
        Some(found.iter().map(|entry| entry.position.0).collect())
    }

    #[test]
    fn entries_are_given_in_order_and_older_ones_are_not_made_up() {
        let mut recent = Recent::default();
        assert_eq!(after(&recent, 10, 3), None);
        let (first, last) = (11, 11 + (NEWEST + PACKED * (PACKS + 2)) as u64);
        for position in first..=last {
            push(&mut recent, position);
        }
        let kept = recent.packs[0].first().0;
        assert!(kept > first);
        assert_eq!(after(&recent, kept - 2, 3), None);
        let mut position = kept - 1;
        while position < last {
            let found = after(&recent, position, 300).unwrap();
            assert!((1..=300).contains(&found.len()));
            let expected: Vec<u64> = (position + 1..).take(found.len()).collect();
            assert_eq!(found, expected);
            position += found.len() as u64;
        }
        assert_eq!(after(&recent, last, 3), Some(Vec::new()));
    }

    #[test]
    fn a_log_that_began_anew_goes_on_where_it_does() {
        let mut recent = Recent::default();
        let anew = 1 << 32;
        for position in (1..=100).chain(anew..anew + NEWEST as u64 + 1000) {
            push(&mut recent, position);
        }
        assert_eq!(after(&recent, 98, 9), Some(vec![99, 100]));
        assert_eq!(after(&recent, 100, 2), Some(vec![anew, anew + 1]));
        assert_eq!(after(&recent, anew - 1, 1), Some(vec![anew]));
    }

    #[test]
    fn what_bears_on_nothing_is_let_go_of_from_the_front() {
        let mut recent = Recent::default();
        for position in 1..=(NEWEST + 2 * PACKED) as u64 {
            push(&mut recent, position);
        }
        let second = PACKED as u64;
        recent.forget(Timestamp::from_micros(499));
        assert_eq!(after(&recent, 0, 1), Some(vec![1]));
        recent.forget(Timestamp::from_micros(500));
        assert_eq!(after(&recent, second - 1, 1), None);
        assert_eq!(after(&recent, second, 1), Some(vec![second + 1]));
    }
}

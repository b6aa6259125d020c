//! The leases as whoever waits for a revocation sees them: have all applied it, and which no longer move?

use std::{collections::BTreeMap, time::Duration};

use super::Terms;
use crate::domain::{ids::ReplicaId, revocation::Position};

/// A row of the table of leases.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseRow {
    /// Whose.
    pub id: ReplicaId,
    /// Moves with every renewal.
    pub beat: u64,
    /// The place in the log up to which its replica has applied it.
    pub applied: Position,
    /// Whether its replica has lost the right to answer from what it remembers.
    pub fenced: bool,
}

/// Waits for what replicas have applied, by looking at the table of leases again and again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Barrier {
    terms: Terms,
    /// The head of the log in the last snapshot.
    head: Position,
    leases: BTreeMap<ReplicaId, Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    row: LeaseRow,
    /// When its beat was seen first.
    since: Duration,
}

/// Whether a place is applied wherever it must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No replica answers out of a memory that is older.
    Reached,
    /// Some may; the ones to be fenced are those that no longer move.
    Waiting(Vec<Fencing>),
}

/// A lease to be fenced, where its beat is still the one that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fencing {
    /// Whose.
    pub id: ReplicaId,
    /// The beat that was seen.
    pub beat: u64,
}

/// How many replicas have applied a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Replicas that may answer from what they remember.
    pub replicas: usize,
    /// Those among them that have applied it.
    pub applied: usize,
}

impl Barrier {
    /// Has seen nothing yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            head: Position(0),
            leases: BTreeMap::new(),
        }
    }

    /// Takes in a snapshot: every row, none left out because it looks old, and the `head` of the log, read by the same statement.
    /// `now` is read after the rows have arrived. Rows that are gone were given back, and count no more.
    ///
    /// The head tells which places the snapshot can speak of: a replica that joined after it was taken has loaded the log at
    /// least that far, and perhaps no further.
    pub fn observe(&mut self, now: Duration, head: Position, rows: &[LeaseRow]) {
        let mut earlier = std::mem::take(&mut self.leases);
        self.head = head;
        for row in rows {
            let unmoved = earlier
                .remove(&row.id)
                .filter(|seen| seen.row.beat == row.beat);
            let seen = Seen {
                row: row.clone(),
                since: unmoved.map_or(now, |seen| seen.since),
            };
            self.leases.insert(row.id.clone(), seen);
        }
    }

    /// Whether every lease that is not fenced has applied `position`, as of the last snapshot.
    pub fn is_reached(&self, position: Position) -> bool {
        self.head >= position && self.behind(position).next().is_none()
    }

    /// The same; where it is not so, which leases may be fenced at `now`. After fencing, another snapshot tells what came of it.
    pub fn verdict(&self, now: Duration, position: Position) -> Verdict {
        if self.is_reached(position) {
            return Verdict::Reached;
        }
        if self.head < position {
            return Verdict::Waiting(Vec::new());
        }
        let stands_still = |seen: &&Seen| now >= seen.since.saturating_add(self.terms.patience());
        let fencing = |seen: &Seen| Fencing {
            id: seen.row.id.clone(),
            beat: seen.row.beat,
        };
        let behind = self.behind(position);
        Verdict::Waiting(behind.filter(stands_still).map(fencing).collect())
    }

    /// How many replicas there are, and how many of them have applied `position`, as of the last snapshot.
    pub fn standing(&self, position: Position) -> Standing {
        let replicas = self.unfenced().count();
        Standing {
            replicas,
            applied: replicas - self.behind(position).count(),
        }
    }

    /// How long a lease has not moved, as far as was seen; none where there is no such lease.
    pub fn beat_age(&self, now: Duration, id: &ReplicaId) -> Option<Duration> {
        let seen = self.leases.get(id)?;
        Some(now.saturating_sub(seen.since))
    }

    fn behind(&self, position: Position) -> impl Iterator<Item = &Seen> {
        self.unfenced()
            .filter(move |seen| seen.row.applied < position)
    }

    fn unfenced(&self) -> impl Iterator<Item = &Seen> {
        self.leases.values().filter(|seen| !seen.row.fenced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Position = Position(9);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn row(id: &str, beat: u64, applied: u64) -> LeaseRow {
        LeaseRow {
            id: ReplicaId::known(id),
            beat,
            applied: Position(applied),
            fenced: false,
        }
    }

    fn fenced(row: LeaseRow) -> LeaseRow {
        LeaseRow {
            fenced: true,
            ..row
        }
    }

    fn barrier() -> Barrier {
        Barrier::new(Terms::STANDARD)
    }

    fn waiting(fence: &[(&str, u64)]) -> Verdict {
        let fencing = |&(id, beat): &(&str, u64)| Fencing {
            id: ReplicaId::known(id),
            beat,
        };
        Verdict::Waiting(fence.iter().map(fencing).collect())
    }

    #[test]
    fn a_place_is_reached_when_every_lease_that_is_not_fenced_has_applied_it() {
        let mut barrier = barrier();
        barrier.observe(at(0), HEAD, &[row("a", 1, 5), row("b", 1, 4)]);
        assert_eq!(barrier.verdict(at(0), Position(4)), Verdict::Reached);
        assert_eq!(barrier.verdict(at(0), Position(5)), waiting(&[]));
        barrier.observe(at(1), HEAD, &[row("a", 1, 5), fenced(row("b", 1, 4))]);
        assert_eq!(barrier.verdict(at(1), Position(5)), Verdict::Reached);
        barrier.observe(at(2), HEAD, &[row("b", 1, 4), row("c", 1, 0)]);
        assert_eq!(barrier.verdict(at(2), Position(4)), waiting(&[]));
        barrier.observe(at(3), HEAD, &[row("b", 1, 4)]);
        assert_eq!(barrier.verdict(at(3), Position(4)), Verdict::Reached);
    }

    #[test]
    fn a_snapshot_does_not_speak_of_places_that_came_after_it() {
        let mut barrier = barrier();
        assert_eq!(barrier.verdict(at(0), Position(1)), waiting(&[]));
        barrier.observe(at(0), Position(4), &[]);
        assert_eq!(barrier.verdict(at(0), Position(4)), Verdict::Reached);
        assert_eq!(
            barrier.verdict(at(9_000), Position(5)),
            waiting(&[]),
            "whoever joined since may have loaded no further than 4"
        );
    }

    #[test]
    fn a_lease_is_fenced_when_its_beat_has_stood_still_for_long_enough_since_it_was_seen() {
        let mut barrier = barrier();
        barrier.observe(at(1_000), HEAD, &[row("a", 7, 4)]);
        assert_eq!(barrier.verdict(at(3_524), Position(5)), waiting(&[]));
        assert_eq!(
            barrier.verdict(at(3_525), Position(5)),
            waiting(&[("a", 7)])
        );
        barrier.observe(at(3_600), HEAD, &[row("a", 7, 4)]);
        assert_eq!(
            barrier.verdict(at(3_600), Position(5)),
            waiting(&[("a", 7)]),
            "looking again is no beat"
        );
        barrier.observe(at(3_700), HEAD, &[row("a", 8, 4)]);
        assert_eq!(barrier.verdict(at(3_700), Position(5)), waiting(&[]));
        assert_eq!(
            barrier.verdict(at(3_700 + 2_525), Position(5)),
            waiting(&[("a", 8)])
        );
    }

    #[test]
    fn only_what_holds_a_place_back_is_fenced() {
        let mut barrier = barrier();
        let rows = [row("a", 1, 5), row("b", 1, 4), fenced(row("c", 1, 0))];
        barrier.observe(at(0), HEAD, &rows);
        assert_eq!(
            barrier.verdict(at(9_000), Position(5)),
            waiting(&[("b", 1)])
        );
        assert_eq!(barrier.verdict(at(9_000), Position(4)), Verdict::Reached);
    }

    #[test]
    fn an_older_snapshot_that_comes_late_only_makes_the_wait_longer() {
        let mut barrier = barrier();
        barrier.observe(at(0), HEAD, &[row("a", 2, 4)]);
        barrier.observe(at(100), HEAD, &[row("a", 1, 4)]);
        barrier.observe(at(200), HEAD, &[row("a", 2, 4)]);
        assert_eq!(barrier.verdict(at(2_724), Position(5)), waiting(&[]));
        barrier.observe(at(2_724), HEAD, &[]);
        barrier.observe(at(2_725), HEAD, &[row("a", 2, 4)]);
        assert_eq!(barrier.verdict(at(2_726), Position(5)), waiting(&[]));
    }

    #[test]
    fn leases_are_counted_as_the_contract_counts_them() {
        let mut barrier = barrier();
        let rows = [row("a", 1, 5), row("b", 1, 4), fenced(row("c", 1, 9))];
        barrier.observe(at(500), HEAD, &rows);
        let counts = |position| {
            let Standing { replicas, applied } = barrier.standing(Position(position));
            (applied, replicas)
        };
        assert_eq!([counts(4), counts(5), counts(6)], [(2, 2), (1, 2), (0, 2)]);
        let age = |id| barrier.beat_age(at(800), &ReplicaId::known(id));
        assert_eq!((age("a"), age("d")), (Some(at(300)), None));
    }
}

//! A replica's own lease: until when it may answer from what it remembers.

use std::time::Duration;

use super::{Right, Terms};
use crate::domain::{ids::ReplicaId, revocation::Position};

/// A replica's view of the lease it holds under one id.
///
/// It joins (the row is committed, then the log is loaded up to a head read after that, then the place is posted), serves, and
/// ends. Once it has ended it stays so: everything remembered is dropped, and the replica joins again under a new id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    id: ReplicaId,
    terms: Terms,
    stage: Stage,
    /// When the right to answer that renewals have given so far ends; not counted before it serves.
    until: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    /// The row was sent, and is not known to be committed.
    Opening,
    /// It is: the head may be read, and the log loaded up to it.
    Loading,
    /// The log is loaded up to this place, which is not known to be posted.
    Posting(Position),
    /// What is remembered counts while the right lasts.
    Serving,
    /// Fenced, given back or given up.
    Ended,
}

/// A renewal under way. It is what the right to answer is counted from, so it is made before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Renewal {
    id: ReplicaId,
    sent: Duration,
    applied: Position,
    opens: bool,
}

impl Renewal {
    /// Of which lease.
    pub fn id(&self) -> &ReplicaId {
        &self.id
    }

    /// The place to post.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// Whether it is the first, which inserts the row.
    pub fn opens(&self) -> bool {
        self.opens
    }
}

/// Leave to read the head of the log and to load up to it: given only when the lease is committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "the log is loaded with it"]
pub struct Load(ReplicaId);

impl Lease {
    /// Begins a lease under a new id, with the renewal that inserts its row. `now` is read before anything is sent.
    ///
    /// The row is sent once. Where its reply is lost, the lease is given up and another one is begun: a second attempt might
    /// put back a row that was fenced and swept away.
    pub fn open(id: ReplicaId, terms: Terms, now: Duration) -> (Self, Renewal) {
        let opening = Renewal {
            id: id.clone(),
            sent: now,
            applied: Position(0),
            opens: true,
        };
        let lease = Self {
            id,
            terms,
            stage: Stage::Opening,
            until: Duration::ZERO,
        };
        (lease, opening)
    }

    /// Under which id.
    pub fn id(&self) -> &ReplicaId {
        &self.id
    }

    /// Begins a renewal that posts `applied`, the place up to which the log is applied in memory. `now` is read before anything
    /// is sent. None before the lease is known to be committed, and once it has ended.
    ///
    /// Until the log is loaded the place is 0, whatever is remembered.
    pub fn renewal_sent(&self, now: Duration, applied: Position) -> Option<Renewal> {
        let applied = match self.stage {
            Stage::Loading => Position(0),
            Stage::Posting(_) | Stage::Serving => applied,
            Stage::Opening | Stage::Ended => return None,
        };
        Some(Renewal {
            id: self.id.clone(),
            sent: now,
            applied,
            opens: false,
        })
    }

    /// Takes the reply to a renewal: whether it `touched` the row. Where it did not, the lease has ended.
    ///
    /// Replies may come late, in any order, and not at all; that of another lease says nothing about this one.
    pub fn renewal_committed(&mut self, renewal: &Renewal, touched: bool) {
        if renewal.id != self.id || self.stage == Stage::Ended {
            return;
        }
        if !touched {
            self.stage = Stage::Ended;
            return;
        }
        let until = renewal.sent.saturating_add(self.terms.right());
        self.until = self.until.max(until);
        self.stage = match self.stage {
            Stage::Opening => Stage::Loading,
            Stage::Posting(loaded) if renewal.applied >= loaded => Stage::Serving,
            stage @ (Stage::Loading | Stage::Posting(_) | Stage::Serving | Stage::Ended) => stage,
        };
    }

    /// Leave to load the log, up to a head that is read from the primary after this call. None before the lease is committed,
    /// and once it is loaded.
    pub fn load(&self) -> Option<Load> {
        (self.stage == Stage::Loading).then(|| Load(self.id.clone()))
    }

    /// The log is applied in memory up to `position`, the head that was read with this `leave`, or further. The leave of another
    /// lease is none: its head may have been read before this one was committed.
    pub fn loaded(&mut self, leave: Load, position: Position) {
        let Load(id) = leave;
        if self.stage == Stage::Loading && id == self.id {
            self.stage = Stage::Posting(position);
        }
    }

    /// Whether the log was loaded under it.
    pub fn is_loaded(&self) -> bool {
        matches!(self.stage, Stage::Posting(_) | Stage::Serving)
    }

    /// Until when what is remembered may be answered from.
    pub fn right(&self) -> Right {
        match self.stage {
            Stage::Serving => Right::until(self.until),
            Stage::Opening | Stage::Loading | Stage::Posting(_) | Stage::Ended => Right::NONE,
        }
    }

    /// Gives the lease up: at a clean shutdown before the row is deleted, and where what was applied turns out not to be what the
    /// log says.
    pub fn end(&mut self) {
        self.stage = Stage::Ended;
    }

    /// Whether everything remembered is to be dropped, and a new lease to be joined under.
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms::STANDARD;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn opening(millis: u64) -> (Lease, Renewal) {
        Lease::open(ReplicaId::known("rpl_a"), TERMS, at(millis))
    }

    /// A lease that is committed, with nothing loaded.
    fn loading(millis: u64) -> Lease {
        let (mut lease, opening) = opening(millis);
        lease.renewal_committed(&opening, true);
        lease
    }

    /// A lease that has joined with renewals sent at `millis`, up to place 7.
    fn serving(millis: u64) -> Lease {
        let mut lease = loading(millis);
        let load = lease.load().unwrap();
        lease.loaded(load, Position(7));
        renew(&mut lease, millis, 7);
        lease
    }

    fn sent(lease: &Lease, millis: u64, applied: u64) -> Renewal {
        lease.renewal_sent(at(millis), Position(applied)).unwrap()
    }

    fn renew(lease: &mut Lease, millis: u64, applied: u64) {
        let renewal = sent(lease, millis, applied);
        lease.renewal_committed(&renewal, true);
    }

    #[test]
    fn a_replica_serves_when_it_has_committed_loaded_and_posted_and_not_before() {
        let (mut lease, first) = opening(0);
        assert!(first.opens());
        assert!(lease.load().is_none(), "no head before the commit");
        assert!(
            lease.renewal_sent(at(1), Position(5)).is_none(),
            "the row is sent once"
        );
        lease.renewal_committed(&first, true);
        let load = lease.load().unwrap();
        assert!(!lease.right().allows(at(1)), "nothing is loaded");
        lease.loaded(load, Position(7));
        assert!(!lease.right().allows(at(1)), "nothing is posted");
        let post = sent(&lease, 1, 7);
        assert!(!post.opens());
        assert!(!lease.right().allows(at(2)), "the post is not committed");
        lease.renewal_committed(&post, true);
        assert!(lease.right().allows(at(2)));
        assert!(lease.load().is_none(), "a log is loaded once");
    }

    #[test]
    fn nothing_is_posted_before_the_log_is_loaded() {
        let (mut lease, first) = opening(0);
        assert_eq!(first.applied(), Position(0));
        lease.renewal_committed(&first, true);
        let early = sent(&lease, 1, 5);
        assert_eq!(early.applied(), Position(0), "committed but not loaded");
        let load = lease.load().unwrap();
        lease.loaded(load, Position(7));
        lease.renewal_committed(&early, true);
        assert!(
            !lease.right().allows(at(2)),
            "what it posted is not the place"
        );
        assert_eq!(sent(&lease, 2, 8).applied(), Position(8));
    }

    #[test]
    fn the_right_to_answer_is_counted_from_when_the_renewal_was_sent() {
        let mut lease = serving(0);
        let renewal = sent(&lease, 1_000, 7);
        assert!(lease.right().allows(at(2_474)));
        assert!(
            !lease.right().allows(at(2_475)),
            "a renewal sent is no right"
        );
        lease.renewal_committed(&renewal, true);
        assert!(lease.right().allows(at(3_474)));
        assert!(!lease.right().allows(at(3_475)));
        let late = sent(&lease, 1_001, 7);
        lease.renewal_committed(&late, true);
        assert!(!lease.right().allows(at(3_476)), "however late the reply");
    }

    #[test]
    fn replies_out_of_order_neither_shorten_nor_lengthen_the_right() {
        let mut lease = serving(0);
        let (early, late) = (sent(&lease, 500, 7), sent(&lease, 900, 7));
        lease.renewal_committed(&late, true);
        assert_eq!(lease.right(), Right::until(at(900 + 2_475)));
        lease.renewal_committed(&early, true);
        assert_eq!(lease.right(), Right::until(at(900 + 2_475)));
    }

    #[test]
    fn a_right_that_ran_out_comes_back_with_the_next_renewal() {
        let mut lease = serving(0);
        assert!(!lease.right().allows(at(10_000)));
        assert!(!lease.has_ended(), "nobody has fenced it");
        renew(&mut lease, 10_000, 7);
        assert!(lease.right().allows(at(10_001)));
    }

    #[test]
    fn a_renewal_that_touched_nothing_ends_the_lease_for_good() {
        let mut lease = serving(0);
        let (other, fenced) = (sent(&lease, 500, 7), sent(&lease, 900, 7));
        lease.renewal_committed(&fenced, false);
        assert!(lease.has_ended());
        assert!(!lease.right().allows(at(901)));
        lease.renewal_committed(&other, true);
        assert!(
            !lease.right().allows(at(901)),
            "a late reply revives nothing"
        );
        assert!(lease.renewal_sent(at(902), Position(7)).is_none());
        assert!(lease.load().is_none());
    }

    #[test]
    fn a_lease_may_be_fenced_before_it_serves() {
        let mut lease = loading(0);
        let load = lease.load().unwrap();
        let renewal = sent(&lease, 5_000, 0);
        lease.renewal_committed(&renewal, false);
        lease.loaded(load, Position(7));
        assert!(lease.has_ended(), "what was loaded meanwhile is nothing");
    }

    #[test]
    fn the_reply_to_an_earlier_lease_says_nothing_about_the_next() {
        let earlier = serving(0);
        let (good, bad) = (sent(&earlier, 1, 7), sent(&earlier, 2, 7));
        let (mut next, opening) = Lease::open(ReplicaId::known("rpl_b"), TERMS, at(0));
        next.renewal_committed(&good, true);
        assert!(next.load().is_none(), "it is not committed");
        next.renewal_committed(&bad, false);
        assert!(!next.has_ended());
        next.renewal_committed(&opening, true);
        let load = loading(0).load().unwrap();
        next.loaded(load, Position(7));
        renew(&mut next, 0, 7);
        assert!(!next.right().allows(at(1)), "its head is too old");
    }

    #[test]
    fn a_lease_that_was_given_up_answers_nothing() {
        let mut lease = serving(0);
        lease.end();
        assert!(!lease.right().allows(at(1)));
        assert_eq!(lease.right(), Right::NONE);
    }
}

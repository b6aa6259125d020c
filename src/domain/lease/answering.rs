//! A server's right to answer from what it remembers, from one lease to the next.

use std::time::Duration;

use super::{Lease, Load, Renewal, Terms};
use crate::domain::{ids::ReplicaId, revocation::Position};

/// Until when what is remembered may be answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Right(Duration);

impl Right {
    /// Not at all.
    pub const NONE: Self = Self(Duration::ZERO);

    /// Until `end`, and not then.
    pub fn until(end: Duration) -> Self {
        Self(end)
    }

    /// Whether it is there. Looked at just before what is remembered: whoever asks once a revocation is effective is answered
    /// with it in force, or not from memory. And looked at again, as it was then, as the last step of a verdict, which is made
    /// anew where the time is over.
    pub fn allows(self, now: Duration) -> bool {
        now < self.0
    }

    /// In nanoseconds since boot, to be kept where answers find it.
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The right that was kept so.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }
}

/// What a server knows of its right: its lease, and whether it follows the log.
///
/// A lease is renewed only for a server that follows the log: that has lately read it, and applied what it read. Whoever does
/// not is let go by those who revoke, as if it had fallen silent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answering {
    terms: Terms,
    /// None before the first.
    lease: Option<Lease>,
    /// When all that was read of the log was last applied.
    followed: Duration,
    /// A load has failed, and none has come to its end since.
    stuck: bool,
}

/// What is to be done for the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Next {
    /// Nothing: whoever does not follow the log lets it run out.
    LetBe,
    /// It is to be renewed.
    Renew(Renewal),
    /// There is none, it has ended, or it is not known whether its row was written: it is given back, and another one begun.
    Join,
}

impl Answering {
    /// No right yet. The server has time to load the log.
    pub fn new(terms: Terms, now: Duration) -> Self {
        Self {
            terms,
            lease: None,
            followed: now,
            stuck: false,
        }
    }

    /// The present lease.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// What comes next, where the log is applied in memory up to `applied`. `now` is read before anything is sent.
    pub fn next(&self, now: Duration, applied: Position) -> Next {
        if now.saturating_sub(self.followed) >= self.terms.ttl {
            return Next::LetBe;
        }
        let lease = self.lease.as_ref();
        let renewal = lease.and_then(|lease| lease.renewal_sent(now, applied));
        renewal.map_or(Next::Join, Next::Renew)
    }

    /// Begins a lease under a new id, as [`Lease::open`] does. Whatever was loaded before counts no more.
    pub fn join(&mut self, id: ReplicaId, now: Duration) -> Renewal {
        let (lease, opening) = Lease::open(id, self.terms, now);
        self.lease = Some(lease);
        opening
    }

    /// Takes the reply to a renewal, as [`Lease::renewal_committed`] does.
    pub fn renewal_committed(&mut self, renewal: &Renewal, touched: bool) {
        if let Some(lease) = &mut self.lease {
            lease.renewal_committed(renewal, touched);
        }
    }

    /// Ends the lease: at a clean shutdown before its row is deleted, and where what was applied is not what the log says, or
    /// may not be what the next start will find.
    pub fn end(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.end();
        }
    }

    /// Whether the log was loaded under the present lease. Where it was not, it is to be loaded, and nothing else applied.
    pub fn is_loaded(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_loaded)
    }

    /// Leave to load the log, as [`Lease::load`] gives it.
    pub fn load(&self) -> Option<Load> {
        self.lease.as_ref().and_then(Lease::load)
    }

    /// A load goes on: it may take longer than a lease lasts. Where one has failed, only the end of one counts: a server that
    /// begins again and again would keep others waiting for ever.
    pub fn loads(&mut self, now: Duration) {
        if !self.stuck {
            self.followed = now;
        }
    }

    /// The log is applied in memory up to `position`, as [`Lease::loaded`] takes it.
    pub fn loaded(&mut self, leave: Load, position: Position, now: Duration) {
        self.stuck = false;
        self.followed = now;
        if let Some(lease) = &mut self.lease {
            lease.loaded(leave, position);
        }
    }

    /// A load came to nothing.
    pub fn load_failed(&mut self) {
        self.stuck = true;
    }

    /// What the log said at `now` is applied; or nothing may be before there is a lease, and it could be read.
    pub fn followed(&mut self, now: Duration) {
        self.followed = self.followed.max(now);
    }

    /// Until when what is remembered may be answered from.
    pub fn right(&self) -> Right {
        self.lease.as_ref().map(Lease::right).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms::STANDARD;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn renew(answering: &mut Answering, millis: u64, applied: u64, touched: bool) {
        let Next::Renew(renewal) = answering.next(at(millis), Position(applied)) else {
            panic!("it is not renewed");
        };
        answering.renewal_committed(&renewal, touched);
    }

    /// A lease that is committed, with nothing loaded.
    fn joined(answering: &mut Answering, id: &str, millis: u64) {
        assert_eq!(answering.next(at(millis), Position(0)), Next::Join);
        let opening = answering.join(ReplicaId::known(id), at(millis));
        answering.renewal_committed(&opening, true);
    }

    fn load(answering: &mut Answering, millis: u64) {
        let leave = answering.load().unwrap();
        answering.loaded(leave, Position(7), at(millis));
        renew(answering, millis, 7, true);
    }

    fn serving() -> Answering {
        let mut answering = Answering::new(TERMS, at(0));
        joined(&mut answering, "rpl_a", 0);
        load(&mut answering, 0);
        answering
    }

    #[test]
    fn a_right_is_over_at_its_end_and_is_kept_as_it_is() {
        let right = Right::until(at(5));
        assert!(right.allows(at(4)) && !right.allows(at(5)));
        assert!(!Right::NONE.allows(at(0)));
        assert_eq!(Right::from_nanos(right.nanos()), right);
        assert_eq!(Right::from_nanos(Right::NONE.nanos()), Right::NONE);
    }

    #[test]
    fn a_server_joins_loads_and_posts_before_it_answers() {
        let mut answering = Answering::new(TERMS, at(0));
        assert!(answering.load().is_none(), "no head before the lease");
        joined(&mut answering, "rpl_a", 0);
        assert!(!answering.is_loaded());
        let leave = answering.load().unwrap();
        answering.loaded(leave, Position(7), at(1));
        assert!(answering.is_loaded());
        assert_eq!(answering.right(), Right::NONE, "nothing is posted");
        renew(&mut answering, 1, 7, true);
        assert_eq!(answering.right(), Right::until(at(1 + 2_475)));
    }

    #[test]
    fn whoever_does_not_follow_the_log_lets_its_lease_run_out() {
        let mut answering = serving();
        assert_ne!(answering.next(at(2_499), Position(7)), Next::LetBe);
        assert_eq!(answering.next(at(2_500), Position(7)), Next::LetBe);
        answering.followed(at(2_600));
        answering.followed(at(100));
        renew(&mut answering, 2_600, 7, true);
        assert!(answering.right().allows(at(2_600)));
    }

    #[test]
    fn a_long_load_keeps_its_lease_and_one_that_fails_again_and_again_does_not() {
        let mut answering = Answering::new(TERMS, at(0));
        joined(&mut answering, "rpl_a", 0);
        for second in 1..10 {
            answering.loads(at(second * 1_000));
            renew(&mut answering, second * 1_000, 0, true);
        }
        for second in 10..12 {
            answering.load_failed();
            answering.loads(at(second * 1_000));
        }
        assert_eq!(answering.next(at(11_500), Position(0)), Next::LetBe);
        load(&mut answering, 12_000);
        assert!(answering.right().allows(at(12_000)));
        answering.end();
        joined(&mut answering, "rpl_b", 12_000);
        answering.loads(at(14_000));
        renew(&mut answering, 14_000, 0, true);
    }

    #[test]
    fn a_log_that_is_not_the_one_applied_is_loaded_under_another_lease() {
        let mut answering = serving();
        answering.end();
        assert_eq!(answering.right(), Right::NONE);
        assert!(!answering.is_loaded() && answering.load().is_none());
        joined(&mut answering, "rpl_b", 10);
        assert_eq!(answering.right(), Right::NONE);
        load(&mut answering, 10);
        assert!(answering.right().allows(at(10)));
    }

    #[test]
    fn what_was_loaded_under_a_lease_that_was_taken_away_counts_for_nothing() {
        let mut answering = Answering::new(TERMS, at(0));
        joined(&mut answering, "rpl_a", 0);
        let late = answering.load().unwrap();
        renew(&mut answering, 1, 0, false);
        joined(&mut answering, "rpl_b", 2);
        answering.loaded(late, Position(7), at(3));
        assert!(!answering.is_loaded(), "its head is too old");
        load(&mut answering, 4);
        assert!(answering.is_loaded());
    }

    #[test]
    fn a_lease_that_may_not_have_been_written_is_given_up() {
        let mut answering = Answering::new(TERMS, at(0));
        let _lost = answering.join(ReplicaId::known("rpl_a"), at(0));
        assert_eq!(answering.next(at(1), Position(0)), Next::Join);
    }
}

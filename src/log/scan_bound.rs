//! From which transaction on the sequencer looks for rows in the inbox.
//!
//! Whatever was moved leaves a dead row behind, and a scan that began at the first of them would take longer with each. A bound
//! of the scan, and never a horizon: nothing is taken to be the last of its kind because of it. It may rise to a transaction
//! only where every smaller one was over before the inbox was found empty from the old bound on.

use std::time::Duration;

/// How often it is renewed.
const RENEWED_EVERY: Duration = Duration::from_secs(1);

/// Without I/O: time, and what was read, are told to it.
#[derive(Debug, Default)]
pub(super) struct ScanBound {
    low: i64,
    /// The oldest transaction that was running when it was last looked; none: that was used up.
    oldest_running: Option<i64>,
    looked: Option<Duration>,
}

impl ScanBound {
    /// Every row of a smaller transaction id was moved.
    pub(super) fn low(&self) -> i64 {
        self.low
    }

    /// Whether the oldest running transaction is to be read before the inbox.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.looked
            .is_none_or(|looked| now >= looked + RENEWED_EVERY)
    }

    /// It was read; the inbox is looked at after this.
    pub(super) fn running(&mut self, oldest: i64, now: Duration) {
        self.looked = Some(now);
        self.oldest_running = Some(oldest);
    }

    /// From the bound on, nothing committed was left in the inbox.
    pub(super) fn found_empty(&mut self) {
        match self.oldest_running.take() {
            // A database that was restored or failed over counts on from an earlier transaction.
            Some(oldest) if oldest < self.low => self.low = 0,
            Some(oldest) => self.low = oldest,
            None => {}
        }
    }

    /// Of the rows from the bound on, all up to those of `xid` were moved, and there are more behind them.
    pub(super) fn moved_through(&mut self, xid: i64) {
        // Not beyond what was running: it may still commit rows with a smaller number.
        if let Some(oldest) = self.oldest_running {
            self.low = self.low.max(oldest.min(xid));
        }
    }

    /// It is not known any more what was moved.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn raised_to(oldest: i64) -> ScanBound {
        let mut bound = ScanBound::default();
        bound.running(oldest, NOW);
        bound.found_empty();
        bound
    }

    #[test]
    fn it_rises_to_what_was_running_before_the_inbox_was_found_empty() {
        let mut bound = ScanBound::default();
        bound.found_empty();
        assert_eq!(bound.low(), 0, "nothing is known of what runs");
        bound.running(7, NOW);
        assert_eq!(bound.low(), 0, "rows of smaller ones may be there");
        bound.found_empty();
        assert_eq!(bound.low(), 7);
        bound.found_empty();
        assert_eq!(bound.low(), 7, "what runs now is not known");
    }

    #[test]
    fn what_was_running_counts_until_the_inbox_is_empty() {
        let mut bound = raised_to(7);
        bound.running(9, NOW);
        // A full batch was moved, and there may be more.
        assert_eq!(bound.low(), 7);
        bound.found_empty();
        assert_eq!(bound.low(), 9);
    }

    #[test]
    fn in_a_backlog_it_rises_with_what_was_moved_and_never_beyond_what_was_running() {
        let mut bound = raised_to(7);
        bound.moved_through(50);
        assert_eq!(bound.low(), 7, "it is not known what is running");
        bound.running(40, NOW);
        bound.moved_through(30);
        assert_eq!(bound.low(), 30);
        bound.moved_through(50);
        assert_eq!(bound.low(), 40);
        bound.moved_through(20);
        assert_eq!(bound.low(), 40);
    }

    #[test]
    fn a_database_that_counts_on_from_an_earlier_transaction_is_looked_at_from_the_first() {
        let mut bound = raised_to(1000);
        bound.running(20, NOW);
        bound.found_empty();
        assert_eq!(bound.low(), 0);
        let mut bound = raised_to(1000);
        bound.forget();
        assert_eq!(bound.low(), 0);
        assert!(bound.is_due(NOW));
    }

    #[test]
    fn it_is_renewed_once_a_second() {
        let bound = raised_to(7);
        assert!(!bound.is_due(NOW + RENEWED_EVERY / 2));
        assert!(bound.is_due(NOW + RENEWED_EVERY));
    }
}

//! How several replicas over one database make a revocation effective: leases, and the barrier that waits for them.
//!
//! Each replica holds a row with a `beat` and with the place up to which it has `applied` the log. [`Lease`] is its own view:
//! until when it may answer from what it remembers. [`Barrier`] is the view of whoever waits for a revocation: whether every
//! lease that may still be in use has applied it, and which ones may be fenced because they no longer move. [`Answering`] is a
//! server's right from one lease to the next, and what it may do for it. All are state machines without I/O; time is an argument,
//! measured since boot on the machine that asks ([`crate::clock::boottime`]).
//!
//! # Why it is safe
//!
//! A right begins when its renewal was *sent*, and lasts for [`Terms::right`]; a lease is fenced no sooner than
//! [`Terms::patience`] after its last beat was first *seen*, which is later. However far two clocks drift apart within
//! [`Terms::drift`], the one span is over before the other. A beat that moves meanwhile is found out by the database: the row is
//! fenced only where its beat is still the one that was seen, and the row's lock decides between a renewal and a fence. Two
//! clocks are never compared.
//!
//! # What the statements must be
//!
//! - Joining: `INSERT` the row, unfenced, with `applied` 0; once, never again under this id. Only when it is known to be committed
//!   may the head of the log be read, and from the primary: see [`Lease::load`].
//! - Renewing: `UPDATE … SET beat = beat + 1, applied = greatest(applied, …) WHERE id = … AND NOT fenced`. Every commit moves the
//!   beat, the retry of a renewal whose reply was lost included: hence `beat + 1`, never a number that the replica keeps.
//! - Looking: every row, in one statement with the head of the log; no row is left out because it looks old.
//! - Fencing: `UPDATE … SET fenced WHERE id = … AND beat = …`, with the beat that was seen. A row is never unfenced.
//! - Giving back: `DELETE`, after [`Lease::end`]. Fenced rows may be swept away by anybody.
//!
//! All of them wait until they are durable (`synchronous_commit`): a beat that a crash of the database takes back would look as if
//! it had stood still.

mod answering;
mod barrier;
#[cfg(test)]
mod drift;
mod own;

use std::time::Duration;

pub use answering::{Answering, Next, Right};
pub use barrier::{Barrier, Fencing, LeaseRow, Standing, Verdict};
pub use own::{Lease, Load, Renewal};

/// How long a lease lasts after a renewal.
pub const TTL: Duration = Duration::from_millis(2500);

/// How often a lease is renewed; besides, whenever somebody waits.
pub const RENEWED_EVERY: Duration = Duration::from_millis(500);

/// By how many hundredths a replica's clock may run too fast or too slow.
pub const DRIFT: u32 = 1;

/// What all replicas over one database agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How long a lease lasts after a renewal, by a clock that runs true.
    pub ttl: Duration,
    /// By how many hundredths a clock may run too fast or too slow; under 100.
    pub drift: u32,
}

impl Terms {
    /// The terms of this service.
    pub const STANDARD: Self = Self {
        ttl: TTL,
        drift: DRIFT,
    };

    /// How long a replica may answer from memory after a renewal was sent, by its own clock.
    pub fn right(self) -> Duration {
        self.ttl.saturating_sub(self.allowance())
    }

    /// How long a beat must stand still before the lease may be fenced, by the clock of whoever fences it.
    pub fn patience(self) -> Duration {
        self.ttl.saturating_add(self.allowance())
    }

    /// What a clock can be off by in the life of a lease, rounded up.
    fn allowance(self) -> Duration {
        let hundredths = self.ttl.as_nanos() * u128::from(self.drift);
        Duration::from_nanos(u64::try_from(hundredths.div_ceil(100)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_over_before_patience_is_however_the_clocks_run() {
        let terms = Terms::STANDARD;
        assert_eq!(terms.right(), Duration::from_millis(2475));
        assert_eq!(terms.patience(), Duration::from_millis(2525));
        let odd = Terms {
            ttl: Duration::from_nanos(101),
            ..terms
        };
        assert_eq!(odd.right(), Duration::from_nanos(99), "rounded down");
        assert_eq!(odd.patience(), Duration::from_nanos(103), "rounded up");
    }
}

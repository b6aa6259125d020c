//! The protocol as it is.

use stateright::Checker as _;

use super::{explore, world::Replication};

/// Seconds that a clock goes in a tick: as little as the terms allow, as it should, as much as they allow.
pub(super) const SLOW: u64 = 1;
pub(super) const TRUE: u64 = 2;
pub(super) const FAST: u64 = 3;

/// One replica that may crash, shut down and be fenced, and comes back once. Its clock is slow and the revoker's is fast: the worst
/// there can be.
pub(super) const ONE: Replication = Replication {
    lives: &[2],
    renewals: [3, 2],
    under_way: 1,
    ticks: 3,
    clocks: [SLOW, FAST],
    late_writer: false,
    stops: true,
    sweeping: false,
    shortcut: None,
};

#[test]
fn a_replica_whose_renewals_overtake_each_other_never_answers_too_long() {
    let model = Replication {
        renewals: [4, 2],
        under_way: 2,
        ..ONE
    };
    explore("one replica", model).assert_properties();
}

#[test]
fn two_replicas_never_answer_too_long() {
    let model = Replication {
        lives: &[2, 2],
        stops: false,
        ..ONE
    };
    explore("two replicas", model).assert_properties();
}

#[test]
fn a_replica_that_is_fenced_again_and_again_never_answers_too_long() {
    let model = Replication {
        lives: &[3],
        renewals: [3, 3],
        ticks: 6,
        late_writer: true,
        stops: false,
        sweeping: true,
        ..ONE
    };
    explore("fenced again and again", model).assert_properties();
}

#[test]
fn no_replica_answers_too_long_however_its_clock_and_the_revokers_run() {
    for clocks in [[TRUE, TRUE], [FAST, SLOW], [SLOW, SLOW], [FAST, FAST]] {
        let model = Replication {
            renewals: [3, 3],
            ticks: 8,
            clocks,
            stops: false,
            ..ONE
        };
        explore(&format!("clocks {clocks:?}"), model).assert_properties();
    }
}

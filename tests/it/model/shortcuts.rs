//! Shortcuts that look harmless, each with the wrong answer that it leads to. They are taken one at a time, in a model that is
//! sound without.

use super::{
    assert_counterexample,
    sound::{ONE, SLOW, TRUE},
    steps::SAFE,
    world::Replication,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortcut {
    /// A lease that has not moved for long enough counts as gone; its row is not fenced.
    PlainSelect,
    /// The right to answer is counted from the reply to a renewal.
    FromReply,
    /// The database fences what its wall clock says is old.
    WallClock,
    /// The log is read from a standby.
    Standby,
    /// Who was fenced joins again with what it remembers.
    NoFlush,
    /// The head is read before the lease is committed.
    EarlyHead,
    /// A renewal is acknowledged before it is durable.
    NotDurable,
    /// The revoker reads its clock before it asks for the rows.
    ClockBeforeSnapshot,
    /// A snapshot of the leases counts for places that came after it.
    WithoutHead,
}

fn assert_wrong(shortcut: Shortcut, model: Replication) {
    let model = Replication {
        shortcut: Some(shortcut),
        ..model
    };
    assert_counterexample(&format!("{shortcut:?}"), model, SAFE);
}

#[test]
fn to_count_an_expired_lease_as_gone_without_fencing_it_is_wrong() {
    assert_wrong(Shortcut::PlainSelect, ONE);
}

#[test]
fn to_count_a_right_from_the_reply_is_wrong() {
    assert_wrong(Shortcut::FromReply, ONE);
}

#[test]
fn to_fence_by_the_wall_clock_of_the_database_is_wrong() {
    assert_wrong(Shortcut::WallClock, ONE);
}

#[test]
fn to_read_the_log_from_a_standby_is_wrong() {
    assert_wrong(Shortcut::Standby, ONE);
}

#[test]
fn to_join_again_with_what_is_remembered_is_wrong() {
    assert_wrong(Shortcut::NoFlush, ONE);
}

#[test]
fn to_read_the_head_before_the_lease_is_committed_is_wrong() {
    assert_wrong(Shortcut::EarlyHead, ONE);
}

#[test]
fn to_acknowledge_a_renewal_that_is_not_durable_is_wrong() {
    assert_wrong(Shortcut::NotDurable, ONE);
}

#[test]
fn to_date_a_snapshot_from_before_it_was_asked_for_is_wrong() {
    assert_wrong(Shortcut::ClockBeforeSnapshot, ONE);
}

#[test]
fn to_judge_by_a_snapshot_that_is_older_than_the_entry_is_wrong() {
    assert_wrong(Shortcut::WithoutHead, ONE);
}

/// Not a shortcut of the protocol but of its terms: clocks may drift no further than they allow for.
#[test]
fn a_clock_that_is_off_by_more_than_the_terms_allow_is_wrong() {
    let model = Replication {
        clocks: [SLOW, 6],
        ..ONE
    };
    let halted = Replication {
        clocks: [0, TRUE],
        ..ONE
    };
    for (name, model) in [("too fast", model), ("halted", halted)] {
        assert_counterexample(name, model, SAFE);
    }
}

//! The kinds of fault, and the decks that they are dealt from.

use std::time::Duration;

use crate::support::Dice;
use crate::support::SteppedClock;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history) enum Kind {
    /// Stopped for less than a lease lasts.
    ShortStop,
    /// Stopped for longer.
    LongStop,
    Kill,
    /// The same, and started at once.
    KillAtOnce,
    /// A fourth replica joins, serves and leaves.
    Visit,
    /// The wall clock of one process is set by an hour, forward and back.
    SteppedClock,
    /// Sessions of this name are ended by PostgreSQL.
    Lose(&'static str),
    Cut,
    Silent,
    Deaf,
    Slow,
    /// A transaction that has written is left open.
    HeldTransaction,
    /// The renewal of a lease takes long.
    LateRenewal(Stage, Delay),
    /// A sequencer is stopped when its statement is done and not committed yet.
    LateStep,
    /// Three more give places at once, out of turn, and take half of them back.
    Sequencers,
    /// A transaction that has written is left open for a minute.
    MinuteHere,
    /// The same in another database of the same server.
    MinuteElsewhere,
    /// A snapshot is kept for minutes, while thousands of entries a second are written.
    LongSnapshot,
}

/// When a renewal is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history) enum Stage {
    /// On its way to PostgreSQL.
    Before,
    /// There, by a lock.
    During,
    /// When it is committed, and the replica does not know yet.
    After,
}

/// For how long, by the measure of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history) enum Delay {
    Shorter,
    Longer,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history) enum Hand {
    /// Stops, kills, starts and ends processes.
    Processes,
    /// Cuts, holds up and slows what is between them and PostgreSQL.
    Connections,
    /// Disturbs leases and places.
    Log,
    /// Kills again and again.
    Kills,
    /// Leaves transactions open for long.
    Transactions,
}

const OF_PROCESSES: &[Kind] = &[
    Kind::ShortStop,
    Kind::LongStop,
    Kind::ShortStop,
    Kind::Kill,
    Kind::ShortStop,
    Kind::Visit,
    Kind::LongStop,
];

const OF_CONNECTIONS: &[Kind] = &[
    Kind::Lose("lease"),
    Kind::Lose("barrier"),
    Kind::Lose("tail"),
    Kind::Lose("listener"),
    Kind::Lose("sequencer"),
    Kind::Lose("every"),
    Kind::Cut,
    Kind::Silent,
    Kind::Deaf,
    Kind::Slow,
    Kind::HeldTransaction,
];

const OF_LOG: &[Kind] = &[
    Kind::LateRenewal(Stage::Before, Delay::Shorter),
    Kind::LateRenewal(Stage::During, Delay::Shorter),
    Kind::LateRenewal(Stage::After, Delay::Shorter),
    Kind::LateStep,
    Kind::Sequencers,
];

const OF_LOG_AND_LONG: &[Kind] = &[
    Kind::LateRenewal(Stage::Before, Delay::Longer),
    Kind::LateRenewal(Stage::During, Delay::Longer),
    Kind::LateRenewal(Stage::After, Delay::Longer),
];

const OF_TRANSACTIONS: &[Kind] = &[Kind::MinuteHere, Kind::MinuteElsewhere];

impl Hand {
    const ALL: [Self; 5] = [
        Self::Processes,
        Self::Connections,
        Self::Log,
        Self::Kills,
        Self::Transactions,
    ];

    /// What it deals from: every kind is there, so that each occurs before one occurs again. Some have nothing to do in a short
    /// run.
    pub(super) fn deck(self, long: bool) -> Vec<Kind> {
        let mut deck = match self {
            Self::Processes => OF_PROCESSES,
            Self::Connections => OF_CONNECTIONS,
            Self::Log => OF_LOG,
            Self::Kills if long => &[Kind::KillAtOnce],
            Self::Transactions if long => OF_TRANSACTIONS,
            Self::Kills | Self::Transactions => &[],
        }
        .to_vec();
        if self == Self::Processes && SteppedClock::is_there() {
            deck.push(Kind::SteppedClock);
        }
        if self == Self::Log && long {
            deck.extend(OF_LOG_AND_LONG);
        }
        deck
    }
}

impl Kind {
    /// Every one that occurs.
    pub(in crate::history) fn all(long: bool) -> impl Iterator<Item = Self> {
        let at_the_end = long.then_some(Self::LongSnapshot);
        let dealt = Hand::ALL.iter().flat_map(move |hand| hand.deck(long));
        dealt.chain(at_the_end)
    }

    pub(in crate::history) fn name(self) -> &'static str {
        match self {
            Self::ShortStop => "short stop",
            Self::LongStop => "stop beyond the lease",
            Self::Kill => "kill and restart",
            Self::KillAtOnce => "kill and restart at once",
            Self::Visit => "join and leave",
            Self::SteppedClock => "wall clock set by an hour",
            Self::Lose("lease") => "loss of lease connections",
            Self::Lose("barrier") => "loss of barrier connections",
            Self::Lose("tail") => "loss of tail connections",
            Self::Lose("listener") => "loss of listener connections",
            Self::Lose("sequencer") => "loss of sequencer connections",
            Self::Lose(_) => "loss of all connections",
            Self::Cut => "cut from PostgreSQL",
            Self::Silent => "silence to and from PostgreSQL",
            Self::Deaf => "silence from PostgreSQL",
            Self::Slow => "slow way to PostgreSQL",
            Self::HeldTransaction => "held transaction",
            Self::LateRenewal(stage, Delay::Shorter) => match stage {
                Stage::Before => "renewal late before its commit",
                Stage::During => "renewal late in its commit",
                Stage::After => "renewal late after its commit",
            },
            Self::LateRenewal(stage, Delay::Longer) => match stage {
                Stage::Before => "renewal late before its commit, beyond the lease",
                Stage::During => "renewal late in its commit, beyond the lease",
                Stage::After => "renewal late after its commit, beyond the lease",
            },
            Self::LateStep => "late step of a sequencer",
            Self::Sequencers => "sequencers out of turn",
            Self::MinuteHere => "transaction held for a minute",
            Self::MinuteElsewhere => "transaction held for a minute elsewhere",
            Self::LongSnapshot => "snapshot kept in a flood",
        }
    }

    /// Whether a process is stopped, killed, started or ended, or its clock set.
    pub(super) fn is_of_process(self) -> bool {
        matches!(
            self,
            Self::ShortStop
                | Self::LongStop
                | Self::Kill
                | Self::KillAtOnce
                | Self::Visit
                | Self::SteppedClock
        )
    }

    /// Whether it is done to all of them.
    pub(super) fn is_of_all(self) -> bool {
        matches!(
            self,
            Self::Lose(_)
                | Self::HeldTransaction
                | Self::LateStep
                | Self::Sequencers
                | Self::MinuteHere
                | Self::MinuteElsewhere
                | Self::LongSnapshot
        )
    }

    /// Those that last so long that it matters how revoking went meanwhile.
    pub(in crate::history) fn lasting() -> impl Iterator<Item = Self> {
        let at_the_end = std::iter::once(Self::LongSnapshot);
        OF_TRANSACTIONS.iter().copied().chain(at_the_end)
    }
}

impl Delay {
    pub(super) fn drawn(self, dice: &mut Dice) -> Duration {
        match self {
            Self::Shorter => super::between(dice, 300, 2200),
            Self::Longer => super::between(dice, 2600, 6000),
        }
    }
}

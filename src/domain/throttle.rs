//! How sign-ins are slowed down: what is counted of the attempts under one name or from one network, and what follows from it.
//!
//! An attempt is booked as a failure before anything is compared, so that a process that ends, or many attempts at once, cannot
//! get around the count; what came of it is settled afterwards. Counts begin anew after 24 hours.

use std::time::Duration;

use crate::clock::Timestamp;

/// For how long failures count together.
pub const WINDOW: Duration = Duration::from_hours(24);
/// After how long an attempt counts as over that nobody settled: longer than any call takes.
const ABANDONED: Duration = Duration::from_mins(1);

/// How far apart the clocks of those that count may be. A count that began later than that was begun by a clock set back since.
const CLOCKS_APART: Duration = Duration::from_mins(1);

/// Who is slowed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name, whether or not somebody bears it.
    Name,
    /// A network, where many may sign in: everything comes ten times as late. Attempts beside each other are not limited.
    Network,
}

/// The attempts under one name or from one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// When the count began.
    pub window_start: Timestamp,
    /// Failures since, those that are not settled yet included.
    pub failures: u32,
    /// When the last one was settled; none: none was since the last success.
    pub last_failure: Option<Timestamp>,
    /// Attempts that are not settled yet.
    pub open: u32,
    /// When the last one was booked.
    pub last_booking: Timestamp,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The password was right.
    Right,
    /// It was not.
    Wrong,
    /// It was never compared.
    NotCompared,
}

impl Kind {
    /// How many attempts may be under way at a time.
    fn open_max(self) -> u32 {
        match self {
            Self::Name => 5,
            Self::Network => u32::MAX,
        }
    }

    /// How long after a failure the next attempt may come, when there have been so many; none: not before the window ends.
    fn pause(self, failures: u32) -> Option<Duration> {
        let failures = match self {
            Self::Name => failures,
            Self::Network => failures / 10,
        };
        let seconds = match failures {
            0 => 0,
            1..3 => 1,
            3..9 => 3,
            9..25 => 5,
            25..100 => 10,
            100.. => return None,
        };
        Some(Duration::from_secs(seconds))
    }
}

impl Tally {
    /// Books an attempt at `now`. Where it may not be made: after how long it may.
    pub fn booked(self, kind: Kind, now: Timestamp) -> Result<Self, Duration> {
        let known = self.as_of(now);
        if let Some(wait) = known.wait(kind, now) {
            return Err(wait);
        }
        Ok(Self {
            failures: known.failures.saturating_add(1),
            open: known.open.saturating_add(1),
            last_booking: now,
            ..known
        })
    }

    /// Settles an attempt that was booked. A success clears the count of a name, but for attempts still under way, and never a
    /// network's: whoever has a password of their own must not buy guesses with it.
    #[must_use]
    pub fn settled(self, kind: Kind, outcome: Outcome, now: Timestamp) -> Self {
        let known = self.as_of(now);
        let open = known.open.saturating_sub(1);
        let without = known.failures.saturating_sub(1);
        match (outcome, kind) {
            (Outcome::Wrong, _) => Self {
                open,
                last_failure: Some(now),
                ..known
            },
            (Outcome::Right, Kind::Name) => Self {
                open,
                failures: open,
                last_failure: None,
                ..known
            },
            (Outcome::Right, Kind::Network) | (Outcome::NotCompared, _) => Self {
                open,
                failures: without,
                ..known
            },
        }
    }

    /// Whether nothing is left that counts at `now`.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.window_start + WINDOW <= now
    }

    /// After which moment it counts no more.
    pub fn window_end(&self) -> Timestamp {
        self.window_start + WINDOW
    }

    /// What counts at `now`: nothing of an earlier window, and no attempt that was given up.
    fn as_of(self, now: Timestamp) -> Self {
        if self.is_over(now) || self.window_start > now + CLOCKS_APART {
            return Self {
                window_start: now,
                ..Self::default()
            };
        }
        if self.last_booking + ABANDONED <= now {
            return Self { open: 0, ..self };
        }
        self
    }

    fn wait(&self, kind: Kind, now: Timestamp) -> Option<Duration> {
        if self.open >= kind.open_max() {
            return Some(Duration::from_secs(1));
        }
        let Some(pause) = kind.pause(self.failures) else {
            return Some(self.window_end().since(now));
        };
        let until = self.last_failure? + pause;
        (until > now).then(|| until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn at(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    /// Attempts one after the other, each as soon as it may be made, until one may not before the window ends; when each came.
    fn guesses(kind: Kind) -> Vec<u64> {
        let (mut tally, mut now, mut made) = (Tally::default(), START, Vec::new());
        loop {
            match tally.booked(kind, now) {
                Ok(booked) => {
                    made.push(now.since(START).as_secs());
                    tally = booked.settled(kind, Outcome::Wrong, now);
                }
                Err(wait) if wait > Duration::from_mins(1) => return made,
                Err(wait) => now = now + wait,
            }
        }
    }

    #[test]
    fn pauses_grow_with_the_failures_until_the_window_is_closed() {
        let made = guesses(Kind::Name);
        assert_eq!(made.len(), 100);
        let pauses: Vec<u64> = made.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses[..2], [1; 2]);
        assert_eq!(pauses[2..8], [3; 6]);
        assert_eq!(pauses[8..24], [5; 16]);
        assert_eq!(pauses[24..], [10; 75]);
        assert_eq!(guesses(Kind::Network).len(), 1_000);
    }

    #[test]
    fn the_count_begins_anew_when_the_window_is_over() {
        let mut tally = Tally::default();
        for _ in 0..100 {
            tally = tally.booked(Kind::Network, START).unwrap();
        }
        let last = Tally {
            failures: 100,
            window_start: START,
            ..Tally::default()
        };
        let day = 24 * 3_600;
        assert_eq!(
            last.booked(Kind::Name, at(10)),
            Err(Duration::from_secs(day - 10))
        );
        let anew = last.booked(Kind::Name, at(day)).unwrap();
        assert_eq!((anew.failures, anew.window_start), (1, at(day)));
    }

    #[test]
    fn five_are_compared_at_a_time_and_one_that_was_given_up_makes_room() {
        let mut tally = Tally::default();
        for _ in 0..5 {
            tally = tally.booked(Kind::Name, START).unwrap();
        }
        assert!(tally.booked(Kind::Name, START).is_err());
        assert!(tally.booked(Kind::Name, at(59)).is_err());
        let later = tally.booked(Kind::Name, at(60)).unwrap();
        assert_eq!((later.open, later.failures), (1, 6), "they stay failures");
        let settled = tally.settled(Kind::Name, Outcome::NotCompared, START);
        assert_eq!(settled.failures, 4);
        settled.booked(Kind::Name, START).unwrap();
    }

    #[test]
    fn a_success_clears_a_names_count_and_no_networks() {
        for (kind, left) in [(Kind::Name, 1), (Kind::Network, 4)] {
            let mut tally = Tally::default();
            for second in [0, 10, 20] {
                tally = tally.booked(kind, at(second)).unwrap().settled(
                    kind,
                    Outcome::Wrong,
                    at(second),
                );
            }
            let tally = tally.booked(kind, at(30)).unwrap();
            let tally = tally.booked(kind, at(30)).unwrap();
            let after = tally.settled(kind, Outcome::Right, at(31));
            assert_eq!((after.failures, after.open), (left, 1), "{kind:?}");
        }
    }

    #[test]
    fn a_clock_that_is_a_little_behind_counts_on() {
        let mut tally = Tally::default().booked(Kind::Name, at(60)).unwrap();
        for late in [at(59), at(30), at(1), at(60)] {
            tally = tally.booked(Kind::Name, late).unwrap();
        }
        assert_eq!((tally.failures, tally.open), (5, 5));
        assert!(tally.booked(Kind::Name, at(10)).is_err());
    }

    #[test]
    fn a_clock_set_back_begins_anew_rather_than_locking_out() {
        let tally = Tally {
            failures: 100,
            window_start: at(1_000),
            ..Tally::default()
        };
        assert_eq!(tally.booked(Kind::Name, START).unwrap().failures, 1);
    }
}

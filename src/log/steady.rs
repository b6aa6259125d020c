//! Whether the wall clock is to be believed where it decides what is forgotten for ever.

use std::time::Duration;

use crate::clock::Timestamp;

/// How far the wall clock may go astray between two looks and count as running evenly.
const EVEN: Duration = Duration::from_mins(1);
/// How long it must have run evenly: a machine that starts with a wrong clock, or is set wrong, is set right again by then.
const PROOF: Duration = Duration::from_hours(1);

/// The wall clock beside the time since boot, from one look to the next.
#[derive(Debug)]
pub(super) struct SteadyClock {
    wall: Timestamp,
    boot: Duration,
    since: Duration,
}

impl SteadyClock {
    /// A clock of which nothing is known yet.
    pub(super) fn new(wall: Timestamp, boot: Duration) -> Self {
        Self {
            wall,
            boot,
            since: boot,
        }
    }

    /// Looks at both, and says whether the wall clock has run evenly for an hour.
    pub(super) fn look(&mut self, wall: Timestamp, boot: Duration) -> bool {
        let expected = self.wall + boot.saturating_sub(self.boot);
        if wall.since(expected).max(expected.since(wall)) > EVEN {
            self.since = boot;
        }
        (self.wall, self.boot) = (wall, boot);
        boot.saturating_sub(self.since) >= PROOF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const START: Timestamp = Timestamp::from_seconds(1_000_000);

    #[test]
    fn a_clock_is_believed_once_it_has_run_evenly_for_an_hour() {
        let mut clock = SteadyClock::new(START, Duration::ZERO);
        for minutes in 1..60 {
            assert!(!clock.look(START + MINUTE * minutes, MINUTE * minutes));
        }
        assert!(clock.look(START + MINUTE * 60, MINUTE * 60));
    }

    #[test]
    fn a_clock_that_was_set_is_not_believed_for_an_hour() {
        let day = Duration::from_hours(24);
        for set in [START + day, START - day] {
            let mut clock = SteadyClock::new(START, Duration::ZERO);
            assert!(clock.look(START + MINUTE * 60, MINUTE * 60));
            assert!(!clock.look(set, MINUTE * 61));
            assert!(!clock.look(START + MINUTE * 62, MINUTE * 62), "set back");
            assert!(!clock.look(START + MINUTE * 121, MINUTE * 121));
            assert!(clock.look(START + MINUTE * 122, MINUTE * 122));
        }
    }

    #[test]
    fn a_clock_that_is_drawn_right_little_by_little_is_believed() {
        let mut clock = SteadyClock::new(START, Duration::ZERO);
        let looks = (1..=60).map(|minutes| {
            let wall = START + (MINUTE + Duration::from_secs(30)) * minutes;
            clock.look(wall, MINUTE * minutes)
        });
        assert_eq!(looks.last(), Some(true));
    }
}

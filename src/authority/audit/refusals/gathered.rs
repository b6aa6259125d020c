//! Refusals by whose they are: the first few of a minute, and how many there were beyond.

use std::{collections::HashMap, time::Duration};

use super::refusal::{Refusal, Refused};
use crate::{clock::Timestamp, telemetry::metrics as names};

/// Refusals of one caller that are written one by one in a minute.
pub const ONE_BY_ONE: u32 = 20;
const MINUTE: Duration = Duration::from_mins(1);
/// Callers of one minute that are told apart, and refusals that wait to be written: beyond that they are counted as a metric.
const CALLERS: usize = 4096;
pub(super) const WAITING: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Gathered {
    callers: HashMap<Refused, Minute>,
    waiting: Vec<Refusal>,
}

#[derive(Debug)]
struct Minute {
    began: Timestamp,
    noted: u32,
    /// The last one that was only counted, and how many there are.
    counted: Option<(Refusal, u64)>,
}

impl Gathered {
    pub(super) fn note(&mut self, refusal: Refusal) {
        if !self.callers.contains_key(&refusal.refused) && self.callers.len() >= CALLERS {
            return count_unwritten(1);
        }
        let now = refusal.time;
        let minute = self.callers.entry(refusal.refused.clone());
        let minute = minute.or_insert_with(|| Minute::beginning(now));
        if minute.is_over(now) {
            let sum = minute.counted.take().map(summed);
            *minute = Minute::beginning(now);
            if let Some(sum) = sum {
                self.wait(sum);
            }
            return self.note(refusal);
        }
        if refusal.refused.is_of_one() && minute.noted < ONE_BY_ONE {
            minute.noted += 1;
            return self.wait(refusal);
        }
        let count = minute.counted.as_ref().map_or(0, |(_, count)| *count);
        minute.counted = Some((refusal, count + 1));
    }

    /// Whether it is counted with others of this minute, or there are fewer than `most` who are told apart.
    pub(super) fn has_place_for(&self, refused: &Refused, most: usize) -> bool {
        self.callers.len() < most || self.callers.contains_key(refused)
    }

    pub(super) fn wait(&mut self, refusal: Refusal) {
        if self.waiting.len() < WAITING {
            self.waiting.push(refusal);
        } else {
            count_unwritten(1);
        }
    }

    /// What is to be written by now: one by one, and the sums of minutes that are over.
    pub(super) fn take(&mut self, now: Timestamp, everything: bool) -> Vec<Refusal> {
        let mut due = std::mem::take(&mut self.waiting);
        self.callers.retain(|_, minute| {
            let over = everything || minute.is_over(now);
            if over {
                due.extend(minute.counted.take().map(summed));
            }
            !over
        });
        due
    }
}

impl Minute {
    fn beginning(now: Timestamp) -> Self {
        Self {
            began: now,
            noted: 0,
            counted: None,
        }
    }

    /// Also where the clock was set back.
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.began) >= MINUTE || now < self.began
    }
}

/// The last of many, with their number.
fn summed((mut last, count): (Refusal, u64)) -> Refusal {
    last.details.insert("count".to_owned(), count.to_string());
    last
}

pub(super) fn count_unwritten(count: u64) {
    metrics::counter!(names::AUDIT_REFUSALS_UNWRITTEN).increment(count);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{authority::audit::refusals::refusal::Whose, domain::ids::UserId, error::Reason};

    fn refusal(user: &str, second: i64) -> Refusal {
        Refusal {
            refused: Refused {
                whose: Whose::Caller(UserId::known(user), None),
                space: None,
            },
            time: Timestamp::from_seconds(second),
            resource: String::new(),
            reason: Reason::PermissionMissing,
            client_address: String::new(),
            request_id: String::new(),
            details: BTreeMap::new(),
        }
    }

    fn counts(refusals: &[Refusal]) -> Vec<String> {
        let counts = refusals
            .iter()
            .filter_map(|refusal| refusal.details.get("count").cloned());
        counts.collect()
    }

    #[test]
    fn a_flood_is_counted_and_another_caller_is_not_touched_by_it() {
        let mut gathered = Gathered::default();
        for _ in 0..1000 {
            gathered.note(refusal("mallory", 10));
        }
        gathered.note(refusal("alice", 10));
        let now = gathered.take(Timestamp::from_seconds(11), false);
        assert_eq!(now.len(), ONE_BY_ONE as usize + 1);
        assert!(counts(&now).is_empty());
        assert!(gathered.take(Timestamp::from_seconds(69), false).is_empty());
        let later = gathered.take(Timestamp::from_seconds(70), false);
        assert_eq!(counts(&later), ["980"]);
        assert!(gathered.callers.is_empty());
    }

    #[test]
    fn the_next_minute_begins_anew_with_the_sum_of_the_one_before() {
        let mut gathered = Gathered::default();
        for second in [0, 59, 60] {
            for _ in 0..30 {
                gathered.note(refusal("mallory", second));
            }
        }
        let due = gathered.take(Timestamp::from_seconds(61), false);
        assert_eq!(counts(&due), ["40"]);
        assert_eq!(due.len(), 2 * ONE_BY_ONE as usize + 1);
        let rest = gathered.take(Timestamp::from_seconds(61), true);
        assert_eq!(counts(&rest), ["10"]);
    }

    #[test]
    fn many_callers_do_not_fill_the_memory() {
        let mut gathered = Gathered::default();
        for number in 0..2 * CALLERS {
            for _ in 0..10 {
                gathered.note(refusal(&number.to_string(), 0));
            }
        }
        assert_eq!(gathered.callers.len(), CALLERS);
        assert_eq!(gathered.waiting.len(), WAITING);
    }
}

//! Refusals to callers that are known: gathered in memory and written soon after, so that no refusal waits for the database,
//! and what is told and how fast does not show whether there was something to write.
//!
//! A flood is counted, not stored: of each caller's refusals the first few in a minute are written one by one, the others as
//! one event with their number.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    authority::{Authority, caller::Caller},
    clock::Timestamp,
    domain::{
        audit::{Event, Outcome},
        ids::{ApiKeyId, AuditEventId, SpaceId, UserId},
    },
    error::{Error, Reason, Result, reason_name},
    storage,
    telemetry::metrics as names,
};

/// What a refused call is written down as; the details say which method.
pub const ACTION: &str = "method.call";

/// Refusals of one caller that are written one by one in a minute.
pub const ONE_BY_ONE: u32 = 20;
const MINUTE: Duration = Duration::from_mins(1);
/// Callers of one minute that are told apart, and refusals that wait to be written: beyond that they are counted as a metric.
const CALLERS: usize = 4096;
const WAITING: usize = 16_384;

/// Refusals that are not written yet.
#[derive(Debug)]
pub struct Refusals(Mutex<Gathered>);

impl Default for Refusals {
    fn default() -> Self {
        // An alert needs to see it before there is anything to count.
        count_unwritten(0);
        Self(Mutex::default())
    }
}

#[derive(Debug, Default)]
struct Gathered {
    callers: HashMap<Refused, Minute>,
    waiting: Vec<Refusal>,
}

/// Whose refusals are counted together: those that different people may read are not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Refused {
    user: UserId,
    api_key: Option<ApiKeyId>,
    /// Who reads of it: the caller's space. None where something was withheld that exists: that is for those alone who see
    /// every space, or whoever reads the audit log of its own space would learn of it there.
    space: Option<SpaceId>,
}

#[derive(Debug)]
struct Minute {
    began: Timestamp,
    noted: u32,
    /// The last one that was only counted, and how many there are.
    counted: Option<(Refusal, u64)>,
}

#[derive(Debug, Clone)]
struct Refusal {
    refused: Refused,
    time: Timestamp,
    resource: String,
    reason: Reason,
    client_address: String,
    request_id: String,
    details: BTreeMap<String, String>,
}

impl Refusals {
    /// The call of `method` was refused. What is not a refusal is not noted: a lack of permission is, and so is "not found" for
    /// what exists; whatever else fails is the caller's affair.
    pub fn note(&self, caller: &Caller, method: &str, error: &Error, now: Timestamp) {
        if let Some(refusal) = Refusal::of(caller, method, error, now) {
            self.lock().note(refusal);
        }
    }

    /// What is to be written by now: one by one, and the sums of minutes that are over.
    fn take(&self, now: Timestamp, everything: bool) -> Vec<Refusal> {
        let mut gathered = self.lock();
        let mut due = std::mem::take(&mut gathered.waiting);
        gathered.callers.retain(|_, minute| {
            let over = everything || minute.is_over(now);
            if over {
                due.extend(minute.counted.take().map(summed));
            }
            !over
        });
        due
    }

    /// What could not be written waits for the next time, as far as there is room.
    fn put_back(&self, refusals: Vec<Refusal>) {
        let mut gathered = self.lock();
        for refusal in refusals {
            gathered.wait(refusal);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn note(&mut self, refusal: Refusal) {
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
        if minute.noted < ONE_BY_ONE {
            minute.noted += 1;
            return self.wait(refusal);
        }
        let count = minute.counted.as_ref().map_or(0, |(_, count)| *count);
        minute.counted = Some((refusal, count + 1));
    }

    fn wait(&mut self, refusal: Refusal) {
        if self.waiting.len() < WAITING {
            self.waiting.push(refusal);
        } else {
            count_unwritten(1);
        }
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

impl Refusal {
    fn of(caller: &Caller, method: &str, error: &Error, now: Timestamp) -> Option<Self> {
        let withheld = error.withheld_resource();
        let denied = matches!(
            error.reason(),
            Reason::PermissionMissing | Reason::ExceedsGrant
        );
        if !denied && withheld.is_none() {
            return None;
        }
        let mut details = BTreeMap::from([("method".to_owned(), method.to_owned())]);
        for (key, value) in error.metadata() {
            details.insert((*key).to_owned(), value.clone());
        }
        Some(Self {
            refused: Refused {
                user: caller.user_id().clone(),
                api_key: caller.api_key_id().cloned(),
                space: denied.then(|| caller.space_id().clone()),
            },
            time: now,
            resource: withheld.unwrap_or_default().to_owned(),
            reason: error.reason(),
            client_address: caller.call.client_address.clone(),
            request_id: caller.call.request_id.clone(),
            details,
        })
    }

    fn event(&self) -> Result<Event> {
        Ok(Event {
            id: AuditEventId::new(self.time)?,
            event_time: self.time,
            space_id: self.refused.space.clone(),
            actor_user_id: Some(self.refused.user.clone()),
            actor_api_key_id: self.refused.api_key.clone(),
            action: ACTION.to_owned(),
            resource_id: self.resource.clone(),
            outcome: Outcome::Denied,
            error_reason: reason_name(self.reason).to_owned(),
            client_address: self.client_address.clone(),
            request_id: self.request_id.clone(),
            details: self.details.clone(),
        })
    }
}

/// The last of many, with their number.
fn summed((mut last, count): (Refusal, u64)) -> Refusal {
    last.details.insert("count".to_owned(), count.to_string());
    last
}

fn count_unwritten(count: u64) {
    metrics::counter!(names::AUDIT_REFUSALS_UNWRITTEN).increment(count);
}

/// Refusals written in one transaction.
const BATCH: usize = 256;

/// Writes down what is due.
pub async fn write(authority: &Authority) -> Result<()> {
    write_some(authority, false).await
}

/// Writes down everything, the sums of minutes that are not over included: the server ends.
pub async fn write_all(authority: &Authority) -> Result<()> {
    write_some(authority, true).await
}

async fn write_some(authority: &Authority, everything: bool) -> Result<()> {
    let mut due = authority.refusals.take(authority.clock.now(), everything);
    while !due.is_empty() {
        let later = due.split_off(due.len().min(BATCH));
        if let Err(error) = insert(authority, &due).await {
            due.extend(later);
            authority.refusals.put_back(due);
            return Err(error);
        }
        due = later;
    }
    Ok(())
}

async fn insert(authority: &Authority, refusals: &[Refusal]) -> Result<()> {
    let transaction = authority.db.begin().await?;
    for refusal in refusals {
        storage::audit::insert(&transaction, &refusal.event()?).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(user: &str, second: i64) -> Refusal {
        Refusal {
            refused: Refused {
                user: UserId::known(user),
                api_key: None,
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
        let refusals = Refusals::default();
        for _ in 0..1000 {
            refusals.lock().note(refusal("mallory", 10));
        }
        refusals.lock().note(refusal("alice", 10));
        let now = refusals.take(Timestamp::from_seconds(11), false);
        assert_eq!(now.len(), ONE_BY_ONE as usize + 1);
        assert!(counts(&now).is_empty());
        assert!(refusals.take(Timestamp::from_seconds(69), false).is_empty());
        let later = refusals.take(Timestamp::from_seconds(70), false);
        assert_eq!(counts(&later), ["980"]);
        assert!(refusals.lock().callers.is_empty());
    }

    #[test]
    fn the_next_minute_begins_anew_with_the_sum_of_the_one_before() {
        let refusals = Refusals::default();
        for second in [0, 59, 60] {
            for _ in 0..30 {
                refusals.lock().note(refusal("mallory", second));
            }
        }
        let due = refusals.take(Timestamp::from_seconds(61), false);
        assert_eq!(counts(&due), ["40"]);
        assert_eq!(due.len(), 2 * ONE_BY_ONE as usize + 1);
        let rest = refusals.take(Timestamp::from_seconds(61), true);
        assert_eq!(counts(&rest), ["10"]);
    }

    #[test]
    fn many_callers_do_not_fill_the_memory() {
        let refusals = Refusals::default();
        for number in 0..2 * CALLERS {
            for _ in 0..10 {
                refusals.lock().note(refusal(&number.to_string(), 0));
            }
        }
        let gathered = refusals.lock();
        assert_eq!(gathered.callers.len(), CALLERS);
        assert_eq!(gathered.waiting.len(), WAITING);
    }
}

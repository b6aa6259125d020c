//! What subscribers may rely on. They cover every space.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Violation, at, tell_revocation};
use crate::history::record::{Entry, Leg, Record, Subject, Subscriber, Told, What};

/// Each stream has, from the place that it was to begin after, every place once and in order; and each message names the place up
/// to which everything was sent.
pub(super) fn ordered(record: &Record) -> Vec<Violation> {
    let mut found = Vec::new();
    for (subscriber, leg) in legs(record) {
        let mut reached = leg.after.unwrap_or_default();
        for message in &leg.messages {
            let before = reached;
            let mut in_order = true;
            for entry in message.entries() {
                in_order &= entry.position == reached + 1;
                reached = entry.position;
            }
            if !in_order || message.position != reached {
                let what = format!("after {before} came {}", tell_message(message));
                found.push(Violation(vec![tell_leg(record, subscriber, leg), what]));
                break;
            }
        }
    }
    found
}

/// A place has one entry and an entry one place, whoever tells of it and however often.
pub(super) fn unique(record: &Record) -> Vec<Violation> {
    let mut at_place: BTreeMap<u64, &Entry> = BTreeMap::new();
    let mut of_event: HashMap<&str, u64> = HashMap::new();
    let mut found = Vec::new();
    for entry in record.subscribers.iter().flat_map(Subscriber::entries) {
        let first = *at_place.entry(entry.position).or_insert(entry);
        let place = *of_event.entry(&entry.event).or_insert(entry.position);
        if first != entry || place != entry.position {
            found.push(Violation(vec![format!("{first:?}"), format!("{entry:?}")]));
        }
    }
    found
}

/// Every acknowledged revocation is told to every subscriber, at the place that was acknowledged.
pub(super) fn reliable(record: &Record) -> Vec<Violation> {
    let mut found = Vec::new();
    for subscriber in &record.subscribers {
        let mut places: HashMap<(u64, &str), BTreeSet<&str>> = HashMap::new();
        let mut subjects: BTreeSet<&str> = BTreeSet::new();
        for entry in subscriber.entries().filter(|entry| entry.kills) {
            subjects.insert(&entry.subject);
            let key = (entry.position, &*entry.subject);
            places.entry(key).or_default().insert(&entry.space);
        }
        for revocation in &record.revocations {
            let Ok(effect) = &revocation.answer else {
                continue;
            };
            let key = revocation.subject.key();
            let told = match effect.position {
                0 => subjects.contains(key.as_str()),
                position => places
                    .get(&(position, key.as_str()))
                    .is_some_and(|spaces| is_in(&revocation.subject, spaces)),
            };
            if !told {
                let whom = format!("subscriber {} was never told", subscriber.name);
                found.push(Violation(vec![tell_revocation(record, revocation), whom]));
            }
        }
    }
    found
}

fn is_in(subject: &Subject, spaces: &BTreeSet<&str>) -> bool {
    match subject {
        Subject::User { spaces: wanted, .. } => {
            wanted.iter().any(|space| spaces.contains(space.as_str()))
        }
        Subject::Role { space, .. } => spaces.contains(space.as_str()),
        Subject::Token(_) | Subject::Session(_) | Subject::ApiKey(_) => true,
    }
}

/// Of a change of several entries a subscriber has all, side by side, or none.
pub(super) fn atomic(record: &Record) -> Vec<Violation> {
    let mut found = Vec::new();
    for subscriber in &record.subscribers {
        let mut of_user: BTreeMap<&str, BTreeMap<u64, &str>> = BTreeMap::new();
        for entry in subscriber.entries().filter(|entry| entry.kills) {
            if let Some(user) = entry.subject.strip_prefix("user ")
                && record.as_one.contains_key(user)
            {
                let places = of_user.entry(user).or_default();
                places.insert(entry.position, &entry.space);
            }
        }
        for (user, places) in of_user {
            let wanted: BTreeSet<&str> = record.as_one[user].iter().map(String::as_str).collect();
            let places: Vec<(u64, &str)> = places.into_iter().collect();
            // One change of a user waits for the other: their entries do not mix.
            for change in places.chunks(wanted.len()) {
                let spaces: BTreeSet<&str> = change.iter().map(|&(_, space)| space).collect();
                let dense = change.windows(2).all(|two| two[0].0 + 1 == two[1].0);
                if spaces != wanted || !dense {
                    let whom = format!("subscriber {} has of a change of {user}", subscriber.name);
                    found.push(Violation(vec![
                        format!("{whom}: {change:?}"),
                        format!("it is about the spaces {wanted:?}"),
                    ]));
                }
            }
        }
    }
    found
}

/// No replica refuses a cursor that another gave, and whoever goes on from it holds all from the first place to the last.
pub(super) fn resumable(record: &Record) -> Vec<Violation> {
    let mut found = Vec::new();
    for (subscriber, leg) in legs(record) {
        if let Some(failure) = &leg.failure
            && failure.reason.starts_with("CURSOR_")
        {
            let why = format!("ended with {failure}");
            found.push(Violation(vec![tell_leg(record, subscriber, leg), why]));
        }
    }
    for subscriber in &record.subscribers {
        let held: BTreeSet<u64> = subscriber.entries().map(|entry| entry.position).collect();
        let last = subscriber.messages().map(|message| message.position).max();
        let missing: Vec<u64> = (1..=last.unwrap_or_default())
            .filter(|place| !held.contains(place))
            .take(10)
            .collect();
        if !missing.is_empty() {
            let what = format!("subscriber {} holds none of {missing:?}", subscriber.name);
            found.push(Violation(vec![what]));
        }
    }
    found
}

/// A heartbeat whose `read_time` is later than the moment at which a revocation had been acknowledged is not at a place before it;
/// it does not come before it was read, and no later one of its stream was read earlier. Where the wall clock of its server was set
/// elsewhere, a `read_time` from there says nothing.
pub(super) fn bounded_staleness(record: &Record) -> Vec<Violation> {
    let mut acknowledged: Vec<(i64, u64)> = record
        .revocations
        .iter()
        .filter_map(|revocation| revocation.answer.as_ref().ok())
        .map(|effect| (effect.acknowledged, effect.position))
        .collect();
    acknowledged.sort_unstable();
    let mut highest = 0;
    for (_, position) in &mut acknowledged {
        highest = highest.max(*position);
        *position = highest;
    }
    let known_at = |moment: i64| {
        let earlier = acknowledged.partition_point(|&(known, _)| known < moment);
        earlier
            .checked_sub(1)
            .map_or(0, |last| acknowledged[last].1)
    };
    let mut found = Vec::new();
    for (subscriber, leg) in legs(record) {
        let mut read_before = i64::MIN;
        for message in &leg.messages {
            let What::Heartbeat(read_time) = message.what else {
                continue;
            };
            if is_from_elsewhere(record, leg, message.arrived, read_time) {
                continue;
            }
            let known = known_at(read_time);
            if message.position < known || message.arrived < read_time || read_time < read_before {
                found.push(Violation(vec![
                    tell_leg(record, subscriber, leg),
                    format!("told {}, arrived at {}", tell_message(message), message.arrived),
                    format!("{known} was acknowledged before it was read; the one before was read at {read_before}"),
                ]));
            }
            read_before = read_time;
        }
    }
    found
}

fn is_from_elsewhere(record: &Record, leg: &Leg, arrived: i64, read_time: i64) -> bool {
    const FAR: u64 = 30 * 60 * 1_000_000;
    let stepped = &mut record.stepped.iter();
    stepped.any(|stepped| stepped.replica == leg.replica) && arrived.abs_diff(read_time) > FAR
}

fn legs(record: &Record) -> impl Iterator<Item = (&Subscriber, &Leg)> {
    record
        .subscribers
        .iter()
        .flat_map(|subscriber| subscriber.legs.iter().map(move |leg| (subscriber, leg)))
}

fn tell_leg(record: &Record, subscriber: &Subscriber, leg: &Leg) -> String {
    let (begun, name, replica) = (at(record, leg.begun), &subscriber.name, &leg.replica);
    match leg.after {
        None => format!("{begun}  subscriber {name} at {replica}, from the floor"),
        Some(after) => format!("{begun}  subscriber {name} at {replica}, after {after}"),
    }
}

fn tell_message(message: &Told) -> String {
    let position = message.position;
    match &message.what {
        What::Entries(entries) => {
            let places: Vec<u64> = entries.iter().map(|entry| entry.position).collect();
            format!("entries {places:?}, position {position}")
        }
        other => format!("{other:?}, position {position}"),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::history::{
        record::{Failure, Stepped},
        validators::samples::{batch, entry, leg, not_effective, revoked, span, told, watched},
    };

    #[test]
    fn a_gap_a_repetition_and_a_place_that_is_not_reached_are_out_of_order() {
        let told = |after, messages| ordered(&watched(vec![leg(after, messages)])).len();
        assert_eq!(told(None, vec![batch(&[1, 2]), batch(&[3])]), 0);
        assert_eq!(told(None, vec![batch(&[1, 3])]), 1);
        assert_eq!(told(None, vec![batch(&[2])]), 1);
        assert_eq!(told(Some(4), vec![batch(&[4, 5])]), 1);
        assert_eq!(told(Some(4), vec![batch(&[5]), batch(&[5])]), 1);
        let mut ahead = batch(&[5]);
        ahead.position = 6;
        assert_eq!(told(Some(4), vec![ahead]), 1);
    }

    #[test]
    fn two_entries_at_one_place_and_one_entry_at_two_places_are_found() {
        let told = |entries| {
            let message = told(2, What::Entries(entries));
            unique(&watched(vec![leg(None, vec![message])])).len()
        };
        let [one, two] = [entry(1, "session s"), entry(2, "session s")];
        assert_eq!(told(vec![one.clone(), two.clone(), two.clone()]), 0);
        let again = Entry {
            position: 2,
            ..one.clone()
        };
        assert_eq!(told(vec![one.clone(), again]), 1);
        let other = Entry {
            event: "other".to_owned(),
            ..one.clone()
        };
        assert_eq!(told(vec![one, other]), 1);
    }

    #[test]
    fn an_acknowledged_revocation_that_a_subscriber_was_not_told_of_is_found() {
        let told = |revocation, places: &[u64]| {
            let mut record = watched(vec![leg(None, vec![batch(places)])]);
            record.revocations.push(revocation);
            reliable(&record).len()
        };
        assert_eq!(told(revoked("session s", 1, 2, 2), &[1, 2]), 0);
        assert_eq!(told(revoked("session s", 1, 2, 3), &[1, 2]), 1);
        assert_eq!(
            told(revoked("session t", 1, 2, 2), &[1, 2]),
            1,
            "it is another's"
        );
        assert_eq!(told(not_effective(revoked("session s", 1, 2, 0)), &[1]), 0);
        assert_eq!(told(not_effective(revoked("session t", 1, 2, 0)), &[1]), 1);
    }

    #[test]
    fn half_a_change_and_one_that_is_torn_apart_are_found() {
        let told = |places: &[(u64, &str)]| {
            let entries = places.iter().map(|&(place, space)| Entry {
                space: space.into(),
                ..entry(place, "user w")
            });
            let message = told(9, What::Entries(entries.collect()));
            atomic(&watched(vec![leg(None, vec![message])])).len()
        };
        assert_eq!(told(&[]), 0);
        assert_eq!(told(&[(1, "home"), (2, "away")]), 0);
        assert_eq!(told(&[(1, "home")]), 1);
        assert_eq!(told(&[(1, "home"), (3, "away")]), 1);
        assert_eq!(told(&[(1, "home"), (2, "home")]), 1);
    }

    #[test]
    fn a_refused_cursor_and_a_place_between_two_streams_are_found() {
        let told = |legs| resumable(&watched(legs)).len();
        let first = || leg(None, vec![batch(&[1, 2])]);
        assert_eq!(told(vec![first(), leg(Some(2), vec![batch(&[3])])]), 0);
        assert_eq!(told(vec![first(), leg(Some(1), vec![batch(&[2, 3])])]), 0);
        assert_eq!(told(vec![first(), leg(Some(2), vec![batch(&[4])])]), 1);
        let refused = |code, reason: &str| Leg {
            failure: Some(Failure {
                code,
                reason: reason.to_owned(),
                instead: String::new(),
            }),
            ..leg(Some(2), vec![])
        };
        assert_eq!(
            told(vec![first(), refused(Code::OutOfRange, "CURSOR_EXPIRED")]),
            1
        );
        assert_eq!(
            told(vec![
                first(),
                refused(Code::Unavailable, "DATABASE_UNAVAILABLE")
            ]),
            0
        );
    }

    #[test]
    fn a_heartbeat_that_does_not_know_what_was_acknowledged_before_it_was_read_is_found() {
        let beat = |read_time, position| Told {
            arrived: 60_000,
            ..told(position, What::Heartbeat(read_time))
        };
        let told = |beats| {
            let mut record = watched(vec![leg(None, beats)]);
            record.revocations.push(revoked("session s", 20, 30, 7));
            bounded_staleness(&record).len()
        };
        assert_eq!(told(vec![beat(29_000, 6), beat(31_000, 7)]), 0);
        assert_eq!(told(vec![beat(30_001, 6)]), 1);
        assert_eq!(
            told(vec![beat(40_000, 7), beat(39_000, 7)]),
            1,
            "back in time"
        );
        assert_eq!(told(vec![beat(61_000, 7)]), 1, "from the future");
        let hour = 3600 * 1_000_000;
        let elsewhere = vec![
            beat(31_000, 7),
            beat(hour, 7),
            beat(-hour, 6),
            beat(32_000, 7),
        ];
        assert_eq!(told(elsewhere.clone()), 2);
        let mut record = watched(vec![leg(None, elsewhere)]);
        record.stepped.push(Stepped {
            replica: "a".to_owned(),
            span: span(0, 1),
        });
        assert_eq!(bounded_staleness(&record), vec![], "its clock was set");
    }
}

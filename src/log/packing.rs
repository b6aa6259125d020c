//! Entries that follow each other in a tenth of the room: ids as the numbers they are, moments by how far they are apart, places
//! and spaces said once.

use std::sync::Arc;

use super::packed_id::{self, PackedId};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{ApiKeyId, EventId, RoleName, SessionId, SigningKeyId, SpaceId, TokenId, UserId},
        revocation::{Decision, Entry, FORGET_AFTER, Kind, Position, Reason, Subject},
    },
};

/// What the first byte of an entry says besides the kind of its subject.
const CHANGE: u8 = 1;
const IN_SPACE: u8 = 2;
const SPARES: u8 = 4;
const DELAYED: u8 = 8;
const SUBJECT: u32 = 4;

/// Entries that follow each other.
#[derive(Debug)]
pub(super) struct Pack {
    first: Position,
    count: usize,
    forget_time: Timestamp,
    spaces: Box<[SpaceId]>,
    bytes: Box<[u8]>,
}

impl Pack {
    /// Packs entries whose places follow each other.
    pub(super) fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let (mut first, mut count) = (None, 0);
        let (mut bytes, mut spaces) = (Vec::new(), Vec::new());
        let mut before = Timestamp::default();
        let mut forget_time = before;
        for entry in entries {
            first = first.or(Some(entry.position));
            count += 1;
            pack(entry, before, &mut spaces, &mut bytes);
            before = entry.create_time;
            forget_time = forget_time.max(entry.forget_time);
        }
        Self {
            first: first.unwrap_or_default(),
            count,
            forget_time,
            spaces: spaces.into(),
            bytes: bytes.into(),
        }
    }

    pub(super) fn first(&self) -> Position {
        self.first
    }

    pub(super) fn last(&self) -> Position {
        Position((self.first.0 + self.count as u64).saturating_sub(1))
    }

    /// From then on nothing that these kill can be alive.
    pub(super) fn forget_time(&self) -> Timestamp {
        self.forget_time
    }

    /// Up to `limit` of its entries after `position`.
    pub(super) fn after(&self, position: Position, limit: usize) -> Vec<Arc<Entry>> {
        let mut unpacking = Unpacking(&self.bytes);
        let mut before = Timestamp::default();
        let mut entries = Vec::with_capacity(limit.min(self.count));
        for place in (self.first.0..).take(self.count) {
            if entries.len() == limit {
                break;
            }
            let packed = Packed::next(&mut unpacking, before);
            before = packed.create_time;
            if place > position.0 {
                entries.push(Arc::new(packed.unpack(Position(place), &self.spaces)));
            }
        }
        entries
    }
}

fn pack(entry: &Entry, before: Timestamp, spaces: &mut Vec<SpaceId>, bytes: &mut Vec<u8>) {
    let decision = &entry.decision;
    let mut head = subject_number(&decision.subject) << SUBJECT;
    let mut note = |said: bool, bit| head |= if said { bit } else { 0 };
    note(decision.kind == Kind::Change, CHANGE);
    note(decision.space_id.is_some(), IN_SPACE);
    note(decision.sessions_until.is_some(), SPARES);
    note(decision.effective_time.is_some(), DELAYED);
    bytes.push(head);
    packed_id::pack(entry.event_id.as_str(), bytes);
    packed_id::pack(decision.subject.kind_and_id().1, bytes);
    if let Some(space) = &decision.space_id {
        let known = spaces.iter().position(|known| known == space);
        let place = known.unwrap_or(spaces.len());
        if known.is_none() {
            spaces.push(space.clone());
        }
        number(bytes, place as u64);
    }
    let usual = entry.forget_time == usual_forget_time(entry.create_time);
    let reason = u64::from((decision.reason as i32).unsigned_abs());
    number(bytes, reason << 1 | u64::from(usual));
    span(bytes, before, entry.create_time);
    if !usual {
        span(bytes, entry.create_time, entry.forget_time);
    }
    let rare = [decision.sessions_until, decision.effective_time];
    for moment in rare.into_iter().flatten() {
        span(bytes, entry.create_time, moment);
    }
}

/// What is not said of most entries, since it follows from when they were decided.
fn usual_forget_time(create_time: Timestamp) -> Timestamp {
    create_time + FORGET_AFTER
}

/// An entry whose ids are still packed.
struct Packed<'a> {
    head: u8,
    event_id: PackedId<'a>,
    subject_id: PackedId<'a>,
    space: Option<usize>,
    create_time: Timestamp,
    forget_time: Timestamp,
    sessions_until: Option<Timestamp>,
    effective_time: Option<Timestamp>,
    reason: u64,
}

impl<'a> Packed<'a> {
    fn next(unpacking: &mut Unpacking<'a>, before: Timestamp) -> Self {
        let head = unpacking.byte();
        let event_id = PackedId::next(unpacking);
        let subject_id = PackedId::next(unpacking);
        let space = (head & IN_SPACE != 0).then(|| unpacking.number());
        let reason = unpacking.number();
        let create_time = unpacking.moment(before);
        let forget_time = match reason & 1 {
            1 => usual_forget_time(create_time),
            _ => unpacking.moment(create_time),
        };
        let sessions_until = (head & SPARES != 0).then(|| unpacking.moment(create_time));
        let effective_time = (head & DELAYED != 0).then(|| unpacking.moment(create_time));
        Self {
            head,
            event_id,
            subject_id,
            space: space.map(|place| usize::try_from(place).unwrap_or(usize::MAX)),
            create_time,
            forget_time,
            sessions_until,
            effective_time,
            reason: reason >> 1,
        }
    }

    fn unpack(&self, position: Position, spaces: &[SpaceId]) -> Entry {
        let kind = if self.head & CHANGE == 0 {
            Kind::Revocation
        } else {
            Kind::Change
        };
        let reason = i32::try_from(self.reason).unwrap_or_default();
        let subject = |id: &str| subject(self.head >> SUBJECT, id);
        Entry {
            event_id: self.event_id.unpack(|id| EventId::known(id)),
            position,
            decision: Decision {
                kind,
                subject: self.subject_id.unpack(subject),
                space_id: self.space.and_then(|place| spaces.get(place).cloned()),
                sessions_until: self.sessions_until,
                effective_time: self.effective_time,
                reason: Reason::try_from(reason).unwrap_or_default(),
            },
            create_time: self.create_time,
            forget_time: self.forget_time,
        }
    }
}

fn subject_number(subject: &Subject) -> u8 {
    match subject {
        Subject::Unknown => 0,
        Subject::Token(_) => 1,
        Subject::Session(_) => 2,
        Subject::User(_) => 3,
        Subject::ApiKey(_) => 4,
        Subject::Role(_) => 5,
        Subject::Space(_) => 6,
        Subject::SigningKey(_) => 7,
        Subject::Everything => 8,
    }
}

fn subject(number: u8, id: &str) -> Subject {
    match number {
        1 => Subject::Token(TokenId::known(id)),
        2 => Subject::Session(SessionId::known(id)),
        3 => Subject::User(UserId::known(id)),
        4 => Subject::ApiKey(ApiKeyId::known(id)),
        5 => Subject::Role(RoleName::known(id)),
        6 => Subject::Space(SpaceId::known(id)),
        7 => Subject::SigningKey(SigningKeyId::known(id)),
        8 => Subject::Everything,
        _ => Subject::Unknown,
    }
}

/// Seven bits in a byte, the lowest first; the eighth says that there are more.
pub(super) fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// The time from one moment to another, whichever is later.
fn span(bytes: &mut Vec<u8>, from: Timestamp, to: Timestamp) {
    let span = to.micros().wrapping_sub(from.micros());
    number(bytes, ((span << 1) ^ (span >> 63)).cast_unsigned());
}

/// What is left of packed bytes. There is always as much as is asked for: they were packed here.
#[derive(Debug)]
pub(super) struct Unpacking<'a>(&'a [u8]);

impl<'a> Unpacking<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub(super) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(count).unwrap_or_default();
        self.0 = rest;
        taken
    }

    pub(super) fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 63 {
                return number;
            }
        }
    }

    fn moment(&mut self, from: Timestamp) -> Timestamp {
        let number = self.number();
        let span = (number >> 1).cast_signed() ^ -((number & 1).cast_signed());
        Timestamp::from_micros(from.micros().wrapping_add(span))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment() -> impl Strategy<Value = Timestamp> {
        let moment = prop_oneof![any::<i64>(), 0..2_000_000_000_000_000_i64];
        moment.prop_map(Timestamp::from_micros)
    }

    fn id() -> impl Strategy<Value = String> {
        let of_ours = |number: u128| {
            let letters = crate::domain::ids::base32(number);
            std::str::from_utf8(&letters).unwrap().to_owned()
        };
        prop_oneof![
            any::<u128>().prop_map(move |number| format!("rev_{}", of_ours(number))),
            any::<u128>().prop_map(move |number| format!("spc_{}", of_ours(number))),
            "[A-Za-z0-9_-]{21}[AQgw]",
            "[A-Za-z0-9_-]{22}",
            "(rev|usr|spc|aud)_[0-9a-z]{26}",
            "[ -~]{0,128}",
            "\\PC{0,9}",
        ]
    }

    prop_compose! {
        fn entry()(
            (event_id, subject_id, number) in (id(), id(), 0_u8..9),
            space in prop::option::of(id()),
            change: bool,
            (sessions_until, effective_time) in
                (prop::option::of(moment()), prop::option::of(moment())),
            (create_time, forget_time) in (moment(), prop::option::of(moment())),
            reason in 0..7,
        ) -> Entry {
            let forget_time = forget_time.unwrap_or(create_time + FORGET_AFTER);
            Entry {
                event_id: EventId::known(event_id),
                position: Position(0),
                decision: Decision {
                    kind: if change { Kind::Change } else { Kind::Revocation },
                    subject: subject(number, &subject_id),
                    space_id: space.map(SpaceId::known),
                    sessions_until,
                    effective_time,
                    reason: Reason::try_from(reason).unwrap(),
                },
                create_time,
                forget_time,
            }
        }
    }

    proptest! {
        #[test]
        fn entries_come_out_as_they_went_in(
            mut entries in prop::collection::vec(entry(), 1..20),
            first in 1_u64..1 << 60,
            (skipped, limit) in (0_usize..20, 0_usize..20),
        ) {
            for (entry, place) in entries.iter_mut().zip(first..) {
                entry.position = Position(place);
            }
            let pack = Pack::of(&entries);
            prop_assert_eq!(pack.first(), entries[0].position);
            prop_assert_eq!(pack.last(), entries[entries.len() - 1].position);
            let out = pack.after(Position(first - 1 + skipped as u64), limit);
            let out: Vec<Entry> = out.iter().map(|entry| (**entry).clone()).collect();
            let expected: Vec<Entry> = entries.into_iter().skip(skipped).take(limit).collect();
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn what_is_usual_takes_few_bytes() {
        let now = Timestamp::from_seconds(1_764_240_000);
        let space = SpaceId::new(now).unwrap();
        let entries: Vec<Entry> = (1..=100)
            .map(|place| Entry {
                event_id: EventId::new(now).unwrap(),
                position: Position(place),
                decision: Decision::revocation(
                    Subject::Session(SessionId::random().unwrap()),
                    Some(space.clone()),
                    Reason::Logout,
                ),
                create_time: now,
                forget_time: now + FORGET_AFTER,
            })
            .collect();
        let pack = Pack::of(&entries);
        assert!(pack.bytes.len() <= 100 * 40, "{}", pack.bytes.len());
    }
}

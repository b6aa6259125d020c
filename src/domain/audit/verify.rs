//! Goes along the chain, event by event, and names the first one at which it is not what it was.

use std::fmt;

use super::{Digest, Event, Head, HeadKey, SealedHead};
use crate::domain::ids::AuditEventId;

/// A chained event as it was found.
#[derive(Debug, Clone)]
pub struct Link {
    /// The id that it bears now.
    pub id: AuditEventId,
    /// Its place; none where it is no place.
    pub sequence: Option<u64>,
    /// Its digest; none where it is no digest.
    pub digest: Option<Digest>,
    /// What it says; none where nobody can have written so.
    pub event: Option<Event>,
}

/// What is wrong with the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The end of the chain was not sealed under this key.
    HeadForged,
    /// The event is not what was chained at this place, or the one before it is not.
    Altered {
        /// Its place.
        sequence: u64,
        /// Its id.
        id: AuditEventId,
    },
    /// There is no event at this place, but one after it.
    Missing {
        /// The place.
        sequence: u64,
        /// The event after it.
        next: AuditEventId,
    },
    /// The last events are not there.
    CutOff {
        /// The first that is missing.
        first: u64,
        /// The last that is missing.
        last: u64,
    },
    /// There is an event beyond the end.
    BeyondHead {
        /// Its place.
        sequence: u64,
        /// Its id.
        id: AuditEventId,
    },
    /// The chain fits together, but it is not the one that was sealed.
    MadeAnew {
        /// The place of its last event.
        sequence: u64,
        /// The id of its last event.
        id: AuditEventId,
    },
}

/// A walk along the chain.
#[derive(Debug)]
pub struct Verification {
    end: Head,
    reached: Head,
    last: Option<AuditEventId>,
}

impl Verification {
    /// Begins; the end of the chain must be sealed under `key`.
    pub fn begin(sealed: &SealedHead, key: &HeadKey) -> Result<Self, Fault> {
        if !key.accepts(sealed) {
            return Err(Fault::HeadForged);
        }
        Ok(Self {
            end: sealed.head,
            reached: Head::EMPTY,
            last: None,
        })
    }

    /// Goes on to the next event, in the order of their places.
    pub fn take(&mut self, link: Link) -> Result<(), Fault> {
        let expected = self.reached.sequence + 1;
        let altered = |id| Fault::Altered {
            sequence: expected,
            id,
        };
        let Some(sequence) = link.sequence.filter(|sequence| *sequence >= expected) else {
            return Err(altered(link.id));
        };
        if sequence > self.end.sequence {
            return Err(match expected {
                // What is missing is told first.
                expected if expected <= self.end.sequence => self.cut_off(),
                _ => Fault::BeyondHead {
                    sequence,
                    id: link.id,
                },
            });
        }
        if sequence > expected {
            return Err(Fault::Missing {
                sequence: expected,
                next: link.id,
            });
        }
        let Some(event) = link.event.filter(|event| event.id == link.id) else {
            return Err(altered(link.id));
        };
        let reached = self.reached.then(&event);
        if link.digest != Some(reached.digest) {
            return Err(altered(link.id));
        }
        self.reached = reached;
        self.last = Some(link.id);
        Ok(())
    }

    /// Ends: no event is left. The end of the chain.
    pub fn finish(self) -> Result<Head, Fault> {
        if self.reached.sequence < self.end.sequence {
            return Err(self.cut_off());
        }
        match self.last {
            Some(id) if self.reached != self.end => Err(Fault::MadeAnew {
                sequence: self.reached.sequence,
                id,
            }),
            _ => Ok(self.reached),
        }
    }

    /// The place of the last event that was as it should be.
    pub fn reached(&self) -> u64 {
        self.reached.sequence
    }

    fn cut_off(&self) -> Fault {
        Fault::CutOff {
            first: self.reached.sequence + 1,
            last: self.end.sequence,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadForged => {
                f.write_str("the end of the chain was not sealed under this master key")
            }
            Self::Altered { sequence, id } => write!(
                f,
                "event {sequence} ({id}) is not what was chained there: it was changed or moved, or the one before it \
                 was chained anew"
            ),
            Self::Missing { sequence, next } => {
                write!(f, "event {sequence} is missing, the one before {next}")
            }
            Self::CutOff { first, last } if first == last => {
                write!(f, "event {last}, the last one, is missing")
            }
            Self::CutOff { first, last } => {
                write!(f, "events {first} to {last}, the last ones, are missing")
            }
            Self::BeyondHead { sequence, id } => write!(
                f,
                "event {sequence} ({id}) is beyond the end of the chain: nobody with the key put it there"
            ),
            Self::MadeAnew { sequence, id } => write!(
                f,
                "the chain up to event {sequence} ({id}) was made anew: it does not lead to the end that was sealed"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::audit::event::tests::any_event;

    const KEY: [u8; 32] = [7; 32];

    /// Events with ids that tell them apart, chained, and the sealed end.
    fn chained(events: Vec<Event>) -> (Vec<Link>, SealedHead) {
        let key = HeadKey::new(&KEY);
        let mut head = Head::EMPTY;
        let mut links = Vec::new();
        for (number, mut event) in events.into_iter().enumerate() {
            event.id = AuditEventId::known(format!("aud_{number}"));
            head = head.then(&event);
            links.push(link(head, event));
        }
        (links, key.seal(head))
    }

    fn link(head: Head, event: Event) -> Link {
        Link {
            id: event.id.clone(),
            sequence: Some(head.sequence),
            digest: Some(head.digest),
            event: Some(event),
        }
    }

    /// Goes along links in the order of their places, as they are read.
    fn verify(mut links: Vec<Link>, sealed: &SealedHead) -> Result<Head, Fault> {
        links.sort_by_key(|link| link.sequence);
        let mut verification = Verification::begin(sealed, &HeadKey::new(&KEY))?;
        for link in links {
            verification.take(link)?;
        }
        verification.finish()
    }

    fn several() -> impl Strategy<Value = Vec<Event>> {
        proptest::collection::vec(any_event(), 2..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_chain_that_nobody_touched_is_good(events in proptest::collection::vec(any_event(), 0..12)) {
            let (links, sealed) = chained(events);
            let count = links.len() as u64;
            prop_assert_eq!(verify(links, &sealed).unwrap().sequence, count);
        }

        #[test]
        fn an_event_that_was_changed_is_named(events in several(), other in any_event(), at in any::<prop::sample::Index>()) {
            let (mut links, sealed) = chained(events);
            let at = at.index(links.len());
            let id = links[at].id.clone();
            let changed = Event { id: id.clone(), ..other };
            prop_assume!(links[at].event.as_ref() != Some(&changed));
            links[at].event = Some(changed);
            let sequence = at as u64 + 1;
            prop_assert_eq!(verify(links, &sealed), Err(Fault::Altered { sequence, id }));
        }

        #[test]
        fn an_event_that_was_taken_out_is_missed(events in several(), at in any::<prop::sample::Index>()) {
            let (mut links, sealed) = chained(events);
            let at = at.index(links.len() - 1);
            let next = links[at + 1].id.clone();
            links.remove(at);
            let sequence = at as u64 + 1;
            prop_assert_eq!(verify(links, &sealed), Err(Fault::Missing { sequence, next }));
        }

        #[test]
        fn events_that_changed_places_are_named(events in several(), one in any::<prop::sample::Index>(),
                other in any::<prop::sample::Index>(), with_digests in any::<bool>()) {
            let (mut links, sealed) = chained(events);
            let (one, other) = (one.index(links.len()), other.index(links.len()));
            prop_assume!(one != other);
            let (first, second) = (one.min(other), one.max(other));
            let (left, right) = links.split_at_mut(second);
            let (a, b) = (&mut left[first], &mut right[0]);
            std::mem::swap(&mut a.sequence, &mut b.sequence);
            if with_digests {
                std::mem::swap(&mut a.digest, &mut b.digest);
            }
            let id = b.id.clone();
            let sequence = first as u64 + 1;
            prop_assert_eq!(verify(links, &sealed), Err(Fault::Altered { sequence, id }));
        }

        #[test]
        fn a_tail_that_was_cut_off_is_missed(events in several(), at in any::<prop::sample::Index>()) {
            let (mut links, sealed) = chained(events);
            let last = links.len() as u64;
            links.truncate(at.index(links.len()));
            let first = links.len() as u64 + 1;
            prop_assert_eq!(verify(links, &sealed), Err(Fault::CutOff { first, last }));
        }

        #[test]
        fn a_chain_made_anew_without_the_key_is_seen(events in several(), other in any_event(),
                at in any::<prop::sample::Index>()) {
            let (links, sealed) = chained(events);
            let at = at.index(links.len());
            let mut events: Vec<Event> = links.iter().filter_map(|link| link.event.clone()).collect();
            let other = Event { id: events[at].id.clone(), ..other };
            prop_assume!(events[at] != other);
            events[at] = other;
            let (made_anew, resealed) = chained(events);
            let (sequence, id) = (links.len() as u64, links[links.len() - 1].id.clone());
            prop_assert_eq!(verify(made_anew.clone(), &sealed), Err(Fault::MadeAnew { sequence, id }));
            // The end written anew as well, with the seal that was there or one under a key of one's own.
            let own = HeadKey::new(&[8; 32]).seal(resealed.head).seal;
            for seal in [sealed.seal, own, Vec::new()] {
                let forged = SealedHead { head: resealed.head, seal };
                prop_assert_eq!(verify(made_anew.clone(), &forged), Err(Fault::HeadForged));
            }
        }

        #[test]
        fn an_event_put_at_the_end_without_the_key_is_named(events in several(), other in any_event()) {
            let (mut links, sealed) = chained(events);
            let id = AuditEventId::known("aud_more");
            let event = Event { id: id.clone(), ..other };
            let head = sealed.head.then(&event);
            links.push(link(head, event));
            let sequence = head.sequence;
            prop_assert_eq!(verify(links, &sealed), Err(Fault::BeyondHead { sequence, id }));
        }
    }

    #[test]
    fn faults_are_told_in_one_line() {
        let id = AuditEventId::known("aud_1");
        let told: Vec<String> = [
            Fault::Altered {
                sequence: 4,
                id: id.clone(),
            },
            Fault::Missing {
                sequence: 4,
                next: id.clone(),
            },
            Fault::CutOff { first: 9, last: 9 },
            Fault::CutOff { first: 8, last: 9 },
            Fault::MadeAnew { sequence: 9, id },
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        event 4 (aud_1) is not what was chained there: it was changed or moved, or the one before it was chained anew
        event 4 is missing, the one before aud_1
        event 9, the last one, is missing
        events 8 to 9, the last ones, are missing
        the chain up to event 9 (aud_1) was made anew: it does not lead to the end that was sealed
        ");
    }
}

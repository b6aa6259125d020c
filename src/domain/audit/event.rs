//! One thing done or refused.

use std::collections::BTreeMap;

use crate::{
    clock::Timestamp,
    domain::ids::{ApiKeyId, AuditEventId, SpaceId, UserId},
};

pub use crate::proto::AuditOutcome as Outcome;

/// What every encoding begins with, so that another form can come one day.
const FORM: &[u8] = b"token-authority audit event 1";

/// One thing done or refused, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: AuditEventId,
    /// When.
    pub event_time: Timestamp,
    /// In which space; none: in the authority as a whole.
    pub space_id: Option<SpaceId>,
    /// By whom; none where nobody was known.
    pub actor_user_id: Option<UserId>,
    /// The API key by which the actor came.
    pub actor_api_key_id: Option<ApiKeyId>,
    /// What, for example `api_key.rotate`.
    pub action: String,
    /// To what: an id.
    pub resource_id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was refused.
    pub error_reason: String,
    /// From where.
    pub client_address: String,
    /// As in the log.
    pub request_id: String,
    /// A few words more, never a secret.
    pub details: BTreeMap<String, String>,
}

impl Event {
    /// The event as bytes: every part in one order, each with its length before it, so that no two events are spelled alike.
    pub fn encode(&self) -> Vec<u8> {
        // Taken apart by name, so that a part that is added here cannot be left out there.
        let Self {
            id,
            event_time,
            space_id,
            actor_user_id,
            actor_api_key_id,
            action,
            resource_id,
            outcome,
            error_reason,
            client_address,
            request_id,
            details,
        } = self;
        let mut encoding = Encoding(Vec::with_capacity(256));
        encoding.part(FORM);
        encoding.part(id.as_str().as_bytes());
        encoding.part(&event_time.micros().to_be_bytes());
        encoding.name(space_id.as_ref().map(SpaceId::as_str));
        encoding.name(actor_user_id.as_ref().map(UserId::as_str));
        encoding.name(actor_api_key_id.as_ref().map(ApiKeyId::as_str));
        encoding.part(action.as_bytes());
        encoding.part(resource_id.as_bytes());
        encoding.part(&i32::from(*outcome).to_be_bytes());
        encoding.part(error_reason.as_bytes());
        encoding.part(client_address.as_bytes());
        encoding.part(request_id.as_bytes());
        encoding.part(&(details.len() as u64).to_be_bytes());
        for (key, value) in details {
            encoding.part(key.as_bytes());
            encoding.part(value.as_bytes());
        }
        encoding.0
    }
}

struct Encoding(Vec<u8>);

impl Encoding {
    fn part(&mut self, bytes: &[u8]) {
        self.0
            .extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// A name that may be missing; none of them is ever empty.
    fn name(&mut self, name: Option<&str>) {
        self.part(name.unwrap_or_default().as_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any event; short texts of few letters, so that some are alike but for where one ends.
    pub(in crate::domain::audit) fn any_event() -> impl Strategy<Value = Event> {
        let text = "[ab\u{0}é]{0,4}";
        let id = "[ab]{1,3}";
        let maybe = || proptest::option::of(id);
        (
            (id, any::<i64>(), maybe(), maybe(), maybe()),
            (text, text, 0..3_i32, text, text, text),
            proptest::collection::btree_map(text, text, 0..3),
        )
            .prop_map(|((id, time, space, user, key), texts, details)| {
                let (action, resource_id, outcome, error_reason, client_address, request_id) =
                    texts;
                Event {
                    id: AuditEventId::known(id),
                    event_time: Timestamp::from_micros(time),
                    space_id: space.map(SpaceId::known),
                    actor_user_id: user.map(UserId::known),
                    actor_api_key_id: key.map(ApiKeyId::known),
                    action,
                    resource_id,
                    outcome: Outcome::try_from(outcome).unwrap(),
                    error_reason,
                    client_address,
                    request_id,
                    details,
                }
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn two_events_are_spelled_alike_only_where_they_are_the_same(
            one in any_event(),
            other in any_event(),
            mixed in any::<u16>(),
        ) {
            // Most parts of the one and a few of the other: near enough to be taken for each other.
            let pick = |bit: u16| mixed & (1 << bit) == 0;
            let near = Event {
                id: if pick(0) { one.id.clone() } else { other.id },
                event_time: if pick(1) { one.event_time } else { other.event_time },
                space_id: if pick(2) { one.space_id.clone() } else { other.space_id },
                actor_user_id: if pick(3) { one.actor_user_id.clone() } else { other.actor_user_id },
                actor_api_key_id: if pick(4) { one.actor_api_key_id.clone() } else { other.actor_api_key_id },
                action: if pick(5) { one.action.clone() } else { other.action },
                resource_id: if pick(6) { one.resource_id.clone() } else { other.resource_id },
                outcome: if pick(7) { one.outcome } else { other.outcome },
                error_reason: if pick(8) { one.error_reason.clone() } else { other.error_reason },
                client_address: if pick(9) { one.client_address.clone() } else { other.client_address },
                request_id: if pick(10) { one.request_id.clone() } else { other.request_id },
                details: if pick(11) { one.details.clone() } else { other.details },
            };
            prop_assert_eq!(one == near, one.encode() == near.encode());
        }
    }

    #[test]
    fn a_letter_that_moves_from_one_text_to_the_next_is_seen() {
        let event = |action: &str, resource_id: &str| Event {
            id: AuditEventId::known("aud_1"),
            event_time: Timestamp::from_micros(1),
            space_id: None,
            actor_user_id: None,
            actor_api_key_id: None,
            action: action.to_owned(),
            resource_id: resource_id.to_owned(),
            outcome: Outcome::Success,
            error_reason: String::new(),
            client_address: String::new(),
            request_id: String::new(),
            details: BTreeMap::new(),
        };
        assert_ne!(
            event("space.create", "d").encode(),
            event("space.created", "").encode()
        );
    }
}

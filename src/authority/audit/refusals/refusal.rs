//! One refusal, whose it is, and the event that is made of it.

use std::collections::BTreeMap;

use crate::{
    authority::caller::Caller,
    clock::Timestamp,
    domain::{
        audit::{Event, Outcome},
        ids::{ApiKeyId, AuditEventId, SpaceId, UserId},
    },
    error::{Error, Reason, Result, reason_name},
};

/// What a refused call is written down as; the details say which method.
pub const ACTION: &str = "method.call";

/// Whose refusals are counted together: those that different people may read are not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Refused {
    pub(super) whose: Whose,
    /// Who reads of it: the caller's space, or for a sign-in the home space of the user. None where something was withheld
    /// that exists, and where nobody bears the name: that is for those alone who see every space, or whoever reads the audit
    /// log of its own space would learn of it there.
    pub(super) space: Option<SpaceId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    /// A caller's, who is known.
    Caller(UserId, Option<ApiKeyId>),
    /// Of whoever signs in under this user's name.
    Name(UserId),
    /// Of whoever signs in under names that are not told apart.
    Names,
}

#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) refused: Refused,
    pub(super) time: Timestamp,
    pub(super) resource: String,
    pub(super) reason: Reason,
    pub(super) client_address: String,
    pub(super) request_id: String,
    pub(super) details: BTreeMap<String, String>,
}

impl Refused {
    /// Whether it is one who is refused. What is of many is counted from the first one on.
    pub(super) fn is_of_one(&self) -> bool {
        match self.whose {
            Whose::Caller(..) | Whose::Name(_) => true,
            Whose::Names => false,
        }
    }
}

impl Refusal {
    pub(super) fn of(caller: &Caller, method: &str, error: &Error, now: Timestamp) -> Option<Self> {
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
                whose: Whose::Caller(caller.user_id().clone(), caller.api_key_id().cloned()),
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

    pub(super) fn event(&self) -> Result<Event> {
        let (user, api_key) = match &self.refused.whose {
            Whose::Caller(user, api_key) => (Some(user.clone()), api_key.clone()),
            Whose::Name(_) | Whose::Names => (None, None),
        };
        Ok(Event {
            id: AuditEventId::new(self.time)?,
            event_time: self.time,
            space_id: self.refused.space.clone(),
            actor_user_id: user,
            actor_api_key_id: api_key,
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

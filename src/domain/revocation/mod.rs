//! What ends a token: the entries of the revocation log, and the one function that says what an entry kills.
//!
//! [`Entry::kills`] is the definition; [`Revocations`] is the same thing made fast for many entries, and a property test holds
//! the two together. Server and verifier both decide by them. [`Changes`] says whether what is remembered is still fresh.

mod by_role;
mod changes;
mod index;

use std::{fmt, time::Duration};

pub use changes::{About, Changes};
pub use index::{Revocations, Targets};

use super::{
    ids::{ApiKeyId, EventId, RoleName, SessionId, SigningKeyId, SpaceId, TokenId, UserId},
    jwt::AccessToken,
};
use crate::clock::Timestamp;

/// From the decision on, how long an entry can bear on a token: the longest life of a JWT, and an hour more.
pub const FORGET_AFTER: Duration = Duration::from_hours(25);

/// A place in the revocation log: one more than that of the entry before. 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether an entry kills, or only makes stale what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JWTs of the subject are dead. A kind that is not known counts as this one.
    Revocation,
    /// What is remembered about the subject is stale; nothing is dead because of it.
    Change,
}

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One JWT, dead as such.
    Token(TokenId),
    /// A sign-in with every JWT that rotation made of it, dead as such.
    Session(SessionId),
    /// Every JWT of a user that was issued before the entry.
    User(UserId),
    /// Every JWT issued from an API key before the entry.
    ApiKey(ApiKeyId),
    /// Every JWT of the entry's space that names this role and was issued before the entry.
    Role(RoleName),
    /// Every JWT of a space that was issued before the entry.
    Space(SpaceId),
    /// Every JWT with this `kid`, whatever it says of itself.
    SigningKey(SigningKeyId),
    /// Every JWT that was issued before the entry.
    Everything,
    /// Something that this version does not know: taken for everything in the entry's space.
    Unknown,
}

impl Subject {
    /// What kind it is of, as the database and the audit log spell it, and which one; empty where there is but one.
    pub fn kind_and_id(&self) -> (&'static str, &str) {
        match self {
            Self::Token(id) => ("token", id.as_str()),
            Self::Session(id) => ("session", id.as_str()),
            Self::User(id) => ("user", id.as_str()),
            Self::ApiKey(id) => ("api_key", id.as_str()),
            Self::Role(name) => ("role", name.as_str()),
            Self::Space(id) => ("space", id.as_str()),
            Self::SigningKey(id) => ("signing_key", id.as_str()),
            Self::Everything => ("everything", ""),
            Self::Unknown => ("unknown", ""),
        }
    }
}

/// Why something was revoked, as the contract numbers it.
pub use crate::proto::RevocationReason as Reason;

/// What a writer puts into the log; the log gives it its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it kills.
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// It concerns JWTs of this space alone; none: of every space.
    pub space_id: Option<SpaceId>,
    /// Spares sessions that began after this moment.
    pub sessions_until: Option<Timestamp>,
    /// Kills from this moment on; none: at once.
    pub effective_time: Option<Timestamp>,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// Kills JWTs of `subject` in `space_id`, at once and sparing none.
    pub fn revocation(subject: Subject, space_id: Option<SpaceId>, reason: Reason) -> Self {
        Self {
            kind: Kind::Revocation,
            subject,
            space_id,
            sessions_until: None,
            effective_time: None,
            reason,
        }
    }

    /// Says that what is remembered of `subject` is stale.
    pub fn change(subject: Subject, space_id: Option<SpaceId>) -> Self {
        Self {
            kind: Kind::Change,
            ..Self::revocation(subject, space_id, Reason::Unspecified)
        }
    }
}

/// One entry of the revocation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Stays the same however often the entry is delivered.
    pub event_id: EventId,
    /// Its place in the log.
    pub position: Position,
    /// What was decided.
    pub decision: Decision,
    /// When it was decided.
    pub create_time: Timestamp,
    /// From then on nothing it kills can be alive.
    pub forget_time: Timestamp,
}

impl Entry {
    /// Whether `token` is dead at `now` because of this entry.
    ///
    /// "Issued before the entry" compares the token's `rev` with the entry's place, and no clocks.
    pub fn kills(&self, token: &AccessToken, now: Timestamp) -> bool {
        let decision = &self.decision;
        if decision.kind == Kind::Change
            || decision.effective_time.is_some_and(|from| now < from)
            || decision
                .space_id
                .as_ref()
                .is_some_and(|space| *space != token.space_id)
        {
            return false;
        }
        let before = token.rev < self.position.0;
        let spared = decision
            .sessions_until
            .is_some_and(|until| token.auth_time > until);
        match &decision.subject {
            Subject::Token(id) => *id == token.token_id,
            Subject::Session(id) => *id == token.session_id,
            Subject::SigningKey(id) => *id == token.signing_key_id,
            Subject::User(id) => *id == token.subject && before && !spared,
            Subject::ApiKey(id) => token.api_key_id.as_ref() == Some(id) && before && !spared,
            Subject::Role(name) => token.roles.contains(name) && before && !spared,
            Subject::Space(id) => *id == token.space_id && before && !spared,
            Subject::Everything | Subject::Unknown => before && !spared,
        }
    }
}

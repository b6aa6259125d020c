//! Ends all that a user, a role or a space stood behind until now: their JWTs, and the API keys of the user or the space unless
//! those are to be left.

use super::create::ACTION;
use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks},
        idempotency::{Answer, Request},
    },
    domain::{
        ids::{ApiKeyId, SpaceId, UserId},
        revocation::{Decision, Subject},
    },
    error::Result,
    log::Pending,
    storage,
};

/// Cuts off what `target` says, and ends the API keys behind it where `keys_end`.
pub(super) async fn cut_off(
    authority: &Authority,
    caller: &Caller,
    target: &Decision,
    keys_end: bool,
    comment: &str,
    request: Option<Request>,
) -> Result<Pending> {
    let keys = Keys::behind(target).filter(|_| keys_end);
    let locks = keys.as_ref().map(Keys::locks).unwrap_or_default();
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    // First, since it is the entry that the answer tells of.
    let event_id = change.revoke(target).await?;
    if let Some(keys) = keys {
        end_keys_of_spared(&mut change, &keys, target).await?;
        keys.end(&change).await?;
    }
    if let Some(request) = request {
        let answer = Answer::event(&event_id);
        request
            .remember(&change.transaction, answer, change.now)
            .await?;
    }
    let (kind, id) = target.subject.kind_and_id();
    let details = [("subject", kind), ("comment", comment)];
    match &target.space_id {
        Some(space) => change.audit(ACTION, space, id, &details).await?,
        None => change.audit_everywhere(ACTION, id, &details).await?,
    }
    change.commit_only().await
}

/// What was issued from a key dies with it, also where the session began late enough to be spared: then one entry for each key.
async fn end_keys_of_spared(
    change: &mut Change<'_>,
    keys: &Keys<'_>,
    target: &Decision,
) -> Result<()> {
    if target.sessions_until.is_none() {
        return Ok(());
    }
    let keys = keys.not_ended(change).await?.into_iter();
    let subjects = keys.map(|(key, space)| (Subject::ApiKey(key), space));
    change.kill_each(subjects, target.reason).await
}

/// Whose API keys end.
enum Keys<'a> {
    User(&'a UserId),
    UserIn(&'a UserId, &'a SpaceId),
    Space(&'a SpaceId),
}

impl<'a> Keys<'a> {
    fn behind(target: &'a Decision) -> Option<Self> {
        match (&target.subject, &target.space_id) {
            (Subject::User(user), None) => Some(Self::User(user)),
            (Subject::User(user), Some(space)) => Some(Self::UserIn(user, space)),
            (Subject::Space(space), _) => Some(Self::Space(space)),
            (
                Subject::Token(_)
                | Subject::Session(_)
                | Subject::ApiKey(_)
                | Subject::Role(_)
                | Subject::SigningKey(_)
                | Subject::Everything
                | Subject::Unknown,
                _,
            ) => None,
        }
    }

    /// So that no key is made meanwhile.
    fn locks(&self) -> Locks {
        match self {
            Self::User(user) | Self::UserIn(user, _) => Locks::default().change_user(user),
            Self::Space(space) => Locks::default().change_space(space),
        }
    }

    /// Those that were not ended by themselves before.
    async fn not_ended(&self, change: &Change<'_>) -> Result<Vec<(ApiKeyId, SpaceId)>> {
        let (user, space) = match self {
            Self::User(user) => (Some(*user), None),
            Self::UserIn(user, space) => (Some(*user), Some(*space)),
            Self::Space(space) => (None, Some(*space)),
        };
        storage::api_keys::not_ended(&change.transaction, user, space).await
    }

    /// For good: of one user in one space row by row, else by raising a generation.
    async fn end(&self, change: &Change<'_>) -> Result<()> {
        let (db, now) = (&change.transaction, change.now);
        match self {
            Self::User(user) => storage::users::raise_key_generation(db, user, now).await,
            Self::UserIn(user, space) => storage::api_keys::end_all(db, user, space, now).await,
            Self::Space(space) => storage::spaces::raise_key_generation(db, space, now).await,
        }
    }
}

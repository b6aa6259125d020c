//! Gives a key a new secret; the old one stays good for a while.

use std::time::Duration;

use super::{Minted, Verb, create, derive_token, not_active, reach, require_not_revoked, update};
use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks},
        credentials::Credential,
        idempotency::{Answer, Request},
    },
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, State},
        ids::EventId,
        revocation::{Reason, Subject},
    },
    error::{Error, Result},
    log::{Effect, WaitUntil},
    random,
    storage::{self, Transaction},
};

/// The longest that the old secret stays good.
pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);
/// How long it does where nothing is said.
pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
/// The shortest where the key rotates itself: an answer that is lost must not lock it out.
const MIN_OWN_OVERLAP: Duration = Duration::from_mins(5);

/// A key with its new secret, and what became of the old one.
#[derive(Debug)]
pub struct Rotated {
    /// The key.
    pub minted: Minted,
    /// Set where a secret ended at once.
    pub effect: Option<Effect>,
}

/// Rotates, or answers a retry with the secret that was made. FAILED_PRECONDITION for a key that is revoked or expired;
/// ABORTED where another rotation won.
pub async fn rotate(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    overlap: Duration,
    request: Option<Request>,
    until: WaitUntil,
) -> Result<Rotated> {
    let key = super::named(authority, caller, named, Verb::RotateOrRevoke).await?;
    let now = authority.clock.now();
    let rotates_itself = caller.api_key_id() == Some(&key.id);
    if rotates_itself && overlap < MIN_OWN_OVERLAP {
        return Err(Error::field(
            "overlap",
            "must be at least 5 minutes where the key rotates itself",
        ));
    }
    require_within(authority, caller, &key).await?;
    if let Some(request) = &request
        && let Some(answer) = request.find(authority.db.reader(), now).await?
    {
        return answer_again(authority, &key, &answer, until).await;
    }
    match key.state(now) {
        State::Revoked => return Err(not_active("revoked")),
        State::Expired => return Err(not_active("expired")),
        State::Active | State::Disabled | State::Unspecified => {}
    }
    let rotation = Rotation { key, overlap, now };
    rotation
        .carry_out(authority, caller, request.as_ref(), until)
        .await
}

/// Nobody is shown a secret of a key that may do what they may not: a JWT that was narrowed, not the whole key.
async fn require_within(authority: &Authority, caller: &Caller, key: &ApiKey) -> Result<()> {
    if caller.api_key_id() != Some(&key.id) {
        let owner = update::owner(authority, key).await?;
        return reach::require_within(authority, caller, &owner, &key.bounds).await;
    }
    match (&caller.credential, authority.key_record(&key.id).await?) {
        (Credential::ApiKey(_), _) => Ok(()),
        (Credential::AccessToken(held), Some((record, _))) => {
            record.granted.require_within(&held.token.scopes)
        }
        (Credential::AccessToken(_), None) => Err(Error::not_found("api_key")),
    }
}

struct Rotation {
    key: ApiKey,
    overlap: Duration,
    now: Timestamp,
}

impl Rotation {
    async fn carry_out(
        &self,
        authority: &Authority,
        caller: &Caller,
        request: Option<&Request>,
        until: WaitUntil,
    ) -> Result<Rotated> {
        let (id, number) = (&self.key.id, self.key.current_secret + 1);
        let seed = random::bytes::<32>()?;
        let token = derive_token(
            authority.master_keys.first(),
            &self.key.prefix,
            id,
            number,
            &seed,
        )?;
        let mut change = Change::begin(authority, Some(caller), Locks::default()).await?;
        let transaction = &change.transaction;
        storage::api_keys::advance_secret(transaction, id, self.key.current_secret, self.now)
            .await?;
        storage::api_keys::insert_secret(transaction, id, number, &token.digest(), self.now)
            .await?;
        let ended = self.end_old_secrets(transaction).await?;
        if ended {
            change.ends_a_secret();
        }
        let event = self.append(&mut change).await?;
        if let Some(request) = request {
            let made = serde_json::json!({
                "api_key_id": id, "secret": number, "event_id": event, "ended": ended,
            });
            let seed = Some(seed);
            let answer = Answer { made, seed };
            request
                .remember(&change.transaction, answer, self.now)
                .await?;
        }
        change
            .audit("api_key.rotate", &self.key.space_id, id.as_str(), &[])
            .await?;
        let effect = change.commit(until).await?;
        let key = create::described(authority, id).await?;
        Ok(Rotated {
            minted: Minted { key, token },
            effect,
        })
    }

    /// The current secret gets its deadline; what ends now is deleted, so that no clock brings it back. Whether a good secret
    /// ended at once.
    async fn end_old_secrets(&self, transaction: &Transaction) -> Result<bool> {
        let (id, current) = (&self.key.id, self.key.current_secret);
        let ends_now = if self.overlap.is_zero() {
            current + 1
        } else {
            current
        };
        let ended =
            storage::api_keys::delete_secrets_before(transaction, id, ends_now, self.now).await?;
        let deadline = self.now + self.overlap;
        storage::api_keys::set_deadline(transaction, id, current, deadline).await?;
        Ok(ended > 0)
    }

    /// Without an overlap the key's JWTs end with the secret that they came from.
    async fn append(&self, change: &mut Change<'_>) -> Result<EventId> {
        let (subject, space) = (Subject::ApiKey(self.key.id.clone()), &self.key.space_id);
        if self.overlap.is_zero() {
            change.kill(subject, space, Reason::Superseded).await
        } else {
            change.touch(subject, space).await
        }
    }
}

async fn answer_again(
    authority: &Authority,
    key: &ApiKey,
    answer: &Answer,
    until: WaitUntil,
) -> Result<Rotated> {
    require_not_revoked(key)?;
    let minted = create::answer_again(authority, answer).await?;
    let event = answer.made["event_id"].as_str().unwrap_or_default();
    let event = EventId::known(event);
    let mut pending = authority.log.pending();
    if let Some(found) = storage::revocation_log::find_event(authority.db.reader(), &event).await? {
        pending.join(&found);
    }
    let ended = answer.made["ended"].as_bool().unwrap_or_default();
    let effect = pending.effect(until).await.filter(|_| ended);
    Ok(Rotated { minted, effect })
}

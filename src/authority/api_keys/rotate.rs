//! Gives a key a new secret; the old one stays good for a while.

use std::time::Duration;

use super::{Minted, Verb, create, derive_token, not_active, reach, require_not_revoked, update};
use crate::{
    authority::{
        Authority, audit,
        caller::Caller,
        credentials::Credential,
        idempotency::{Answer, Request},
    },
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, State},
        revocation::{Decision, Reason, Subject},
    },
    error::{Error, Reason as Why, Result},
    log::{Effect, Pending, WaitUntil},
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
    // A JWT of the key may have been narrowed: only the key itself needs no more than itself.
    if !matches!(&caller.credential, Credential::ApiKey(own) if own.id == key.id) {
        let owner = update::owner(authority, &key).await?;
        reach::require_within(authority, caller, &owner, &key.bounds).await?;
    }
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
    let rotates_itself = caller.api_key_id() == Some(&key.id);
    if rotates_itself && overlap < MIN_OWN_OVERLAP {
        return Err(Error::field(
            "overlap",
            "must be at least 5 minutes where the key rotates itself",
        ));
    }
    let rotation = Rotation { key, overlap, now };
    rotation
        .carry_out(authority, caller, request.as_ref(), until)
        .await
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
        let token = derive_token(&authority.master_key, &self.key.prefix, id, number, &seed)?;
        let mut pending = authority.log.pending();
        let transaction = authority.db.begin().await?;
        caller.judge_again(authority, &transaction).await?;
        storage::api_keys::advance_secret(&transaction, id, self.key.current_secret, self.now)
            .await?;
        storage::api_keys::insert_secret(&transaction, id, number, &token.digest(), self.now)
            .await?;
        let ended = self.end_old_secrets(&transaction).await?;
        let event = self.append(&transaction, &mut pending).await?;
        if let Some(request) = request {
            let made = serde_json::json!({
                "api_key_id": id, "secret": number, "event_id": event, "ended": ended,
            });
            request
                .remember(
                    &transaction,
                    Answer {
                        made,
                        seed: Some(seed),
                    },
                    self.now,
                )
                .await?;
        }
        let done = audit::Done {
            action: "api_key.rotate",
            space: Some(&self.key.space_id),
            resource: id.as_str(),
            details: &[],
        };
        audit::record(&transaction, audit::Actor::caller(caller), done, self.now).await?;
        transaction.commit().await?;
        let effect = pending.effect(until).await.filter(|_| ended);
        let key = create::described(authority, id).await?;
        Ok(Rotated {
            minted: Minted { key, token },
            effect,
        })
    }

    /// The current secret gets its deadline, one before it ends now. Whether a good secret ended at once.
    async fn end_old_secrets(&self, transaction: &Transaction) -> Result<bool> {
        let current = self.key.current_secret;
        let older =
            storage::api_keys::end_secrets_before(transaction, &self.key.id, current, self.now)
                .await?;
        let deadline = self.now + self.overlap;
        storage::api_keys::set_deadline(transaction, &self.key.id, current, deadline).await?;
        Ok(older > 0 || self.overlap.is_zero())
    }

    /// Without an overlap the key's JWTs end with the secret that they came from.
    async fn append(&self, transaction: &Transaction, pending: &mut Pending) -> Result<String> {
        let subject = Subject::ApiKey(self.key.id.clone());
        let space = Some(self.key.space_id.clone());
        let decision = if self.overlap.is_zero() {
            Decision::revocation(subject, space, Reason::Superseded)
        } else {
            Decision::change(subject, space)
        };
        Ok(pending
            .append(transaction, &decision, self.now)
            .await?
            .to_string())
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
    if answer.made["secret"].as_i64() != Some(minted.key.current_secret) {
        return Err(Error::new(
            Why::ConcurrentModification,
            "the key was rotated again since",
        ));
    }
    let event = answer.made["event_id"].as_str().unwrap_or_default();
    let event = crate::domain::ids::EventId::known(event);
    let mut pending = authority.log.pending();
    if let Some(found) = storage::revocation_log::find_event(authority.db.reader(), &event).await? {
        pending.join(&found);
    }
    let ended = answer.made["ended"].as_bool().unwrap_or_default();
    let effect = pending.effect(until).await.filter(|_| ended);
    Ok(Rotated { minted, effect })
}

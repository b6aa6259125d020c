//! Whether a presented token is good: classified by its form, authenticated, decided. No database where it is remembered.
//!
//! A JWT that was verified is remembered by its SHA-256; an API key's record by its id, with the place of the log that was
//! applied before it was loaded: it counts only while nothing after that place touches its key, user, space or roles. What a
//! token may be is remembered, never what it may do: kills, expiry and deadlines are looked at each time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest;
use futures_util::{TryStreamExt as _, stream};
use quick_cache::sync::Cache;

pub use crate::domain::api_key::Inactive;

use super::{Authority, lookups::Lookups};
use crate::{
    clock::{Timestamp, boottime},
    domain::{
        api_key::{self, ApiKeyToken, KeyRecord},
        ids::{ApiKeyId, SpaceId},
        jwt::{self, AccessToken, Rejection},
        permission::PermissionSet,
        revocation::{About, Decision, Position, Subject, Targets},
    },
    error::{Error, Reason, Result},
    log::Applied,
    storage::{self, Transaction},
};

/// How many verified JWTs and how many API keys are remembered.
const REMEMBERED: usize = 65_536;
/// How long an API key's record is remembered at most.
const RECORD_LIFE: Duration = Duration::from_mins(5);
/// How many ids that no key has are remembered, and for how long: few and short.
const UNKNOWN_REMEMBERED: usize = 1024;
const UNKNOWN_LIFE: Duration = Duration::from_secs(1);
/// How often at most the log is read for the sake of a token that is ahead of it.
const AHEAD_PAUSE: Duration = Duration::from_secs(1);
/// How many records are loaded at a time for one call.
const LOADS: usize = 4;
/// How often a record is loaded again that was touched while it was being loaded.
const ATTEMPTS: usize = 8;

/// What is remembered of presented tokens.
#[derive(Debug)]
pub struct Credentials {
    verified: Cache<[u8; 32], Arc<VerifiedToken>>,
    records: Cache<ApiKeyId, Arc<KeyRecord>>,
    /// Ids that no key had, and when that was read, in time since boot.
    unknown: Cache<ApiKeyId, Duration>,
    jwt_lookups: Lookups,
    key_lookups: Lookups,
}

/// A JWT whose signature was checked.
#[derive(Debug)]
pub struct VerifiedToken {
    /// What it says.
    pub token: AccessToken,
    /// What of it can be dead as such.
    pub targets: Targets,
    /// When the log was last read and did not reach as far as its `rev`, in milliseconds since boot; 0: never.
    ahead: AtomicU64,
}

impl VerifiedToken {
    fn new(token: AccessToken) -> Self {
        Self {
            targets: Targets::of(&token),
            token,
            ahead: AtomicU64::new(0),
        }
    }

    fn note_ahead(&self) {
        let now = u64::try_from(boottime().as_millis()).unwrap_or_default();
        self.ahead.store(now, Ordering::Relaxed);
    }

    /// Then the log is not read once more for its sake: what is new in it is applied anyway.
    fn was_ahead_lately(&self) -> bool {
        let noted = Duration::from_millis(self.ahead.load(Ordering::Relaxed));
        !noted.is_zero() && boottime().saturating_sub(noted) < AHEAD_PAUSE
    }
}

/// A token that was found good, or was good but for what is said beside it.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A JWT.
    AccessToken(Arc<VerifiedToken>),
    /// An API key.
    ApiKey(Arc<KeyRecord>),
}

/// A token that was found good.
#[derive(Debug, Clone)]
pub struct Good {
    /// What was presented.
    pub credential: Credential,
    /// The place of the log that this reflects.
    pub position: Position,
    /// By which of an API key's secrets.
    secret: i64,
}

/// A verdict: what was found good, or why not.
pub type Verdict = Result<Good, Inactive>;

impl Default for Credentials {
    fn default() -> Self {
        Self {
            verified: Cache::new(REMEMBERED),
            records: Cache::new(REMEMBERED),
            unknown: Cache::new(UNKNOWN_REMEMBERED),
            jwt_lookups: Lookups::of("jwt"),
            key_lookups: Lookups::of("api_key"),
        }
    }
}

impl Credentials {
    /// A key has just been made, whoever asked for its id before.
    pub fn note_made(&self, id: &ApiKeyId) {
        self.unknown.remove(id);
    }

    fn knows_none(&self, id: &ApiKeyId) -> bool {
        let read = self.unknown.get(id);
        read.is_some_and(|read| boottime().saturating_sub(read) < UNKNOWN_LIFE)
    }
}

impl Authority {
    /// Whether `token` is good at `now`, whomever it is meant for. UNAVAILABLE where that cannot be known.
    pub async fn judge(&self, token: &str, now: Timestamp) -> Result<Verdict> {
        if api_key::has_form(token) {
            return self.judge_api_key(token, now).await;
        }
        let verified = match self.authenticate_jwt(token, now).await? {
            Ok(verified) => verified,
            Err(inactive) => return Ok(Err(inactive)),
        };
        if let Some(verdict) = self.weigh(&verified, now).await? {
            return Ok(verdict);
        }
        if !verified.was_ahead_lately() {
            self.log.catch_up().await?;
            if let Some(verdict) = self.weigh(&verified, now).await? {
                return Ok(verdict);
            }
            verified.note_ahead();
        }
        // The log has lost its end: what was there of this token is not known, and nothing that follows would kill it.
        let message = "the revocation log does not reach as far as the token";
        Err(Error::new(Reason::DatabaseUnavailable, message).retry_after(AHEAD_PAUSE))
    }

    /// What the log says of a JWT; none where the token is ahead of what was applied here, and not known to be dead.
    async fn weigh(&self, held: &Arc<VerifiedToken>, now: Timestamp) -> Result<Option<Verdict>> {
        let applied = self.log.applied().await?;
        if applied.revocations().kills(&held.token, &held.targets, now) {
            return Ok(Some(Err(Inactive::Revoked)));
        }
        if held.token.rev > applied.position().0 {
            return Ok(None);
        }
        Ok(Some(Ok(Good {
            credential: Credential::AccessToken(Arc::clone(held)),
            position: applied.position(),
            secret: 0,
        })))
    }

    /// Notes that a token was accepted, presented from `address`: of API keys it is known when they were used, and from where.
    pub fn note_use(&self, good: &Good, address: &str, now: Timestamp) {
        if let Credential::ApiKey(key) = &good.credential {
            self.last_use.note(&key.id, good.secret, address, now);
        }
    }

    /// Whether `token` is a JWT that we signed and that has not expired, whatever was revoked.
    pub async fn authenticate_jwt(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Result<Arc<VerifiedToken>, Inactive>> {
        if token.len() > jwt::MAX_PRESENTED_BYTES {
            return Ok(Err(Inactive::Malformed));
        }
        let digest = sha256(token.as_bytes());
        let known = self.credentials.verified.get(&digest);
        self.credentials.jwt_lookups.count(known.is_some());
        if let Some(known) = known {
            if !self.keyring.publishes(&known.token.signing_key_id) {
                return Ok(Err(Inactive::Unknown));
            }
            return Ok(known
                .token
                .check_times(now)
                .map(|()| known)
                .map_err(|rejection| inactive(&rejection)));
        }
        let token = match self.verify(token, now) {
            Err(Rejection::UnknownKey(_)) => {
                self.keyring.learn_new_keys(now).await?;
                self.verify(token, now)
            }
            verdict => verdict,
        };
        Ok(token
            .map_err(|rejection| inactive(&rejection))
            .map(|token| {
                let verified = Arc::new(VerifiedToken::new(token));
                self.credentials
                    .verified
                    .insert(digest, Arc::clone(&verified));
                verified
            }))
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<AccessToken, Rejection> {
        jwt::verify(token, &self.keyring.published().keys, &self.issuer, now)
    }

    async fn judge_api_key(&self, token: &str, now: Timestamp) -> Result<Verdict> {
        let Some(presented) = ApiKeyToken::parse(token) else {
            return Ok(Err(Inactive::Unknown));
        };
        let Some((record, position)) = self.key_record(&presented.id).await? else {
            return Ok(Err(Inactive::Unknown));
        };
        Ok(record.check(&presented, now).map(|secret| Good {
            credential: Credential::ApiKey(record),
            position,
            secret,
        }))
    }

    /// Loads the records of those keys among `tokens` that are not remembered, a few at a time.
    pub async fn remember_keys(&self, tokens: &[String]) -> Result<()> {
        let keys = tokens.iter().filter(|token| api_key::has_form(token));
        let keys = keys.filter_map(|token| ApiKeyToken::parse(token).map(|key| key.id));
        let missing: Vec<_> = {
            let applied = self.log.applied().await?;
            let fresh = |id: &ApiKeyId| {
                let held = self.credentials.records.peek(id);
                held.is_some_and(|record| is_fresh(&record, &applied))
            };
            keys.filter(|id| !fresh(id)).collect()
        };
        stream::iter(missing.iter().map(Ok))
            .try_for_each_concurrent(LOADS, async |id| self.key_record(id).await.map(drop))
            .await
    }

    /// The record of a key as it stands now, and the place of the log it reflects. None where there is no such key.
    pub async fn key_record(&self, id: &ApiKeyId) -> Result<Option<(Arc<KeyRecord>, Position)>> {
        if let Some(record) = self.credentials.records.get(id) {
            let applied = self.log.applied().await?;
            if is_fresh(&record, &applied) {
                self.credentials.key_lookups.count(true);
                return Ok(Some((record, applied.position())));
            }
        }
        if self.credentials.knows_none(id) {
            drop(self.log.applied().await?);
            self.credentials.key_lookups.count(true);
            return Ok(None);
        }
        for _ in 0..ATTEMPTS {
            let begun = boottime();
            let load = self.load_record(id);
            let record = match self.credentials.records.get_or_insert_async(id, load).await {
                Ok(record) => record,
                Err(LoadFailure::Missing) => {
                    self.credentials.key_lookups.count(false);
                    self.credentials.unknown.insert(id.clone(), begun);
                    return Ok(None);
                }
                Err(LoadFailure::Failed(error)) => return Err(error),
            };
            let applied = self.log.applied().await?;
            if is_fresh(&record, &applied) {
                self.credentials.key_lookups.count(record.loaded < begun);
                return Ok(Some((record, applied.position())));
            }
            drop(applied);
            self.credentials
                .records
                .remove_if(id, |held| Arc::ptr_eq(held, &record));
        }
        Err(
            Error::new(Reason::Overloaded, "the key is changing too fast")
                .retry_after(Duration::from_millis(100)),
        )
    }

    async fn load_record(&self, id: &ApiKeyId) -> Result<Arc<KeyRecord>, LoadFailure> {
        let position = self
            .log
            .applied()
            .await
            .map_err(LoadFailure::Failed)?
            .position();
        let loaded = boottime();
        let stored = storage::api_keys::load(self.db.reader(), id)
            .await
            .map_err(LoadFailure::Failed)?;
        let stored = stored.ok_or(LoadFailure::Missing)?;
        Ok(Arc::new(KeyRecord::new(stored, position, loaded)))
    }
}

/// Why there is no record.
enum LoadFailure {
    Missing,
    Failed(Error),
}

fn is_fresh(record: &KeyRecord, applied: &Applied) -> bool {
    boottime().saturating_sub(record.loaded) < RECORD_LIFE
        && record.loaded >= applied.since()
        && applied
            .changes()
            .fresh_since(record.position, record.about())
}

fn inactive(rejection: &Rejection) -> Inactive {
    match rejection {
        Rejection::Malformed => Inactive::Malformed,
        Rejection::UnknownKey(_) | Rejection::BadSignature | Rejection::WrongIssuer => {
            Inactive::Unknown
        }
        Rejection::Expired => Inactive::Expired,
        Rejection::NotYetValid => Inactive::NotYetValid,
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sha = [0; 32];
    sha.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sha
}

impl Credential {
    /// The space it acts in.
    pub fn space_id(&self) -> &SpaceId {
        match self {
            Self::AccessToken(held) => &held.token.space_id,
            Self::ApiKey(key) => &key.standing.space.id,
        }
    }

    /// What it may do there.
    pub fn scopes(&self) -> &PermissionSet {
        match self {
            Self::AccessToken(held) => &held.token.scopes,
            Self::ApiKey(key) => &key.granted,
        }
    }

    /// Whether it is still as good as it was found to be when the log had been applied up to `checked`.
    pub fn stands(&self, applied: &Applied, checked: Position, now: Timestamp) -> bool {
        match self {
            Self::AccessToken(held) => {
                let token = &held.token;
                let about = About {
                    user: &token.subject,
                    space: &token.space_id,
                    roles: &token.roles,
                    api_key: token.api_key_id.as_ref(),
                };
                token.check_times(now).is_ok()
                    && !applied.revocations().kills(token, &held.targets, now)
                    && applied.changes().fresh_since(checked, about)
            }
            Self::ApiKey(key) => {
                key.check_state(now).is_ok() && applied.changes().fresh_since(checked, key.about())
            }
        }
    }

    /// Whether it may be presented from `address`: an API key that is bound to networks, only from there.
    pub fn allows_address(&self, address: &str) -> bool {
        match self {
            Self::AccessToken(_) => true,
            Self::ApiKey(key) => key.allows_address(address),
        }
    }

    /// Whether it is meant for `audience`: an API key that names none is meant for any.
    pub fn is_meant_for(&self, audience: &str) -> bool {
        let named = |audiences: &[String]| audiences.iter().any(|named| named == audience);
        match self {
            Self::AccessToken(held) => named(&held.token.audiences),
            Self::ApiKey(key) => key.audiences.is_empty() || named(&key.audiences),
        }
    }

    /// UNAUTHENTICATED where something after `position`, with or without a place in the log, ends this credential.
    pub async fn judge_again(
        &self,
        authority: &Authority,
        transaction: &Transaction,
        position: Position,
    ) -> Result<()> {
        let since = storage::revocation_log::since(transaction, position).await?;
        let dead = match self {
            Self::AccessToken(held) => {
                let now = authority.clock.now();
                since.iter().any(|entry| entry.kills(&held.token, now))
            }
            // Which secret was presented is not known any more: a key that changed itself is presented anew.
            Self::ApiKey(key)
                if since
                    .iter()
                    .any(|entry| names(&entry.decision.subject, &key.id)) =>
            {
                return Err(Error::new(
                    Reason::ConcurrentModification,
                    "the caller's key changed at the same time",
                ));
            }
            // Whatever else touches a key, it is looked at again as it stands in this transaction.
            Self::ApiKey(key) => {
                let touched = since.iter().any(|entry| is_touched(key, &entry.decision));
                touched && !is_still_good(key, transaction, authority.clock.now()).await?
            }
        };
        if dead {
            Err(Error::credentials_invalid())
        } else {
            Ok(())
        }
    }
}

fn names(subject: &Subject, key: &ApiKeyId) -> bool {
    matches!(subject, Subject::ApiKey(id) if id == key)
}

fn is_touched(key: &KeyRecord, decision: &Decision) -> bool {
    let here = |space: &SpaceId| *space == key.standing.space.id;
    match &decision.subject {
        Subject::Token(_) | Subject::Session(_) | Subject::SigningKey(_) => false,
        Subject::User(id) => *id == key.standing.user.id,
        Subject::ApiKey(id) => *id == key.id,
        Subject::Role(name) => {
            key.standing.roles.contains_key(name) && decision.space_id.as_ref().is_none_or(here)
        }
        Subject::Space(id) => here(id),
        Subject::Everything | Subject::Unknown => true,
    }
}

/// Whether the key is good, and may do as much, as a transaction sees it.
async fn is_still_good(key: &KeyRecord, transaction: &Transaction, now: Timestamp) -> Result<bool> {
    let stored = storage::api_keys::load(transaction, &key.id).await?;
    Ok(stored.is_some_and(|stored| {
        let fresh = KeyRecord::new(stored, key.position, key.loaded);
        fresh.check_state(now).is_ok() && fresh.granted.contains_all(&key.granted)
    }))
}

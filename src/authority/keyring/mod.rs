//! The keys that sign: one is active, one more is published ahead of its time, and those before stay published until their
//! last token has expired.
//!
//! [`master_key`] seals their private halves; what it seals never leaves the process unsealed.

pub mod master_key;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};

use self::master_key::MasterKey;
use super::Authority;
use crate::{
    clock::Timestamp,
    domain::{
        ids::SigningKeyId,
        jwt::{AccessToken, Algorithm, KeySet, SigningKey, VerifyingKey},
    },
    error::{Error, Result},
    storage::{
        ConnectionTrait, Transaction,
        signing_keys::{self, State, StoredSigningKey},
    },
};

/// How long verifiers may keep the key set.
pub const MAX_AGE: Duration = Duration::from_mins(5);
/// How often a token with an unknown `kid` may cost a read.
const LEARN_PAUSE: Duration = Duration::from_secs(1);

/// The keys as they stand.
#[derive(Debug)]
pub struct Keyring {
    published: ArcSwap<Published>,
    active: ArcSwap<SigningKey>,
    changed: watch::Sender<()>,
    learning: Mutex<()>,
    /// When the keys were last read because of an unknown one, in microseconds since 1970.
    learned: AtomicI64,
}

/// The public halves, as everyone may see them.
#[derive(Debug)]
pub struct Published {
    /// By `kid`.
    pub keys: KeySet,
    /// The JWK set (RFC 7517 section 5), byte for byte as it is served.
    pub jwks_json: Arc<str>,
}

impl Keyring {
    /// Loads the keys. Fails where one cannot be unsealed, or none is active.
    pub async fn load(db: &impl ConnectionTrait, master_key: &MasterKey) -> Result<Self> {
        let (published, active) = read(db, master_key).await?;
        Ok(Self {
            published: ArcSwap::from_pointee(published),
            active: ArcSwap::from_pointee(active),
            changed: watch::Sender::new(()),
            learning: Mutex::new(()),
            learned: AtomicI64::new(i64::MIN),
        })
    }

    /// The public halves.
    pub fn published(&self) -> arc_swap::Guard<Arc<Published>> {
        self.published.load()
    }

    /// Whether tokens of this key may still be accepted.
    pub fn publishes(&self, id: &SigningKeyId) -> bool {
        self.published.load().keys.get(id.as_str()).is_some()
    }

    /// Changes whenever the public halves do.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The `kid` that signs now.
    pub fn active_id(&self) -> SigningKeyId {
        self.active.load().id().clone()
    }

    /// Signs. `FAILED_PRECONDITION/TOKEN_TOO_LARGE` where it would be longer than 4 KiB.
    pub fn sign(&self, token: &AccessToken) -> Result<String> {
        self.active.load().sign(token)
    }

    /// Reads the keys again because a token named an unknown one: shared by all that ask, and at most once a second. Whether
    /// it was read.
    pub(super) async fn learn_new_keys(&self, authority: &Authority) -> Result<bool> {
        let asked = authority.clock.now().micros();
        let pause = i64::try_from(LEARN_PAUSE.as_micros()).unwrap_or(i64::MAX);
        // A clock that was set back must not keep new keys from being learned.
        let recent = |now: i64| {
            (0..pause).contains(&now.saturating_sub(self.learned.load(Ordering::SeqCst)))
        };
        if recent(asked) {
            return Ok(false);
        }
        let _one_at_a_time = self.learning.lock().await;
        if recent(asked) {
            return Ok(true);
        }
        self.learned.store(asked, Ordering::SeqCst);
        let (published, active) = read(authority.db.reader(), &authority.master_key).await?;
        if published.jwks_json != self.published.load().jwks_json {
            self.published.store(Arc::new(published));
            self.changed.send_replace(());
        }
        if *active.id() != self.active_id() {
            self.active.store(Arc::new(active));
        }
        Ok(true)
    }
}

async fn read(
    db: &impl ConnectionTrait,
    master_key: &MasterKey,
) -> Result<(Published, SigningKey)> {
    let mut published = Vec::new();
    let mut active = None;
    for stored in signing_keys::published(db).await? {
        published.push(VerifyingKey::new(stored.algorithm, &stored.public_key)?);
        if stored.state == State::Active {
            active = Some(unseal(&stored, master_key)?);
        }
    }
    let keys: KeySet = published.into_iter().collect();
    let jwks_json = keys.to_jwks_json().into();
    let active = active.ok_or_else(|| Error::internal("no signing key is active"))?;
    Ok((Published { keys, jwks_json }, active))
}

fn unseal(stored: &StoredSigningKey, master_key: &MasterKey) -> Result<SigningKey> {
    let bound = bound_in(&stored.id, stored.algorithm);
    let private = master_key.open(&stored.sealed_private_key, &bound)?;
    SigningKey::from_private(stored.algorithm, &private)
}

/// What a sealed private key cannot be used without: the `kid` and the algorithm that it was sealed for.
fn bound_in(id: &SigningKeyId, algorithm: Algorithm) -> Vec<u8> {
    format!("signing key {} {}", algorithm.as_str(), id).into_bytes()
}

/// Makes a key in the caller's transaction.
pub async fn make(
    transaction: &Transaction,
    master_key: &MasterKey,
    algorithm: Algorithm,
    state: State,
    now: Timestamp,
) -> Result<SigningKeyId> {
    let key = SigningKey::generate(algorithm)?;
    let stored = StoredSigningKey {
        id: key.id().clone(),
        algorithm,
        public_key: key.public_bytes().to_vec(),
        sealed_private_key: master_key
            .seal(&key.private_bytes()?, &bound_in(key.id(), algorithm))?,
        master_key_id: master_key.id().to_owned(),
        state,
        prepare_time: now,
        activate_time: (state == State::Active).then_some(now),
    };
    signing_keys::insert(transaction, &stored).await?;
    Ok(stored.id)
}

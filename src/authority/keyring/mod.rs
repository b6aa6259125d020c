//! The keys that sign, as this process holds them: one is active, one more is published ahead of its time, and those before
//! stay published until their last token has expired.
//!
//! [`master_key`] seals their private halves; what it seals never leaves the process unsealed. [`master_keys`] are all that are
//! configured. What changes keys is in [`super::signing_keys`]: here they are read, and read again whenever the log speaks of
//! one, before that entry counts as applied.

pub mod master_key;
pub mod master_keys;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use self::{master_key::MasterKey, master_keys::MasterKeys};
use crate::{
    clock::Timestamp,
    domain::{
        ids::SigningKeyId,
        jwt::{Algorithm, KeySet, SigningKey, VerifyingKey},
        signing_key::{Life, SigningKeyDescription, State},
    },
    error::{Error, Reason, Result},
    storage::{
        Database, Transaction,
        signing_keys::{self, StoredSigningKey},
    },
};

/// How often tokens with an unknown `kid` may cost a read.
const LEARN_PAUSE: Duration = Duration::from_secs(1);

/// The keys as they stand.
#[derive(Debug)]
pub struct Keyring {
    db: Database,
    master_keys: Arc<MasterKeys>,
    published: ArcSwap<Published>,
    changed: watch::Sender<()>,
    /// How many times reading them was begun.
    begun: AtomicU64,
    /// Which of those reads is in place.
    in_place: Mutex<u64>,
    learned: tokio::sync::Mutex<Option<Learned>>,
}

/// The public halves, as everyone may see them.
#[derive(Debug)]
pub struct Published {
    /// By `kid`.
    pub keys: KeySet,
    /// The JWK set (RFC 7517 section 5), byte for byte as it is served.
    pub jwks_json: Arc<str>,
    /// What signs, of the same moment; none where its private half cannot be had.
    active: Option<Arc<SigningKey>>,
}

/// When the keys were last read because of an unknown one, and whether they could be.
#[derive(Debug, Clone, Copy)]
struct Learned {
    time: Timestamp,
    failed: bool,
}

impl Keyring {
    /// Loads the keys. Fails where none is active, or that one cannot be unsealed.
    pub async fn load(db: Database, master_keys: Arc<MasterKeys>) -> Result<Self> {
        let stored = signing_keys::published(db.reader()).await?;
        let active = active(&stored, None, &master_keys)?;
        Ok(Self {
            db,
            published: ArcSwap::from_pointee(Published::new(&stored, Some(active))),
            master_keys,
            changed: watch::Sender::new(()),
            begun: AtomicU64::new(0),
            in_place: Mutex::new(0),
            learned: tokio::sync::Mutex::new(None),
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

    /// What signs now. `INTERNAL` where its private half cannot be had.
    pub fn active(&self) -> Result<Arc<SigningKey>> {
        let active = self.published.load().active.clone();
        active.ok_or_else(|| Error::internal("no signing key can be used"))
    }

    /// Reads the keys again, and fails where that cannot be done.
    ///
    /// Reads may overlap. The one that was begun last counts, whichever is done first: what was revoked is never put back by a
    /// read that began before.
    pub async fn reload(&self) -> Result<()> {
        let turn = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let stored = signing_keys::published(self.db.reader()).await?;
        let mut in_place = self.in_place.lock().unwrap_or_else(PoisonError::into_inner);
        if turn < *in_place {
            return Ok(());
        }
        *in_place = turn;
        let before = self.published.load();
        let active = active(&stored, before.active.as_ref(), &self.master_keys)
            .inspect_err(|error| tracing::error!(error = ?error, "signing_key.none_can_be_used"));
        let fresh = Published::new(&stored, active.ok());
        let changed = fresh.jwks_json != before.jwks_json;
        self.published.store(Arc::new(fresh));
        if changed {
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// Reads the keys again because a token named an unknown one: shared by all that ask, and at most once a second.
    /// UNAVAILABLE where that read failed: nothing is known of such a token then.
    pub(super) async fn learn_new_keys(&self, now: Timestamp) -> Result<()> {
        let mut learned = self.learned.lock().await;
        let last = match *learned {
            Some(last) if last.is_recent(now) => last,
            Some(_) | None => {
                let read = self.reload().await;
                let failed = read
                    .inspect_err(|error| tracing::warn!(error = ?error, "signing_keys.unread"))
                    .is_err();
                *learned.insert(Learned { time: now, failed })
            }
        };
        if last.failed {
            return Err(Error::new(
                Reason::DatabaseUnavailable,
                "the signing keys cannot be read",
            )
            .retry_after(LEARN_PAUSE));
        }
        Ok(())
    }
}

impl Learned {
    /// A clock that was set back must not keep new keys from being learned for long.
    fn is_recent(self, now: Timestamp) -> bool {
        now.since(self.time).max(self.time.since(now)) < LEARN_PAUSE
    }
}

impl Published {
    fn new(stored: &[StoredSigningKey], active: Option<Arc<SigningKey>>) -> Self {
        let keys: KeySet = stored.iter().filter_map(public_half).collect();
        Self {
            jwks_json: keys.to_jwks_json().into(),
            keys,
            active,
        }
    }
}

/// The public half, where it is the one that its `kid` names: a row that is spoilt harms nobody else.
fn public_half(stored: &StoredSigningKey) -> Option<VerifyingKey> {
    let described = &stored.described;
    let key = VerifyingKey::new(described.algorithm, &stored.public_key);
    let key = key.ok().filter(|key| *key.id() == described.id);
    if key.is_none() {
        tracing::error!(signing_key.id = %described.id, "signing_key.unreadable");
    }
    key
}

/// The active key, unsealed unless it is the one from `before`.
fn active(
    stored: &[StoredSigningKey],
    before: Option<&Arc<SigningKey>>,
    master_keys: &MasterKeys,
) -> Result<Arc<SigningKey>> {
    let active = stored
        .iter()
        .find(|key| key.described.life.state == State::Active)
        .ok_or_else(|| Error::internal("no signing key is active"))?;
    let id = &active.described.id;
    if let Some(known) = before.filter(|known| known.id() == id) {
        return Ok(Arc::clone(known));
    }
    let algorithm = active.described.algorithm;
    let private = master_keys.open(&active.sealed_private_key, &bound_in(id, algorithm))?;
    SigningKey::from_private(algorithm, &private).map(Arc::new)
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
    life: Life,
) -> Result<SigningKeyDescription> {
    let key = SigningKey::generate(algorithm)?;
    let stored = StoredSigningKey {
        described: SigningKeyDescription {
            id: key.id().clone(),
            algorithm,
            life,
        },
        public_key: key.public_bytes().to_vec(),
        sealed_private_key: master_key
            .seal(&key.private_bytes()?, &bound_in(key.id(), algorithm))?,
        master_key_id: master_key.id().to_owned(),
    };
    signing_keys::insert(transaction, &stored).await?;
    Ok(stored.described)
}

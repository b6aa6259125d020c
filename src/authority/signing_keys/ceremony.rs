//! A change of signing keys: each step is a key's row, an entry in the log and an audit row, all in one transaction. Nobody else
//! changes keys meanwhile, and when it is over, one key is active and one at least is prepared.

use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks},
        keyring,
    },
    clock::Timestamp,
    domain::{
        ids::{EventId, SigningKeyId},
        jwt::Algorithm,
        revocation::{Reason, Subject},
        signing_key::{Life, MAX_PREPARED, SigningKeyDescription, State},
    },
    error::{Error, Reason as Because, Result},
    storage::signing_keys,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Ceremony<'a> {
    authority: &'a Authority,
    /// Of which it is all a part.
    pub(super) change: Change<'a>,
    /// The keys that are published, oldest first.
    published: Vec<SigningKeyDescription>,
}

impl<'a> Ceremony<'a> {
    /// Begins in the name of `caller`, or of the authority itself, once nobody else changes keys.
    pub(super) async fn begin(
        authority: &'a Authority,
        caller: Option<&'a Caller>,
    ) -> Result<Self> {
        let change = Change::begin(authority, caller, Locks::default()).await?;
        signing_keys::lock(&change.transaction).await?;
        let stored = signing_keys::published(&change.transaction).await?;
        Ok(Self {
            authority,
            change,
            published: stored.into_iter().map(|key| key.described).collect(),
        })
    }

    /// When it takes place.
    pub(super) fn now(&self) -> Timestamp {
        self.change.now
    }

    /// The keys that are published, oldest first.
    pub(super) fn published(&self) -> &[SigningKeyDescription] {
        &self.published
    }

    /// The oldest key in a state.
    pub(super) fn oldest(&self, state: State) -> Option<&SigningKeyDescription> {
        self.published.iter().find(|key| key.life.state == state)
    }

    /// A key, whatever its state. NOT_FOUND where there is none.
    pub(super) async fn find(&self, id: &SigningKeyId) -> Result<SigningKeyDescription> {
        let found = signing_keys::find(&self.change.transaction, id).await?;
        found.ok_or_else(|| Error::not_found("signing_key"))
    }

    /// Makes a key and publishes it. `FAILED_PRECONDITION/SIGNING_KEY_STATE` where 16 are prepared already.
    pub(super) async fn prepare(&mut self, algorithm: Algorithm) -> Result<SigningKeyDescription> {
        let prepared = |key: &&SigningKeyDescription| key.life.state == State::Prepared;
        if self.published.iter().filter(prepared).count() >= MAX_PREPARED {
            return Err(Error::new(
                Because::SigningKeyState,
                format!("{MAX_PREPARED} keys are prepared already; activate or revoke one"),
            ));
        }
        let made = keyring::make(
            &self.change.transaction,
            self.authority.master_keys.first(),
            algorithm,
            Life::prepared(self.change.now),
        )
        .await?;
        self.published.push(made.clone());
        self.tell("signing_key.prepare", &made).await?;
        Ok(made)
    }

    /// Has a prepared key sign; the one that does stays published for its tokens.
    pub(super) async fn activate(
        &mut self,
        key: &SigningKeyDescription,
        force: bool,
    ) -> Result<SigningKeyDescription> {
        let life = key.life.activate(self.now(), force)?;
        // First, since there is never more than one that is active.
        if let Some(before) = self.oldest(State::Active).cloned() {
            let retiring = before.life.retire(self.now())?;
            let retiring = self.set(&before, retiring).await?;
            self.tell("signing_key.retire", &retiring).await?;
        }
        let active = self.set(key, life).await?;
        self.tell("signing_key.activate", &active).await?;
        Ok(active)
    }

    /// Takes a key that is over out of the published set.
    pub(super) async fn remove(&mut self, key: &SigningKeyDescription) -> Result<()> {
        let removed = self.set(key, key.life.remove(self.now())?).await?;
        self.tell("signing_key.remove", &removed).await
    }

    /// Withdraws a key and kills every JWT with its `kid`. Where it was the one that signs, the oldest prepared one takes over,
    /// however new it is. The id of the entry that kills.
    pub(super) async fn revoke(
        &mut self,
        key: &SigningKeyDescription,
        reason: Reason,
        comment: &str,
    ) -> Result<EventId> {
        let revoked = self.set(key, key.life.revoke(self.now())?).await?;
        let subject = Subject::SigningKey(revoked.id.clone());
        let event_id = self.change.kill_everywhere(subject, reason).await?;
        let details = [("comment", comment)];
        self.change
            .audit_everywhere("signing_key.revoke", revoked.id.as_str(), &details)
            .await?;
        if self.oldest(State::Active).is_none() {
            self.keep_one_prepared().await?;
            if let Some(next) = self.oldest(State::Prepared).cloned() {
                self.activate(&next, true).await?;
            }
        }
        Ok(event_id)
    }

    /// Prepares a key where none is.
    pub(super) async fn keep_one_prepared(&mut self) -> Result<()> {
        if self.oldest(State::Prepared).is_none() {
            self.prepare(self.authority.signing_keys.algorithm).await?;
        }
        Ok(())
    }

    async fn set(
        &mut self,
        key: &SigningKeyDescription,
        life: Life,
    ) -> Result<SigningKeyDescription> {
        let key = SigningKeyDescription {
            life,
            ..key.clone()
        };
        signing_keys::update(&self.change.transaction, &key).await?;
        self.published.retain(|other| other.id != key.id);
        if life.state.is_published() {
            self.published.push(key.clone());
            self.published
                .sort_by(|one, other| order(one).cmp(&order(other)));
        }
        Ok(key)
    }

    /// Has every server read the keys again, and writes down why.
    async fn tell(&mut self, action: &'static str, key: &SigningKeyDescription) -> Result<()> {
        let subject = Subject::SigningKey(key.id.clone());
        self.change.touch_everywhere(subject).await?;
        let details = [("algorithm", key.algorithm.as_str())];
        self.change
            .audit_everywhere(action, key.id.as_str(), &details)
            .await
    }
}

fn order(key: &SigningKeyDescription) -> (Timestamp, &SigningKeyId) {
    (key.life.prepare_time, &key.id)
}

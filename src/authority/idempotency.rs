//! Lost answers: for 10 minutes a retry with the same idempotency key gets the answer that was given.
//!
//! No answer is stored as it was: a key's secret is derived again from stored random bytes under the master key, a JWT is its
//! claims signed again.

use std::time::Duration;

use aws_lc_rs::digest;

use super::{caller::Caller, credentials::Credential};
use crate::{
    clock::Timestamp,
    error::{Error, Reason, Result},
    storage::{ConnectionTrait, Transaction, idempotency_keys},
};

pub use idempotency_keys::Answer;

/// How long a retry counts as one.
pub const LIFE: Duration = Duration::from_mins(10);

/// Which request: whose, which method, under which key, and what it asked.
#[derive(Debug)]
pub struct Request {
    key: idempotency_keys::Key,
    /// SHA-256 of what was asked, but for `wait`.
    digest: [u8; 32],
}

impl Request {
    /// A request that carried an idempotency key; none where it carried none. INVALID_ARGUMENT where the key is no UUID. `asked`
    /// is the request without it: a UUID may be written in several ways.
    pub fn new(
        owner: &str,
        method: &'static str,
        key: &str,
        asked: &impl prost::Message,
    ) -> Result<Option<Self>> {
        if key.is_empty() {
            return Ok(None);
        }
        let uuid = uuid::Uuid::try_parse(key)
            .map_err(|_| Error::field("idempotency_key", "must be a UUID"))?;
        let mut sha = [0; 32];
        sha.copy_from_slice(digest::digest(&digest::SHA256, &asked.encode_to_vec()).as_ref());
        let key = idempotency_keys::Key {
            owner: owner.to_owned(),
            method,
            idempotency_key: uuid.to_string(),
        };
        Ok(Some(Self { key, digest: sha }))
    }

    /// The same, bound to the caller's session or API key.
    pub fn of_caller(
        caller: &Caller,
        method: &'static str,
        key: &str,
        asked: &impl prost::Message,
    ) -> Result<Option<Self>> {
        let owner = match &caller.credential {
            Credential::AccessToken(held) => held.token.session_id.as_str(),
            Credential::ApiKey(record) => record.id.as_str(),
        };
        Self::new(owner, method, key, asked)
    }

    /// The answer that was given, where this is a retry. `INVALID_ARGUMENT/IDEMPOTENCY_KEY_REUSED` where something else was
    /// asked under the same key.
    pub async fn find(&self, db: &impl ConnectionTrait, now: Timestamp) -> Result<Option<Answer>> {
        let Some(row) = idempotency_keys::find(db, &self.key, now).await? else {
            return Ok(None);
        };
        if row.request_digest != self.digest {
            return Err(Error::new(
                Reason::IdempotencyKeyReused,
                "the idempotency key was used for a different request",
            ));
        }
        Ok(Some(row.answer))
    }

    /// Remembers the answer, in the transaction that makes it. ABORTED where the same request is under way.
    pub async fn remember(
        &self,
        transaction: &Transaction,
        answer: Answer,
        now: Timestamp,
    ) -> Result<()> {
        let row = idempotency_keys::Row {
            request_digest: self.digest.to_vec(),
            answer,
        };
        idempotency_keys::insert(transaction, &self.key, row, now, now + LIFE).await
    }
}

//! Answers for retries.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter};

use super::{
    entity::{HiddenBytes, idempotency_keys},
    statement::execute,
    violated_constraint,
};
use crate::{
    clock::Timestamp,
    domain::ids::EventId,
    error::{Error, Reason, Result},
};

/// Which request.
#[derive(Debug)]
pub struct Key {
    /// The caller's session or API key, or the presented token.
    pub owner: String,
    /// The method.
    pub method: &'static str,
    /// The caller's choice.
    pub idempotency_key: String,
}

/// What a retry is answered from. Debug hides the seed.
pub struct Answer {
    /// What was made, in the words of its method.
    pub made: serde_json::Value,
    /// What a secret is derived from.
    pub seed: Option<[u8; 32]>,
}

impl Answer {
    /// That an entry of the revocation log was made.
    pub fn event(event_id: &EventId) -> Self {
        Self {
            made: serde_json::json!({ "event_id": event_id }),
            seed: None,
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

/// What was asked before, and answered.
#[derive(Debug)]
pub struct Row {
    /// SHA-256 of what was asked.
    pub request_digest: Vec<u8>,
    /// What it was answered.
    pub answer: Answer,
}

/// The answer to an earlier request under the same key; none where there is none, or it is too old.
pub async fn find(db: &impl ConnectionTrait, key: &Key, now: Timestamp) -> Result<Option<Row>> {
    let key = (
        key.owner.clone(),
        key.method.to_owned(),
        key.idempotency_key.clone(),
    );
    let model = idempotency_keys::Entity::find_by_id(key)
        .filter(idempotency_keys::Column::ExpireTime.gt(now.micros()))
        .one(db)
        .await?;
    Ok(model.map(|model| Row {
        request_digest: model.request_digest.0,
        answer: Answer {
            made: model.answer,
            seed: model.seed.and_then(|seed| seed.0.try_into().ok()),
        },
    }))
}

/// Remembers an answer. `ABORTED/CONCURRENT_MODIFICATION` where the same request is under way or done.
pub async fn insert(
    db: &impl ConnectionTrait,
    key: &Key,
    row: Row,
    now: Timestamp,
    expire_time: Timestamp,
) -> Result<()> {
    let sql = "DELETE FROM idempotency_keys
               WHERE owner = $1 AND method = $2 AND idempotency_key = $3 AND expire_time <= $4";
    let values = [
        key.owner.as_str().into(),
        key.method.into(),
        key.idempotency_key.as_str().into(),
        now.micros().into(),
    ];
    execute(db, sql, values).await?;
    let model = idempotency_keys::Model {
        owner: key.owner.clone(),
        method: key.method.to_owned(),
        idempotency_key: key.idempotency_key.clone(),
        request_digest: HiddenBytes(row.request_digest),
        answer: row.answer.made,
        seed: row.answer.seed.map(|seed| HiddenBytes(seed.to_vec())),
        create_time: now.micros(),
        expire_time: expire_time.micros(),
    };
    let inserted = idempotency_keys::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if violated_constraint(&error).as_deref() == Some("idempotency_keys_pkey") => {
            Err(Error::new(
                Reason::ConcurrentModification,
                "the same request is under way",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Forgets up to `limit` answers that are too old, and what secrets were made of with them.
pub async fn forget(db: &impl ConnectionTrait, now: Timestamp, limit: u32) -> Result<u64> {
    let sql = "DELETE FROM idempotency_keys WHERE (owner, method, idempotency_key) IN
               (SELECT owner, method, idempotency_key FROM idempotency_keys WHERE expire_time <= $1 LIMIT $2)";
    execute(db, sql, [now.micros().into(), i64::from(limit).into()]).await
}

//! JWTs that were rotated: none is rotated twice.

use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel};

use super::{entity::rotated_tokens, statement::execute, violated_constraint};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{EventId, SessionId, TokenId},
        revocation::FORGET_AFTER,
    },
    error::{Error, Reason, Result},
};

/// A token that another one has replaced.
#[derive(Debug)]
pub struct RotatedToken {
    /// The old one.
    pub token_id: TokenId,
    /// Of which sign-in.
    pub session_id: SessionId,
    /// The entry of the log that ends it.
    pub event_id: EventId,
    /// When it was rotated.
    pub rotate_time: Timestamp,
    /// When it ends.
    pub effective_time: Timestamp,
}

/// The rotation of a token; none where it was not rotated.
pub async fn find(db: &impl ConnectionTrait, id: &TokenId) -> Result<Option<RotatedToken>> {
    let model = rotated_tokens::Entity::find_by_id(id.to_string())
        .one(db)
        .await?;
    Ok(model.map(|model| RotatedToken {
        token_id: TokenId::known(model.token_id),
        session_id: SessionId::known(model.session_id),
        event_id: EventId::known(model.event_id),
        rotate_time: Timestamp::from_micros(model.rotate_time),
        effective_time: Timestamp::from_micros(model.effective_time),
    }))
}

/// Remembers a rotation. `ABORTED/CONCURRENT_MODIFICATION` where the token has been rotated already.
pub async fn insert(db: &impl ConnectionTrait, rotated: &RotatedToken) -> Result<()> {
    let model = rotated_tokens::Model {
        token_id: rotated.token_id.to_string(),
        session_id: rotated.session_id.to_string(),
        event_id: rotated.event_id.to_string(),
        rotate_time: rotated.rotate_time.micros(),
        effective_time: rotated.effective_time.micros(),
        forget_time: (rotated.rotate_time + FORGET_AFTER).micros(),
    };
    let inserted = rotated_tokens::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if violated_constraint(&error).as_deref() == Some("rotated_tokens_pkey") => {
            Err(Error::new(
                Reason::ConcurrentModification,
                "the token has been rotated already",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Forgets up to `limit` rotations of tokens that have expired by now.
pub async fn forget(db: &impl ConnectionTrait, now: Timestamp, limit: u32) -> Result<u64> {
    let sql = "DELETE FROM rotated_tokens WHERE token_id IN
               (SELECT token_id FROM rotated_tokens WHERE forget_time < $1 LIMIT $2)";
    execute(db, sql, [now.micros().into(), i64::from(limit).into()]).await
}

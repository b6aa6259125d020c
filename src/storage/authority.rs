//! The one row that says which authority this is.

use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel};

use super::{
    Engine,
    entity::{HiddenBytes, authority},
    statement::{engine_of, execute},
};
use crate::{
    clock::Timestamp,
    error::{Error, Result},
};

/// The row, as far as it never changes by itself.
#[derive(Debug)]
pub struct AuthorityRow {
    /// Which log it is.
    pub log_identity: [u8; 16],
    /// By which a wrong master key is told.
    pub key_check: Vec<u8>,
    /// The master key that seals.
    pub master_key_id: String,
}

/// The row; none in an empty database.
pub async fn find(db: &impl ConnectionTrait) -> Result<Option<AuthorityRow>> {
    let Some(model) = authority::Entity::find_by_id(1).one(db).await? else {
        return Ok(None);
    };
    let identity = u128::from_str_radix(&model.log_identity, 16)
        .map_err(|error| Error::internal("the log's identity cannot be read").because(error))?;
    Ok(Some(AuthorityRow {
        log_identity: identity.to_be_bytes(),
        key_check: model.key_check.0,
        master_key_id: model.master_key_id,
    }))
}

/// Keeps other servers from writing the row until the transaction is over. On SQLite the transaction does.
pub async fn lock_for_bootstrap(db: &impl ConnectionTrait) -> Result<()> {
    /// `bootstra` in ASCII.
    const LOCK: i64 = 0x626f_6f74_7374_7261;
    if engine_of(db) == Engine::Postgres {
        execute(db, "SELECT pg_advisory_xact_lock($1)", [LOCK.into()]).await?;
    }
    Ok(())
}

/// Writes the row, once.
pub async fn insert(db: &impl ConnectionTrait, row: &AuthorityRow, now: Timestamp) -> Result<()> {
    let model = authority::Model {
        authority_id: 1,
        log_identity: format!("{:032x}", u128::from_be_bytes(row.log_identity)),
        timeline: None,
        key_check: HiddenBytes(row.key_check.clone()),
        master_key_id: row.master_key_id.clone(),
        audit_sequence: 0,
        audit_digest: None,
        audit_hmac: None,
        create_time: now.micros(),
    };
    authority::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Writes which master key seals from now on.
pub async fn set_master_key(
    db: &impl ConnectionTrait,
    key_check: &[u8],
    master_key_id: &str,
) -> Result<()> {
    let sql = "UPDATE authority SET key_check = $1, master_key_id = $2 WHERE authority_id = 1";
    execute(db, sql, [key_check.to_vec().into(), master_key_id.into()]).await?;
    Ok(())
}

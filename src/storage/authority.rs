//! The one row that says which authority this is.

use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel, QuerySelect as _};

use super::{
    Engine,
    entity::{HiddenBytes, authority},
    statement::{engine_of, execute, statement},
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

/// The row; none in an empty database. The end of the audit chain is not read: whatever somebody has made of it, servers start.
pub async fn find(db: &impl ConnectionTrait) -> Result<Option<AuthorityRow>> {
    let found: Option<(String, HiddenBytes, String)> = authority::Entity::find_by_id(1)
        .select_only()
        .column(authority::Column::LogIdentity)
        .column(authority::Column::KeyCheck)
        .column(authority::Column::MasterKeyId)
        .into_tuple()
        .one(db)
        .await?;
    let Some((log_identity, key_check, master_key_id)) = found else {
        return Ok(None);
    };
    Ok(Some(AuthorityRow {
        log_identity: identity(&log_identity)?,
        key_check: key_check.0,
        master_key_id,
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

/// PostgreSQL's timeline now.
pub(super) const TIMELINE_NOW: &str =
    "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint";

/// Writes the row, once; where the audit chain ends is still to be written.
pub async fn insert(db: &impl ConnectionTrait, row: &AuthorityRow, now: Timestamp) -> Result<()> {
    let model = authority::Model {
        authority_id: 1,
        log_identity: identity_column(row.log_identity),
        timeline: None,
        key_check: HiddenBytes(row.key_check.clone()),
        master_key_id: row.master_key_id.clone(),
        audit_sequence: 0,
        audit_digest: None,
        audit_hmac: None,
        latest_time: 0,
        create_time: now.micros(),
    };
    authority::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    if engine_of(db) == Engine::Postgres {
        // A standby may take over before the log has grown.
        let sql = format!("UPDATE authority SET timeline = {TIMELINE_NOW} WHERE authority_id = 1");
        execute(db, sql, []).await?;
    }
    Ok(())
}

/// What the log is called.
pub async fn log_identity(db: &impl ConnectionTrait) -> Result<[u8; 16]> {
    let row = find(db).await?;
    let row = row.ok_or_else(|| Error::internal("the authority's row is missing"))?;
    Ok(row.log_identity)
}

/// Gives the log another name.
pub async fn name_log(db: &impl ConnectionTrait, identity: [u8; 16]) -> Result<()> {
    let sql = "UPDATE authority SET log_identity = $1 WHERE authority_id = 1";
    execute(db, sql, [identity_column(identity).into()]).await?;
    Ok(())
}

/// PostgreSQL's timeline when the log last grew or was made, if that is known, and its timeline now: a standby that takes over
/// begins another one.
pub async fn timelines(db: &impl ConnectionTrait) -> Result<(Option<i64>, i64)> {
    let sql =
        format!("SELECT timeline, {TIMELINE_NOW} AS now FROM authority WHERE authority_id = 1");
    let row = db.query_one_raw(statement(db, sql, [])).await?;
    let row = row.ok_or_else(|| Error::internal("the authority's row is missing"))?;
    Ok((row.try_get("", "timeline")?, row.try_get("", "now")?))
}

/// Notes PostgreSQL's timeline.
pub async fn set_timeline(db: &impl ConnectionTrait, timeline: i64) -> Result<()> {
    let sql = "UPDATE authority SET timeline = $1 WHERE authority_id = 1";
    execute(db, sql, [timeline.into()]).await?;
    Ok(())
}

/// Notes what time it is by a clock that is believed.
pub async fn note_time(db: &impl ConnectionTrait, now: Timestamp) -> Result<()> {
    let sql = "UPDATE authority SET latest_time = $1 WHERE authority_id = 1 AND latest_time < $1";
    execute(db, sql, [now.micros().into()]).await?;
    Ok(())
}

pub(super) fn identity(column: &str) -> Result<[u8; 16]> {
    let identity = u128::from_str_radix(column, 16)
        .map_err(|error| Error::internal("the log's identity cannot be read").because(error))?;
    Ok(identity.to_be_bytes())
}

fn identity_column(identity: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(identity))
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

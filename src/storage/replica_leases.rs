//! Which servers may answer from what they remember, and how far each has applied the log. PostgreSQL only.
//!
//! A lease is renewed and taken away by updates of one row: whichever comes first, the other one touches nothing.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};

use super::{
    authority,
    statement::{execute, statement},
};
use crate::{
    clock::Timestamp,
    domain::{ids::ReplicaId, lease::LeaseRow, revocation::Position},
    error::{Error, Result},
};

/// Opens a lease under which nothing is applied yet; once, under one id.
pub async fn open(
    db: &impl ConnectionTrait,
    id: &ReplicaId,
    name: &str,
    issuer: &str,
    now: Timestamp,
) -> Result<bool> {
    let sql = "INSERT INTO replica_leases (replica_id, name, issuer, beat, applied, join_time) \
               VALUES ($1, $2, $3, 0, 0, $4)";
    let values: [Value; 4] = [
        id.as_str().into(),
        name.into(),
        issuer.into(),
        now.micros().into(),
    ];
    Ok(execute(db, sql, values).await? > 0)
}

/// Renews a lease under which everything up to `applied` is applied. False where it was taken away.
pub async fn renew(db: &impl ConnectionTrait, id: &ReplicaId, applied: Position) -> Result<bool> {
    let sql = "UPDATE replica_leases SET beat = beat + 1, applied = greatest(applied, $2) \
               WHERE replica_id = $1 AND fence_time IS NULL";
    let values: [Value; 2] = [id.as_str().into(), column(applied.0)];
    Ok(execute(db, sql, values).await? > 0)
}

/// Takes a lease away that was not renewed after `beat`. False where it was, or is no more.
pub async fn fence(
    db: &impl ConnectionTrait,
    id: &ReplicaId,
    beat: u64,
    now: Timestamp,
) -> Result<bool> {
    let sql = "UPDATE replica_leases SET fence_time = $3 WHERE replica_id = $1 AND beat = $2 AND fence_time IS NULL";
    let values: [Value; 3] = [id.as_str().into(), column(beat), now.micros().into()];
    Ok(execute(db, sql, values).await? > 0)
}

/// Gives a lease back.
pub async fn give_back(db: &impl ConnectionTrait, id: &ReplicaId) -> Result<()> {
    let sql = "DELETE FROM replica_leases WHERE replica_id = $1";
    execute(db, sql, [id.as_str().into()]).await?;
    Ok(())
}

/// Forgets the leases that were taken away before `until`.
pub async fn forget(db: &impl ConnectionTrait, until: Timestamp) -> Result<()> {
    let sql = "DELETE FROM replica_leases WHERE fence_time < $1";
    execute(db, sql, [until.micros().into()]).await?;
    Ok(())
}

/// What there was at one moment.
#[derive(Debug)]
pub struct Looked {
    /// What the log was called; another name means another log.
    pub log: [u8; 16],
    /// Its head.
    pub head: Position,
    /// Every lease. None is left out because it looks old.
    pub leases: Vec<LeaseRow>,
}

/// Looks at the leases and the log.
pub async fn look(db: &impl ConnectionTrait) -> Result<Looked> {
    let sql = "SELECT log_identity, head, replica_id, beat, applied, fence_time FROM \
               (SELECT log_identity, (SELECT coalesce(max(position), 0) FROM revocation_log) AS head \
                FROM authority WHERE authority_id = 1) AS log \
               LEFT JOIN replica_leases ON true";
    let rows = Row::find_by_statement(statement(db, sql, []))
        .all(db)
        .await?;
    let first = rows
        .first()
        .ok_or_else(|| Error::internal("the authority's row is missing"))?;
    Ok(Looked {
        log: authority::identity(&first.log_identity)?,
        head: Position(number(first.head)),
        leases: rows.into_iter().filter_map(Row::lease).collect(),
    })
}

/// What people know the servers by.
pub async fn names(db: &impl ConnectionTrait) -> Result<HashMap<ReplicaId, String>> {
    let sql = "SELECT replica_id, name FROM replica_leases";
    let rows = db.query_all_raw(statement(db, sql, [])).await?;
    let named = rows.iter().map(|row| {
        let id = ReplicaId::known(row.try_get::<String>("", "replica_id")?);
        Ok((id, row.try_get("", "name")?))
    });
    named.collect()
}

/// A lease of a server with another issuer, and how often it was renewed.
#[derive(Debug, PartialEq, Eq, FromQueryResult)]
pub struct Stranger {
    replica_id: String,
    beat: i64,
    /// Its issuer.
    pub issuer: String,
}

/// The leases of servers with another issuer that were not taken away.
pub async fn of_other_issuers(db: &impl ConnectionTrait, issuer: &str) -> Result<Vec<Stranger>> {
    let sql = "SELECT replica_id, beat, issuer FROM replica_leases WHERE issuer <> $1 AND fence_time IS NULL";
    Ok(
        Stranger::find_by_statement(statement(db, sql, [issuer.into()]))
            .all(db)
            .await?,
    )
}

#[derive(Debug, FromQueryResult)]
struct Row {
    log_identity: String,
    head: i64,
    replica_id: Option<String>,
    beat: Option<i64>,
    applied: Option<i64>,
    fence_time: Option<i64>,
}

impl Row {
    fn lease(self) -> Option<LeaseRow> {
        Some(LeaseRow {
            id: ReplicaId::known(self.replica_id?),
            beat: number(self.beat?),
            applied: Position(number(self.applied?)),
            fenced: self.fence_time.is_some(),
        })
    }
}

fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or_default()
}

fn column(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

//! When API keys were used and users signed in: written for many at a time, forward only.
//!
//! Rows that somebody is changing are left out, and are not among those that are said to be written: many are noted in one
//! transaction, which must not wait for those that wait for it.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use sea_orm::ConnectionTrait;
use serde_json::json;

use super::statement::{execute, given_rows, rows, statement, unless_locked};
use crate::{
    clock::Timestamp,
    domain::ids::{ApiKeyId, UserId},
    error::Result,
};

/// Uses of an API key.
#[derive(Debug, Clone, Default)]
pub struct KeyUse {
    /// The last time by each of its secrets.
    pub secrets: BTreeMap<i64, Timestamp>,
    /// The last address, where one is known.
    pub address: Option<IpAddr>,
}

/// Notes uses of keys, and says of which.
pub async fn note_uses(
    db: &impl ConnectionTrait,
    uses: &[(ApiKeyId, KeyUse)],
) -> Result<HashSet<ApiKeyId>> {
    let columns = [("id", "text"), ("used", "bigint"), ("address", "text")];
    let (given, free) = (given_rows(db, &columns), unless_locked(db, "api_keys"));
    let sql = format!(
        "UPDATE api_keys
         SET last_use_time = CASE WHEN last_use_time > used THEN last_use_time ELSE used END,
             last_use_address = CASE WHEN last_use_time > used THEN last_use_address
                                     ELSE coalesce(address, last_use_address) END
         FROM (SELECT id, used, address FROM {given} JOIN api_keys ON api_key_id = id {free}) AS free
         WHERE api_key_id = id RETURNING api_key_id"
    );
    let last_uses = uses.iter().map(|(id, noted)| {
        let last = noted.secrets.values().max().map(|time| time.micros());
        json!({ "id": id, "used": last, "address": noted.address })
    });
    let last_uses: Vec<_> = last_uses.collect();
    let found = db
        .query_all_raw(statement(db, sql, [rows(&last_uses)?]))
        .await?;
    let written = found
        .iter()
        .map(|row| Ok(ApiKeyId::known(row.try_get::<String>("", "api_key_id")?)))
        .collect::<Result<_>>()?;
    note_secrets(db, uses, &written).await?;
    Ok(written)
}

/// Those of keys that are `written`: whoever changes a secret has locked its key.
async fn note_secrets(
    db: &impl ConnectionTrait,
    uses: &[(ApiKeyId, KeyUse)],
    written: &HashSet<ApiKeyId>,
) -> Result<()> {
    let columns = [("id", "text"), ("number", "bigint"), ("used", "bigint")];
    let given = given_rows(db, &columns);
    let sql = format!(
        "UPDATE api_key_secrets SET last_use_time = used FROM {given}
         WHERE api_key_id = id AND secret_number = number AND (last_use_time IS NULL OR last_use_time < used)"
    );
    let uses = uses.iter().filter(|(id, _)| written.contains(id));
    let by_secret = uses.flat_map(|(id, noted)| {
        let by_secret = noted.secrets.iter();
        by_secret
            .map(move |(number, time)| json!({ "id": id, "number": number, "used": time.micros() }))
    });
    let by_secret: Vec<_> = by_secret.collect();
    execute(db, sql, [rows(&by_secret)?]).await?;
    Ok(())
}

/// Notes when users signed in, and says of which.
pub async fn note_sign_ins(
    db: &impl ConnectionTrait,
    sign_ins: &[(UserId, Timestamp)],
) -> Result<HashSet<UserId>> {
    let given = given_rows(db, &[("id", "text"), ("used", "bigint")]);
    let free = unless_locked(db, "users");
    let sql = format!(
        "UPDATE users
         SET last_sign_in_time = CASE WHEN last_sign_in_time > used THEN last_sign_in_time ELSE used END
         FROM (SELECT id, used FROM {given} JOIN users ON user_id = id {free}) AS free
         WHERE user_id = id RETURNING user_id"
    );
    let times: Vec<_> = sign_ins
        .iter()
        .map(|(id, time)| json!({ "id": id, "used": time.micros() }))
        .collect();
    let found = db
        .query_all_raw(statement(db, sql, [rows(&times)?]))
        .await?;
    found
        .iter()
        .map(|row| Ok(UserId::known(row.try_get::<String>("", "user_id")?)))
        .collect()
}

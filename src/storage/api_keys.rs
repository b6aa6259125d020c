//! API keys and the digests of their secrets: as they are judged, made, changed and ended here, as people are shown them in
//! `described`.

mod described;

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryResult, Value};

pub use self::described::{Wanted, describe, list};
use super::{
    entity::{HiddenBytes, StringList, StringMap, api_key_secrets, api_keys},
    standing,
    statement::{execute, statement},
};
use crate::{
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, Bounds, Secret, SecretDigest, StoredKey},
        ids::{ApiKeyId, RoleName, SpaceId, UserId},
        standing::Standing,
    },
    error::{Error, Reason, Result},
};

/// When a key was ended: by itself, with its user or its space, or with all the keys of either.
const ENDED: &str = "coalesce(k.revoke_time, u.delete_time, s.delete_time, \
     CASE WHEN k.user_generation <> u.key_generation THEN u.keys_ended_time END, \
     CASE WHEN k.space_generation <> s.key_generation THEN s.keys_ended_time END)";

/// A key with its user, space, roles and secrets, in one statement. None where there is no such key.
pub async fn load(db: &impl ConnectionTrait, id: &ApiKeyId) -> Result<Option<StoredKey>> {
    let sql = format!(
        "SELECT k.roles AS key_roles, k.scopes, k.audiences, k.allowed_cidrs, k.disabled, k.expire_time, k.create_time,
                {ENDED} AS ended_time, x.secret_number, x.digest, x.expire_time AS secret_expire_time, {columns}
         FROM api_keys k
         JOIN users u ON u.user_id = k.user_id
         JOIN spaces s ON s.space_id = k.space_id
         {roles}
         LEFT JOIN api_key_secrets x ON x.api_key_id = k.api_key_id
         WHERE k.api_key_id = $1",
        columns = standing::COLUMNS,
        roles = standing::ROLES,
    );
    let rows = db
        .query_all_raw(statement(db, sql, [id.as_str().into()]))
        .await?;
    let Some(standing) = standing::gather(&rows)? else {
        return Ok(None);
    };
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let key = LoadedRow::from_query_result(first, "")?;
    Ok(Some(stored(id, key, standing, secrets(&rows)?)?))
}

#[derive(Debug, FromQueryResult)]
struct LoadedRow {
    key_roles: StringList,
    scopes: StringList,
    audiences: StringList,
    allowed_cidrs: StringList,
    disabled: bool,
    expire_time: Option<i64>,
    create_time: i64,
    ended_time: Option<i64>,
}

fn stored(
    id: &ApiKeyId,
    row: LoadedRow,
    standing: Standing,
    secrets: Vec<Secret>,
) -> Result<StoredKey> {
    let bounds = bounds(
        row.key_roles,
        row.scopes,
        row.audiences,
        &row.allowed_cidrs,
        row.expire_time,
    )?;
    Ok(StoredKey {
        id: id.clone(),
        standing,
        bounds,
        disabled: row.disabled,
        revoked: row.ended_time.is_some(),
        create_time: Timestamp::from_micros(row.create_time),
        secrets,
    })
}

/// The secrets in the rows of a key, each once although it comes with every role.
fn secrets(rows: &[QueryResult]) -> Result<Vec<Secret>> {
    let mut secrets = BTreeMap::new();
    for row in rows {
        let Some(number) = row.try_get::<Option<i64>>("", "secret_number")? else {
            continue;
        };
        let digest: Vec<u8> = row.try_get("", "digest")?;
        let digest = digest
            .try_into()
            .map_err(|_| Error::internal("a digest cannot be read"))?;
        let expire_time: Option<i64> = row.try_get("", "secret_expire_time")?;
        secrets.insert(
            number,
            Secret {
                number,
                digest: SecretDigest::from_bytes(digest),
                expire_time: expire_time.map(Timestamp::from_micros),
            },
        );
    }
    Ok(secrets.into_values().collect())
}

fn bounds(
    roles: StringList,
    scopes: StringList,
    audiences: StringList,
    allowed_cidrs: &StringList,
    expire_time: Option<i64>,
) -> Result<Bounds> {
    Ok(Bounds {
        roles: roles.0.into_iter().map(RoleName::known).collect(),
        scopes: standing::permission_set(scopes),
        audiences: audiences.0,
        allowed_cidrs: allowed_cidrs
            .0
            .iter()
            .map(|network| network.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| Error::internal("a network cannot be read"))?,
        expire_time: expire_time.map(Timestamp::from_micros),
    })
}

/// A key to be.
#[derive(Debug)]
pub struct NewApiKey<'a> {
    /// Its public half.
    pub id: &'a ApiKeyId,
    /// The user it speaks for, in its space, as the transaction sees them.
    pub owner: &'a Standing,
    /// For people.
    pub display_name: &'a str,
    /// For people.
    pub description: &'a str,
    /// What narrows it.
    pub bounds: &'a Bounds,
    /// The owner's own.
    pub labels: &'a BTreeMap<String, String>,
    /// Made switched off.
    pub disabled: bool,
}

/// Makes a key, whose first secret is number 1.
pub async fn insert(db: &impl ConnectionTrait, key: &NewApiKey<'_>, now: Timestamp) -> Result<()> {
    let (user, space) = (&key.owner.user, &key.owner.space);
    let model = api_keys::Model {
        api_key_id: key.id.to_string(),
        space_id: space.id.to_string(),
        user_id: user.id.to_string(),
        prefix: space.key_prefix.clone(),
        display_name: key.display_name.to_owned(),
        description: key.description.to_owned(),
        roles: role_list(&key.bounds.roles),
        scopes: StringList(key.bounds.scopes.to_strings()),
        audiences: StringList(key.bounds.audiences.clone()),
        allowed_cidrs: network_list(&key.bounds.allowed_cidrs),
        labels: StringMap(key.labels.clone()),
        disabled: key.disabled,
        expire_time: key.bounds.expire_time.map(Timestamp::micros),
        space_generation: space.key_generation,
        user_generation: user.key_generation,
        current_secret: 1,
        create_time: now.micros(),
        update_time: now.micros(),
        revoke_time: None,
        last_use_time: None,
        last_use_address: None,
    };
    api_keys::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

fn role_list(roles: &[RoleName]) -> StringList {
    StringList(roles.iter().map(ToString::to_string).collect())
}

fn network_list(networks: &[ipnet::IpNet]) -> StringList {
    StringList(networks.iter().map(ToString::to_string).collect())
}

/// Adds a secret without a deadline.
pub async fn insert_secret(
    db: &impl ConnectionTrait,
    id: &ApiKeyId,
    number: i64,
    digest: &SecretDigest,
    now: Timestamp,
) -> Result<()> {
    let model = api_key_secrets::Model {
        api_key_id: id.to_string(),
        secret_number: number,
        digest: HiddenBytes(digest.as_bytes().to_vec()),
        expire_time: None,
        last_use_time: None,
        create_time: now.micros(),
    };
    api_key_secrets::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Makes the next secret the current one. `ABORTED/CONCURRENT_MODIFICATION` where `current` is not any more, or the key is over.
pub async fn advance_secret(
    db: &impl ConnectionTrait,
    id: &ApiKeyId,
    current: i64,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE api_keys SET current_secret = $2 + 1, update_time = $3
               WHERE api_key_id = $1 AND current_secret = $2 AND revoke_time IS NULL";
    let values = [id.as_str().into(), current.into(), now.micros().into()];
    if execute(db, sql, values).await? == 1 {
        return Ok(());
    }
    Err(Error::new(
        Reason::ConcurrentModification,
        "another rotation of the key won",
    ))
}

/// Deletes the secrets before `number`, and says how many of them were still good.
pub async fn delete_secrets_before(
    db: &impl ConnectionTrait,
    id: &ApiKeyId,
    number: i64,
    now: Timestamp,
) -> Result<u64> {
    let over = "DELETE FROM api_key_secrets WHERE api_key_id = $1 AND secret_number < $2 AND expire_time <= $3";
    execute(
        db,
        over,
        [id.as_str().into(), number.into(), now.micros().into()],
    )
    .await?;
    let good = "DELETE FROM api_key_secrets WHERE api_key_id = $1 AND secret_number < $2";
    execute(db, good, [id.as_str().into(), number.into()]).await
}

/// Sets until when a secret is good.
pub async fn set_deadline(
    db: &impl ConnectionTrait,
    id: &ApiKeyId,
    number: i64,
    deadline: Timestamp,
) -> Result<()> {
    let sql =
        "UPDATE api_key_secrets SET expire_time = $3 WHERE api_key_id = $1 AND secret_number = $2";
    execute(
        db,
        sql,
        [id.as_str().into(), number.into(), deadline.micros().into()],
    )
    .await?;
    Ok(())
}

/// Changes a key that is still as `before` says. `ABORTED/CONCURRENT_MODIFICATION` where it is not.
pub async fn update(db: &impl ConnectionTrait, before: &ApiKey, after: &ApiKey) -> Result<()> {
    let sql = "UPDATE api_keys SET display_name = $3, description = $4, roles = $5, scopes = $6, audiences = $7,
                   allowed_cidrs = $8, labels = $9, disabled = $10, expire_time = $11, update_time = $12
               WHERE api_key_id = $1 AND update_time = $2 AND revoke_time IS NULL";
    let bounds = &after.bounds;
    let values: [Value; 12] = [
        before.id.as_str().into(),
        before.update_time.micros().into(),
        after.display_name.as_str().into(),
        after.description.as_str().into(),
        role_list(&bounds.roles).into(),
        StringList(bounds.scopes.to_strings()).into(),
        StringList(bounds.audiences.clone()).into(),
        network_list(&bounds.allowed_cidrs).into(),
        StringMap(after.labels.clone()).into(),
        after.disabled.into(),
        bounds.expire_time.map(Timestamp::micros).into(),
        after.update_time.micros().into(),
    ];
    if execute(db, sql, values).await? == 1 {
        return Ok(());
    }
    Err(Error::new(
        Reason::ConcurrentModification,
        "another call changed the key at the same time",
    ))
}

/// Ends a key for good. Whether it had not been ended by itself before.
pub async fn end(db: &impl ConnectionTrait, id: &ApiKeyId, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE api_keys SET revoke_time = $2, update_time = $2 WHERE api_key_id = $1 AND revoke_time IS NULL";
    Ok(execute(db, sql, [id.as_str().into(), now.micros().into()]).await? == 1)
}

/// Ends every key of a user in a space, for good. None can be made meanwhile where the user is locked exclusively.
pub async fn end_all(
    db: &impl ConnectionTrait,
    user: &UserId,
    space: &SpaceId,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE api_keys SET revoke_time = $3, update_time = $3
               WHERE user_id = $1 AND space_id = $2 AND revoke_time IS NULL";
    execute(
        db,
        sql,
        [
            user.as_str().into(),
            space.as_str().into(),
            now.micros().into(),
        ],
    )
    .await?;
    Ok(())
}

/// The keys of a user, or of everyone, in a space, or in every space, that were not ended by themselves before.
pub async fn not_ended(
    db: &impl ConnectionTrait,
    user: Option<&UserId>,
    space: Option<&SpaceId>,
) -> Result<Vec<(ApiKeyId, SpaceId)>> {
    let sql = "SELECT api_key_id, space_id FROM api_keys WHERE revoke_time IS NULL
               AND ($1 = '' OR user_id = $1) AND ($2 = '' OR space_id = $2) ORDER BY api_key_id";
    let user = user.map_or("", UserId::as_str);
    let space = space.map_or("", SpaceId::as_str);
    let rows = db
        .query_all_raw(statement(db, sql, [user.into(), space.into()]))
        .await?;
    rows.iter()
        .map(|row| {
            let key: String = row.try_get("", "api_key_id")?;
            let space: String = row.try_get("", "space_id")?;
            Ok((ApiKeyId::known(key), SpaceId::known(space)))
        })
        .collect()
}

//! Spaces.

use std::time::Duration;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{
    entity::{StringList, spaces},
    error::violated_constraint,
    standing,
    statement::{RowLock, execute, lock_row, statement},
};
use crate::{
    clock::Timestamp,
    domain::{
        directory,
        ids::{NamedSpace, SpaceId, SpaceSlug},
        standing::Space,
    },
    error::{Error, Result},
};

/// Makes a space. ALREADY_EXISTS where another one has, or had, the slug.
pub async fn insert(db: &impl ConnectionTrait, space: &directory::Space) -> Result<()> {
    let inserted = spaces::Entity::insert(row(space).into_active_model())
        .exec_without_returning(db)
        .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if violated_constraint(&error).as_deref() == Some("spaces_slug_key") => {
            Err(Error::already_exists("space"))
        }
        Err(error) => Err(error.into()),
    }
}

/// A space by id or slug, as far as tokens depend on it; none where it is deleted.
pub async fn find(db: &impl ConnectionTrait, named: &NamedSpace) -> Result<Option<Space>> {
    let sql = format!(
        "SELECT {} FROM spaces s WHERE (s.space_id = $1 OR s.slug = $1) AND s.delete_time IS NULL",
        standing::SPACE_COLUMNS
    );
    let row = db
        .query_one_raw(statement(db, sql, [named.as_str().into()]))
        .await?;
    row.as_ref().map(standing::space).transpose()
}

/// A space by id, for those who may read it; none where it is deleted.
pub async fn describe(db: &impl ConnectionTrait, id: &SpaceId) -> Result<Option<directory::Space>> {
    let found = spaces::Entity::find_by_id(id.as_str())
        .filter(spaces::Column::DeleteTime.is_null())
        .one(db)
        .await?;
    Ok(found.map(described))
}

/// Up to `limit` spaces by slug, after one of them.
pub async fn list(
    db: &impl ConnectionTrait,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<directory::Space>> {
    let after = after.map(|slug| spaces::Column::Slug.gt(slug));
    let rows = spaces::Entity::find()
        .filter(spaces::Column::DeleteTime.is_null())
        .filter(Condition::all().add_option(after))
        .order_by_asc(spaces::Column::Slug)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(described).collect())
}

/// Sets what can be changed of a space.
pub async fn update(db: &impl ConnectionTrait, space: &directory::Space) -> Result<()> {
    let sql = "UPDATE spaces SET display_name = $2, key_prefix = $3, max_token_ttl = $4, max_session_age = $5, \
               max_api_key_ttl = $6, default_audiences = $7, update_time = $8 WHERE space_id = $1";
    let values = [
        space.id.as_str().into(),
        space.display_name.as_str().into(),
        space.key_prefix.as_str().into(),
        space.max_token_ttl.map(micros).into(),
        space.max_session_age.map(micros).into(),
        space.max_api_key_ttl.map(micros).into(),
        StringList(space.default_audiences.clone()).into(),
        space.update_time.micros().into(),
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// Leaves nothing of a space but its names, which are never given out again.
pub async fn delete(db: &impl ConnectionTrait, id: &SpaceId, now: Timestamp) -> Result<()> {
    let sql = "UPDATE spaces SET delete_time = $2, update_time = $2, display_name = '' WHERE space_id = $1";
    execute(db, sql, [id.as_str().into(), now.micros().into()]).await?;
    Ok(())
}

/// The id of the space of those who run the authority.
pub async fn system(db: &impl ConnectionTrait) -> Result<SpaceId> {
    find(db, &NamedSpace::system())
        .await?
        .map(|space| space.id)
        .ok_or_else(|| Error::internal("there is no space system"))
}

/// Keeps the space from being ended until the transaction is over.
pub async fn lock_shared(db: &impl ConnectionTrait, id: &SpaceId) -> Result<()> {
    lock_row(db, "spaces", "space_id", id.as_str(), RowLock::Shared).await
}

/// Waits for all that keep the space from being ended, and keeps others from it until the transaction is over.
pub async fn lock_exclusively(db: &impl ConnectionTrait, id: &SpaceId) -> Result<()> {
    lock_row(db, "spaces", "space_id", id.as_str(), RowLock::Exclusive).await
}

/// Ends every API key of the space, for good.
pub async fn raise_key_generation(
    db: &impl ConnectionTrait,
    id: &SpaceId,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE spaces SET key_generation = key_generation + 1, keys_ended_time = $2 WHERE space_id = $1";
    execute(db, sql, [id.as_str().into(), now.micros().into()]).await?;
    Ok(())
}

/// Ends every API key there is, for good.
pub async fn raise_all_key_generations(db: &impl ConnectionTrait, now: Timestamp) -> Result<()> {
    let sql = "UPDATE spaces SET key_generation = key_generation + 1, keys_ended_time = $1";
    execute(db, sql, [now.micros().into()]).await?;
    Ok(())
}

fn row(space: &directory::Space) -> spaces::Model {
    spaces::Model {
        space_id: space.id.to_string(),
        slug: space.slug.to_string(),
        display_name: space.display_name.clone(),
        key_prefix: space.key_prefix.clone(),
        max_token_ttl: space.max_token_ttl.map(micros),
        max_session_age: space.max_session_age.map(micros),
        max_api_key_ttl: space.max_api_key_ttl.map(micros),
        default_audiences: StringList(space.default_audiences.clone()),
        key_generation: 0,
        keys_ended_time: None,
        create_time: space.create_time.micros(),
        update_time: space.update_time.micros(),
        delete_time: None,
    }
}

fn described(row: spaces::Model) -> directory::Space {
    directory::Space {
        id: SpaceId::known(row.space_id),
        slug: SpaceSlug::known(row.slug),
        display_name: row.display_name,
        key_prefix: row.key_prefix,
        max_token_ttl: row.max_token_ttl.map(span),
        max_session_age: row.max_session_age.map(span),
        max_api_key_ttl: row.max_api_key_ttl.map(span),
        default_audiences: row.default_audiences.0,
        create_time: Timestamp::from_micros(row.create_time),
        update_time: Timestamp::from_micros(row.update_time),
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

//! Spaces.

use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel};

use super::{
    entity::{StringList, spaces},
    standing,
    statement::{
        execute, lock_exclusively as lock_row_exclusively, lock_shared as lock_row, statement,
    },
};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{NamedSpace, SpaceId, SpaceSlug},
        standing::Space,
    },
    error::Result,
};

/// A space to be.
#[derive(Debug)]
pub struct NewSpace<'a> {
    /// Its id.
    pub id: &'a SpaceId,
    /// Its unique short name.
    pub slug: &'a SpaceSlug,
    /// For people.
    pub display_name: &'a str,
    /// What its API keys begin with.
    pub key_prefix: &'a str,
}

impl<'a> NewSpace<'a> {
    /// A space with nothing but a name of its own.
    pub fn named(id: &'a SpaceId, slug: &'a SpaceSlug) -> Self {
        Self {
            id,
            slug,
            display_name: "",
            key_prefix: "ta",
        }
    }
}

/// Makes a space.
pub async fn insert(db: &impl ConnectionTrait, space: &NewSpace<'_>, now: Timestamp) -> Result<()> {
    let model = spaces::Model {
        space_id: space.id.to_string(),
        slug: space.slug.to_string(),
        display_name: space.display_name.to_owned(),
        key_prefix: space.key_prefix.to_owned(),
        max_token_ttl: None,
        max_session_age: None,
        max_api_key_ttl: None,
        default_audiences: StringList::default(),
        key_generation: 0,
        keys_ended_time: None,
        create_time: now.micros(),
        update_time: now.micros(),
        delete_time: None,
    };
    spaces::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// A space by id or slug; none where it is deleted.
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

/// Keeps the space from being ended until the transaction is over.
pub async fn lock_shared(db: &impl ConnectionTrait, id: &SpaceId) -> Result<()> {
    lock_row(db, "spaces", "space_id", id.as_str()).await
}

/// Waits for all that keep the space from being ended, and keeps others from it until the transaction is over.
pub async fn lock_exclusively(db: &impl ConnectionTrait, id: &SpaceId) -> Result<()> {
    lock_row_exclusively(db, "spaces", "space_id", id.as_str()).await
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

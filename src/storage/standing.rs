//! A user, its space and its roles there, read in one statement: what was true at one moment.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Value};

use super::{entity::StringList, statement::statement};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{NamedSpace, NamedUser, RoleName, SpaceId, SpaceSlug, UserId, Username},
        permission::{Permission, PermissionSet},
        standing::{DEFAULT_SESSION_AGE, MAX_TOKEN_TTL, Space, Standing, User},
    },
    error::Result,
};

/// Columns of a user and a space, as [`standing`] reads them; for statements that join `users u` and `spaces s`.
pub(super) const COLUMNS: &str = "u.user_id, u.username, u.email, u.space_id AS home_space, u.disabled AS user_disabled, \
     u.key_generation AS user_generation, a.role, r.permissions, s.space_id, s.slug, s.key_prefix AS space_key_prefix, \
     s.max_token_ttl, s.max_session_age, s.max_api_key_ttl, s.default_audiences, s.key_generation AS space_generation";

/// Columns of a space alone, as [`space`] reads them.
pub(super) const SPACE_COLUMNS: &str = "s.space_id, s.slug, s.key_prefix AS space_key_prefix, s.max_token_ttl, \
     s.max_session_age, s.max_api_key_ttl, s.default_audiences, s.key_generation AS space_generation";

/// The roles of `users u` in `spaces s`.
pub(super) const ROLES: &str = "LEFT JOIN role_assignments a ON a.user_id = u.user_id AND a.space_id = s.space_id \
     LEFT JOIN roles r ON r.space_id = a.space_id AND r.name = a.role";

/// A user (by id or username) in a space (by id or slug; its home space where none is named). None where either is missing or
/// deleted; whether the user acts there is for the caller to ask.
pub async fn standing(
    db: &impl ConnectionTrait,
    user: &NamedUser,
    space: Option<&NamedSpace>,
) -> Result<Option<Standing>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM users u
         JOIN spaces s ON s.space_id = coalesce($2, u.space_id) OR s.slug = $2
         {ROLES}
         WHERE (u.user_id = $1 OR u.username = $1) AND u.delete_time IS NULL AND s.delete_time IS NULL"
    );
    let space = space.map(|space| space.as_str().to_owned());
    let values: [Value; 2] = [user.as_str().into(), space.into()];
    gather(&db.query_all_raw(statement(db, sql, values)).await?)
}

/// The standings of a user in every space where it holds a role or is at home.
pub async fn everywhere(db: &impl ConnectionTrait, user: &UserId) -> Result<Vec<Standing>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM users u
         JOIN spaces s ON s.space_id = u.space_id OR s.space_id IN
             (SELECT space_id FROM role_assignments WHERE user_id = u.user_id)
         {ROLES}
         WHERE u.user_id = $1 AND u.delete_time IS NULL AND s.delete_time IS NULL ORDER BY s.space_id"
    );
    let rows = db
        .query_all_raw(statement(db, sql, [user.as_str().into()]))
        .await?;
    let mut by_space: BTreeMap<String, Vec<QueryResult>> = BTreeMap::new();
    for row in rows {
        by_space
            .entry(row.try_get("", "space_id")?)
            .or_default()
            .push(row);
    }
    by_space
        .values()
        .filter_map(|rows| gather(rows).transpose())
        .collect()
}

/// One standing from its rows, one a role.
pub(super) fn gather(rows: &[QueryResult]) -> Result<Option<Standing>> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let user = UserRow::from_query_result(first, "")?.into();
    let mut standing = Standing {
        user,
        space: space(first)?,
        roles: BTreeMap::new(),
    };
    for row in rows {
        let Some(role) = row.try_get::<Option<String>>("", "role")? else {
            continue;
        };
        let permissions: Option<StringList> = row.try_get("", "permissions")?;
        standing.add_role(
            RoleName::known(role),
            permission_set(permissions.unwrap_or_default()),
        );
    }
    Ok(Some(standing))
}

/// A space from its columns.
pub(super) fn space(row: &QueryResult) -> Result<Space> {
    Ok(SpaceRow::from_query_result(row, "")?.into())
}

/// Permissions from a column that we wrote.
pub(super) fn permission_set(texts: StringList) -> PermissionSet {
    texts.0.into_iter().map(Permission::known).collect()
}

#[derive(Debug, FromQueryResult)]
struct UserRow {
    user_id: String,
    username: String,
    email: String,
    home_space: String,
    user_disabled: bool,
    user_generation: i64,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: UserId::known(row.user_id),
            username: Username::known(row.username),
            email: row.email,
            home_space: SpaceId::known(row.home_space),
            disabled: row.user_disabled,
            key_generation: row.user_generation,
        }
    }
}

#[derive(Debug, FromQueryResult)]
struct SpaceRow {
    space_id: String,
    slug: String,
    space_key_prefix: String,
    max_token_ttl: Option<i64>,
    max_session_age: Option<i64>,
    max_api_key_ttl: Option<i64>,
    default_audiences: StringList,
    space_generation: i64,
}

impl From<SpaceRow> for Space {
    fn from(row: SpaceRow) -> Self {
        let span = |micros: i64| Timestamp::from_micros(micros).since(Timestamp::default());
        Self {
            id: SpaceId::known(row.space_id),
            slug: SpaceSlug::known(row.slug),
            key_prefix: row.space_key_prefix,
            max_token_ttl: row
                .max_token_ttl
                .map_or(MAX_TOKEN_TTL, span)
                .min(MAX_TOKEN_TTL),
            max_session_age: row.max_session_age.map_or(DEFAULT_SESSION_AGE, span),
            max_api_key_ttl: row.max_api_key_ttl.map(span),
            default_audiences: row.default_audiences.0,
            key_generation: row.space_generation,
        }
    }
}

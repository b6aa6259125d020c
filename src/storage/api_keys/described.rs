//! API keys as people are shown them: one, or a page of many.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};

use super::{ENDED, bounds};
use crate::{
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, State},
        ids::{ApiKeyId, SpaceId, UserId},
    },
    error::{Error, Result},
    storage::{
        entity::{StringList, StringMap},
        statement::statement,
    },
};

/// A key's description. None where there is no such key.
pub async fn describe(db: &impl ConnectionTrait, id: &ApiKeyId) -> Result<Option<ApiKey>> {
    let sql = format!("{DESCRIBE} WHERE k.api_key_id = $1").replace("{ENDED}", ENDED);
    let row = DescribedRow::find_by_statement(statement(db, sql, [id.as_str().into()]))
        .one(db)
        .await?;
    row.map(ApiKey::try_from).transpose()
}

/// Which keys to list, newest first.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// In this space.
    pub space: SpaceId,
    /// Of this user alone.
    pub user: Option<UserId>,
    /// In these states.
    pub states: Vec<State>,
    /// Only keys that expire before.
    pub expire_before: Option<Timestamp>,
    /// Only keys not used since, or never.
    pub unused_since: Option<Timestamp>,
    /// Only keys after this one.
    pub after: Option<(Timestamp, String)>,
    /// At most so many.
    pub limit: u64,
}

/// Descriptions of keys, newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Vec<ApiKey>> {
    let mut values: Vec<Value> = vec![wanted.space.as_str().into(), now.micros().into()];
    let mut sql = format!(
        "{DESCRIBE} WHERE k.space_id = $1 AND ({})",
        in_states(&wanted.states)
    );
    let mut narrow = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&condition.replace('?', &format!("${}", values.len())));
    };
    if let Some(user) = &wanted.user {
        narrow(" AND k.user_id = ?", user.as_str().into());
    }
    if let Some(time) = wanted.expire_before {
        narrow(" AND k.expire_time < ?", time.micros().into());
    }
    if let Some(time) = wanted.unused_since {
        narrow(
            " AND (k.last_use_time IS NULL OR k.last_use_time < ?)",
            time.micros().into(),
        );
    }
    if let Some((time, id)) = &wanted.after {
        narrow(
            " AND (k.create_time, k.api_key_id) < (?",
            time.micros().into(),
        );
        narrow(", ?)", id.as_str().into());
    }
    narrow(
        " ORDER BY k.create_time DESC, k.api_key_id DESC LIMIT ?",
        i64::try_from(wanted.limit).unwrap_or(i64::MAX).into(),
    );
    let sql = sql.replace("{ENDED}", ENDED);
    let rows = DescribedRow::find_by_statement(statement(db, sql, values))
        .all(db)
        .await?;
    rows.into_iter().map(ApiKey::try_from).collect()
}

/// The condition of being in one of these states at `$2`.
fn in_states(states: &[State]) -> String {
    // Always there, so that the moment is a parameter of every listing.
    let mut condition = "$2 < 0".to_owned();
    for state in states {
        condition.push_str(match state {
            State::Active => " OR ({ENDED} IS NULL AND NOT k.disabled AND (k.expire_time IS NULL OR k.expire_time > $2))",
            State::Disabled => " OR ({ENDED} IS NULL AND k.disabled AND (k.expire_time IS NULL OR k.expire_time > $2))",
            State::Expired => " OR ({ENDED} IS NULL AND k.expire_time <= $2)",
            State::Revoked => " OR {ENDED} IS NOT NULL",
            State::Unspecified => "",
        });
    }
    condition
}

const DESCRIBE: &str = "SELECT k.api_key_id, k.space_id, k.user_id, k.prefix, k.display_name, k.description, k.roles, k.scopes,
        k.audiences, k.allowed_cidrs, k.labels, k.disabled, k.expire_time, k.current_secret, k.create_time, k.update_time,
        {ENDED} AS ended_time, k.last_use_time, k.last_use_address,
        x.expire_time AS previous_expire_time, x.last_use_time AS previous_last_use_time
    FROM api_keys k
    JOIN users u ON u.user_id = k.user_id
    JOIN spaces s ON s.space_id = k.space_id
    LEFT JOIN api_key_secrets x ON x.api_key_id = k.api_key_id AND x.secret_number = k.current_secret - 1";

#[derive(Debug, FromQueryResult)]
struct DescribedRow {
    api_key_id: String,
    space_id: String,
    user_id: String,
    prefix: String,
    display_name: String,
    description: String,
    roles: StringList,
    scopes: StringList,
    audiences: StringList,
    allowed_cidrs: StringList,
    labels: StringMap,
    disabled: bool,
    expire_time: Option<i64>,
    current_secret: i64,
    create_time: i64,
    update_time: i64,
    ended_time: Option<i64>,
    last_use_time: Option<i64>,
    last_use_address: Option<String>,
    previous_expire_time: Option<i64>,
    previous_last_use_time: Option<i64>,
}

impl TryFrom<DescribedRow> for ApiKey {
    type Error = Error;

    fn try_from(row: DescribedRow) -> Result<Self> {
        let time = Timestamp::from_micros;
        Ok(Self {
            id: ApiKeyId::known(row.api_key_id),
            space_id: SpaceId::known(row.space_id),
            user_id: UserId::known(row.user_id),
            prefix: row.prefix,
            display_name: row.display_name,
            description: row.description,
            bounds: bounds(
                row.roles,
                row.scopes,
                row.audiences,
                &row.allowed_cidrs,
                row.expire_time,
            )?,
            labels: row.labels.0,
            disabled: row.disabled,
            current_secret: row.current_secret,
            create_time: time(row.create_time),
            update_time: time(row.update_time),
            revoke_time: row.ended_time.map(time),
            last_use_time: row.last_use_time.map(time),
            last_use_address: row.last_use_address,
            previous_secret_expire_time: row.previous_expire_time.map(time),
            previous_secret_last_use_time: row.previous_last_use_time.map(time),
        })
    }
}

//! Events as people are shown them, newest first.

use sea_orm::{ConnectionTrait, Value};

use super::{COLUMNS, Row};
use crate::{
    clock::Timestamp,
    domain::{
        audit::{Event, Head},
        ids::{AuditEventId, SpaceId, UserId},
    },
    error::Result,
    storage::{
        Engine,
        statement::{engine_of, statement},
    },
};

/// An event, and where in the chain it stands.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The event.
    pub event: Event,
    /// Its place and digest; none until it is chained.
    pub link: Option<Head>,
}

/// Which events to list, newest first. None: any.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this space alone.
    pub space: Option<SpaceId>,
    /// With this action.
    pub action: Option<String>,
    /// By this user.
    pub actor: Option<UserId>,
    /// About this resource.
    pub resource: Option<String>,
    /// At or after this time.
    pub start_time: Option<Timestamp>,
    /// Before this time.
    pub end_time: Option<Timestamp>,
    /// Only events after this one, in the order of the listing.
    pub after: Option<(Timestamp, AuditEventId)>,
    /// At most so many.
    pub limit: u64,
}

/// Events, newest first.
pub async fn list(db: &impl ConnectionTrait, wanted: &Wanted) -> Result<Vec<Recorded>> {
    let mut conditions = Conditions::default();
    let space = wanted.space.as_ref().map(SpaceId::as_str);
    let actor = wanted.actor.as_ref().map(UserId::as_str);
    for (condition, text) in [
        ("space_id = ?", space),
        ("action = ?", wanted.action.as_deref()),
        ("actor_user_id = ?", actor),
        ("resource_id = ?", wanted.resource.as_deref()),
    ] {
        if let Some(text) = text {
            conditions.narrow(condition, [text.into()]);
        }
    }
    if let Some(time) = wanted.start_time {
        conditions.narrow("event_time >= ?", [time.micros().into()]);
    }
    if let Some(time) = wanted.end_time {
        conditions.narrow("event_time < ?", [time.micros().into()]);
    }
    if let Some((time, id)) = &wanted.after {
        let place = [time.micros().into(), id.as_str().into()];
        conditions.narrow("(event_time, audit_event_id) < (?, ?)", place);
    }
    // Each by itself, so that each is read in order and no further than the page; in one statement, so that what is being
    // chained is seen in one place or the other.
    let order = format!(
        "ORDER BY event_time DESC, audit_event_id DESC LIMIT {}",
        wanted.limit
    );
    let from = |table, link| {
        let narrowed = &conditions.sql;
        format!(
            "SELECT * FROM (SELECT {COLUMNS}, {link} FROM {table}{narrowed} {order}) AS {table}"
        )
    };
    let no_link = match engine_of(db) {
        Engine::Sqlite => "NULL AS sequence, NULL AS digest",
        Engine::Postgres => "NULL::bigint AS sequence, NULL::bytea AS digest",
    };
    let sql = format!(
        "{} UNION ALL {} {order}",
        from("audit_inbox", no_link),
        from("audit_events", "sequence, digest")
    );
    let rows = db
        .query_all_raw(statement(db, sql, conditions.values))
        .await?;
    Ok(rows.iter().map(|row| Row::read(row).recorded()).collect())
}

/// What a listing is narrowed by, and the values of it.
#[derive(Default)]
struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    /// Each `?` stands for one of the values.
    fn narrow<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        let mut condition = condition.to_owned();
        for value in values {
            self.values.push(value);
            condition = condition.replacen('?', &format!("${}", self.values.len()), 1);
        }
        let word = if self.sql.is_empty() {
            " WHERE "
        } else {
            " AND "
        };
        self.sql.extend([word, &condition]);
    }
}

//! What waits for its position in the log; on PostgreSQL only.

use sea_orm::entity::prelude::*;

/// A row of `revocation_inbox`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revocation_inbox")]
pub struct Model {
    /// The transaction that wrote it; the database fills it in.
    #[sea_orm(primary_key, auto_increment = false)]
    pub xid: i64,
    /// The database fills it in.
    #[sea_orm(primary_key, auto_increment = false)]
    pub inbox_id: i64,
    pub event_id: String,
    pub kind: i16,
    pub subject_kind: String,
    pub subject_id: String,
    /// Empty: not bound to a space.
    pub space_id: String,
    /// Sessions that began later are spared.
    pub sessions_until: Option<i64>,
    /// None: at once.
    pub effective_time: Option<i64>,
    pub create_time: i64,
    /// When no token that it kills can still be alive.
    pub forget_time: i64,
    pub reason: i16,
}

impl ActiveModelBehavior for ActiveModel {}

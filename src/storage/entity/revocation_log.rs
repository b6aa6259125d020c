//! The one ordered list of everything that ends or changes a token's standing.

use sea_orm::entity::prelude::*;

/// A row of `revocation_log`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revocation_log")]
pub struct Model {
    /// Dense: each is one more than the one before.
    #[sea_orm(primary_key)]
    pub position: i64,
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

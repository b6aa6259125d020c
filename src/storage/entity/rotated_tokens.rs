//! Tokens that were rotated, so that a second rotation fails.

use sea_orm::entity::prelude::*;

/// A row of `rotated_tokens`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rotated_tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_id: String,
    pub session_id: String,
    /// The entry that ended it.
    pub event_id: String,
    pub rotate_time: i64,
    pub effective_time: i64,
    pub forget_time: i64,
}

impl ActiveModelBehavior for ActiveModel {}

//! Tenants, those that were deleted included.

use sea_orm::entity::prelude::*;

use super::StringList;

/// A row of `spaces`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "spaces")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub space_id: String,
    /// Unique, also among the deleted.
    pub slug: String,
    pub display_name: String,
    /// What its API keys begin with.
    pub key_prefix: String,
    /// In microseconds.
    pub max_token_ttl: Option<i64>,
    /// In microseconds.
    pub max_session_age: Option<i64>,
    /// In microseconds.
    pub max_api_key_ttl: Option<i64>,
    #[sea_orm(column_type = "JsonBinary")]
    pub default_audiences: StringList,
    /// Keys made under an earlier one are ended.
    pub key_generation: i64,
    /// When the generation was last raised.
    pub keys_ended_time: Option<i64>,
    pub create_time: i64,
    pub update_time: i64,
    pub delete_time: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}

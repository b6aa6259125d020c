//! API keys, without their secrets.

use sea_orm::entity::prelude::*;

use super::{StringList, StringMap};

/// A row of `api_keys`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    /// The public half of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub api_key_id: String,
    pub space_id: String,
    pub user_id: String,
    pub prefix: String,
    pub display_name: String,
    pub description: String,
    /// Empty: all that the user holds.
    #[sea_orm(column_type = "JsonBinary")]
    pub roles: StringList,
    /// Empty: open-ended.
    #[sea_orm(column_type = "JsonBinary")]
    pub scopes: StringList,
    /// Empty: any.
    #[sea_orm(column_type = "JsonBinary")]
    pub audiences: StringList,
    /// Empty: any.
    #[sea_orm(column_type = "JsonBinary")]
    pub allowed_cidrs: StringList,
    #[sea_orm(column_type = "JsonBinary")]
    pub labels: StringMap,
    pub disabled: bool,
    pub expire_time: Option<i64>,
    /// The space's, when the key was made.
    pub space_generation: i64,
    /// The user's, when the key was made.
    pub user_generation: i64,
    /// The number of the secret that does not expire.
    pub current_secret: i64,
    pub create_time: i64,
    pub update_time: i64,
    pub revoke_time: Option<i64>,
    pub last_use_time: Option<i64>,
    pub last_use_address: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}

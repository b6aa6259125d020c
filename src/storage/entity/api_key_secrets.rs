//! The digests of API keys' secrets: the current one, and the one before while both are good.

use sea_orm::entity::prelude::*;

use super::HiddenBytes;

/// A row of `api_key_secrets`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key_secrets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub api_key_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub secret_number: i64,
    /// SHA-256.
    pub digest: HiddenBytes,
    pub expire_time: Option<i64>,
    pub last_use_time: Option<i64>,
    pub create_time: i64,
}

impl ActiveModelBehavior for ActiveModel {}

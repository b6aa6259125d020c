//! What was answered under an idempotency key.

use sea_orm::entity::prelude::*;

use super::HiddenBytes;

/// A row of `idempotency_keys`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_keys")]
pub struct Model {
    /// The caller's session or API key, or the presented token.
    #[sea_orm(primary_key, auto_increment = false)]
    pub owner: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub method: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub idempotency_key: String,
    pub request_digest: HiddenBytes,
    /// Holds no secret.
    #[sea_orm(column_type = "JsonBinary")]
    pub answer: Json,
    /// What an API key's secret is made of, under the master key.
    pub seed: Option<HiddenBytes>,
    pub create_time: i64,
    pub expire_time: i64,
}

impl ActiveModelBehavior for ActiveModel {}

//! The keys that sign access tokens.

use sea_orm::entity::prelude::*;

use super::HiddenBytes;

/// A row of `signing_keys`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_keys")]
pub struct Model {
    /// The `kid`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub signing_key_id: String,
    pub algorithm: String,
    pub public_key: Vec<u8>,
    /// Sealed under the master key.
    pub sealed_private_key: HiddenBytes,
    /// The master key that sealed it.
    pub master_key_id: String,
    /// At most one row is `active`.
    pub state: String,
    pub prepare_time: i64,
    pub activate_time: Option<i64>,
    pub retire_time: Option<i64>,
    pub remove_time: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}

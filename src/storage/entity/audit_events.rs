//! Who did what. Empty texts stand for what does not apply.

use sea_orm::entity::prelude::*;

/// A row of `audit_events`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_events")]
pub struct Model {
    pub audit_event_id: String,
    pub event_time: i64,
    pub space_id: String,
    pub actor_user_id: String,
    pub actor_api_key_id: String,
    pub action: String,
    pub resource_id: String,
    pub outcome: i16,
    pub error_reason: String,
    pub client_address: String,
    pub request_id: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub details: Json,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    pub digest: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}

//! What the authority is called, which master key seals, and the head of the audit chain: one row.

use sea_orm::entity::prelude::*;

use super::HiddenBytes;

/// A row of `authority`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "authority")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub authority_id: i32,
    /// What the revocation log is called; another name means another log.
    pub log_identity: String,
    /// Of PostgreSQL, when the log last grew: another one means that a standby has taken over, perhaps without its end.
    pub timeline: Option<i64>,
    /// By which a wrong master key is told.
    pub key_check: HiddenBytes,
    /// The master key that seals.
    pub master_key_id: String,
    /// The number of the last chained audit event; 0 where there is none.
    pub audit_sequence: i64,
    /// The digest of the last chained audit event.
    pub audit_digest: Option<Vec<u8>>,
    /// Of number and digest, under a key derived from the master key.
    pub audit_hmac: Option<Vec<u8>>,
    /// The latest time told by a clock that was believed: no entry of the log is dated earlier.
    pub latest_time: i64,
    pub create_time: i64,
}

impl ActiveModelBehavior for ActiveModel {}

//! How many sign-ins failed, by name and by network.

use sea_orm::entity::prelude::*;

/// A row of `sign_in_failures`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sign_in_failures")]
pub struct Model {
    /// HMAC of the name or network.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: String,
    pub window_start: i64,
    pub failures: i32,
    pub last_failure_time: Option<i64>,
    pub open: i32,
    pub last_booking_time: i64,
}

impl ActiveModelBehavior for ActiveModel {}

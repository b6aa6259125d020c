//! How many sign-ins failed, by name and by network, for the throttle. Neither is written down as it is.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, integer, text},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(sign_in_failures()).await?;
        manager.create_index(by_window_start()).await
    }
}

/// `subject` is an HMAC: people type passwords where their name belongs.
fn sign_in_failures() -> TableCreateStatement {
    Table::create()
        .table("sign_in_failures")
        .col(text("subject"))
        .col(big_integer("window_start"))
        .col(integer("failures"))
        .col(big_integer_null("last_failure_time"))
        .col(integer("open"))
        .col(big_integer("last_booking_time"))
        .primary_key(Index::create().name("sign_in_failures_pkey").col("subject"))
        .take()
}

fn by_window_start() -> IndexCreateStatement {
    Index::create()
        .name("sign_in_failures_window_start_idx")
        .table("sign_in_failures")
        .col("window_start")
        .take()
}

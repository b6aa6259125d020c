//! The one ordered list of everything that ends or changes a token's standing.
//!
//! On SQLite the single writer appends to the log itself. On PostgreSQL a writer puts its entry into the inbox, and the
//! sequencer moves it from there to the log under the next position: a sequence would lose what commits late.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, small_integer, text},
    sea_orm::DbBackend,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Sqlite {
            manager.create_table(log_that_numbers_itself()).await?;
        } else {
            manager
                .create_table(log_numbered_by_the_sequencer())
                .await?;
            manager.create_table(inbox()).await?;
            manager
                .get_connection()
                .execute_unprepared(VACUUM_INBOX_OFTEN)
                .await?;
            manager.create_index(by_subject("revocation_inbox")).await?;
        }
        manager.create_index(by_subject("revocation_log")).await?;
        manager.create_table(rotated_tokens()).await?;
        manager.create_index(rotated_tokens_by_forget_time()).await
    }
}

/// Every row of the inbox is soon dead, whatever the table's size: vacuum by count, and without pausing.
const VACUUM_INBOX_OFTEN: &str = "ALTER TABLE revocation_inbox SET (\
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, \
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000, \
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000, \
    autovacuum_vacuum_cost_delay = 0)";

/// AUTOINCREMENT, so that a position is never given twice, even where the newest row is gone.
fn log_that_numbers_itself() -> TableCreateStatement {
    event_columns(
        Table::create()
            .table("revocation_log")
            .col(big_integer("position").auto_increment().primary_key()),
    )
    .index(
        Index::create()
            .unique()
            .name("revocation_log_event_id_key")
            .col("event_id"),
    )
    .take()
}

fn log_numbered_by_the_sequencer() -> TableCreateStatement {
    event_columns(
        Table::create()
            .table("revocation_log")
            .col(big_integer("position")),
    )
    .primary_key(Index::create().name("revocation_log_pkey").col("position"))
    .index(
        Index::create()
            .unique()
            .name("revocation_log_event_id_key")
            .col("event_id"),
    )
    .take()
}

/// Whoever revokes what is already revoked looks for the first time.
fn by_subject(table: &'static str) -> IndexCreateStatement {
    Index::create()
        .name(format!("{table}_subject_idx"))
        .table(table)
        .col("subject_id")
        .col("subject_kind")
        .take()
}

fn inbox() -> TableCreateStatement {
    event_columns(
        Table::create()
            .table("revocation_inbox")
            .col(big_integer("xid").default(Expr::cust("(pg_current_xact_id()::text::bigint)")))
            .col(big_integer("inbox_id").auto_increment()),
    )
    .primary_key(
        Index::create()
            .name("revocation_inbox_pkey")
            .col("xid")
            .col("inbox_id"),
    )
    .take()
}

fn event_columns(table: &mut TableCreateStatement) -> &mut TableCreateStatement {
    table
        .col(text("event_id"))
        .col(small_integer("kind"))
        .col(text("subject_kind"))
        .col(text("subject_id"))
        .col(text("space_id").default(""))
        .col(big_integer_null("sessions_until"))
        .col(big_integer_null("effective_time"))
        .col(big_integer("create_time"))
        .col(big_integer("forget_time"))
        .col(small_integer("reason"))
}

/// Makes a second rotation of the same token fail.
fn rotated_tokens() -> TableCreateStatement {
    Table::create()
        .table("rotated_tokens")
        .col(text("token_id"))
        .col(text("session_id"))
        .col(text("event_id"))
        .col(big_integer("rotate_time"))
        .col(big_integer("effective_time"))
        .col(big_integer("forget_time"))
        .primary_key(Index::create().name("rotated_tokens_pkey").col("token_id"))
        .take()
}

fn rotated_tokens_by_forget_time() -> IndexCreateStatement {
    Index::create()
        .name("rotated_tokens_forget_time_idx")
        .table("rotated_tokens")
        .col("forget_time")
        .take()
}

//! Who did what, chained by digests so that a change to the past is seen.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, blob, json_binary, small_integer, text},
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
        manager.create_table(audit_events()).await?;
        manager.create_index(audit_events_by_space()).await?;
        manager.create_table(audit_inbox()).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            manager
                .get_connection()
                .execute_unprepared(VACUUM_INBOX_OFTEN)
                .await?;
        }
        Ok(())
    }
}

fn audit_events() -> TableCreateStatement {
    event_columns(Table::create().table("audit_events"))
        .col(big_integer("sequence"))
        .col(blob("digest"))
        .primary_key(Index::create().name("audit_events_pkey").col("sequence"))
        .take()
}

/// What is written first, until it becomes a link of the chain: whoever writes an event waits for no other.
fn audit_inbox() -> TableCreateStatement {
    event_columns(Table::create().table("audit_inbox"))
        .primary_key(
            Index::create()
                .name("audit_inbox_pkey")
                .col("audit_event_id"),
        )
        .take()
}

/// Every row of the inbox is soon dead, whatever the table's size: vacuum by count, and without pausing.
const VACUUM_INBOX_OFTEN: &str = "ALTER TABLE audit_inbox SET (\
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, \
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000, \
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000, \
    autovacuum_vacuum_cost_delay = 0)";

fn event_columns(table: &mut TableCreateStatement) -> &mut TableCreateStatement {
    table
        .col(text("audit_event_id"))
        .col(big_integer("event_time"))
        .col(text("space_id").default(""))
        .col(text("actor_user_id").default(""))
        .col(text("actor_api_key_id").default(""))
        .col(text("action"))
        .col(text("resource_id").default(""))
        .col(small_integer("outcome"))
        .col(text("error_reason").default(""))
        .col(text("client_address").default(""))
        .col(text("request_id").default(""))
        .col(json_binary("details"))
}

fn audit_events_by_space() -> IndexCreateStatement {
    Index::create()
        .name("audit_events_space_id_event_time_idx")
        .table("audit_events")
        .col("space_id")
        .col("event_time")
        .take()
}

//! Who did what, chained by digests so that a change to the past is seen.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, blob_null, json_binary, small_integer, text},
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
        manager.create_index(not_chained_yet()).await
    }
}

fn audit_events() -> TableCreateStatement {
    Table::create()
        .table("audit_events")
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
        .col(big_integer_null("sequence"))
        .col(blob_null("digest"))
        .primary_key(
            Index::create()
                .name("audit_events_pkey")
                .col("audit_event_id"),
        )
        .index(
            Index::create()
                .unique()
                .name("audit_events_sequence_key")
                .col("sequence"),
        )
        .take()
}

fn audit_events_by_space() -> IndexCreateStatement {
    Index::create()
        .name("audit_events_space_id_event_time_idx")
        .table("audit_events")
        .col("space_id")
        .col("event_time")
        .take()
}

/// Small, however long the log: only what the next chaining step has to do.
fn not_chained_yet() -> IndexCreateStatement {
    Index::create()
        .name("audit_events_not_chained_idx")
        .table("audit_events")
        .col("audit_event_id")
        .and_where(Expr::col("sequence").is_null())
        .take()
}

//! What was answered under an idempotency key, so that a retry gets the same answer.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, blob, blob_null, json_binary, text},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(idempotency_keys()).await?;
        manager
            .create_index(idempotency_keys_by_expire_time())
            .await
    }
}

/// `seed` is what an API key's secret is made of, under the master key: alone it is worth nothing.
fn idempotency_keys() -> TableCreateStatement {
    Table::create()
        .table("idempotency_keys")
        .col(text("owner"))
        .col(text("method"))
        .col(text("idempotency_key"))
        .col(blob("request_digest"))
        .col(json_binary("answer"))
        .col(blob_null("seed"))
        .col(big_integer("create_time"))
        .col(big_integer("expire_time"))
        .primary_key(
            Index::create()
                .name("idempotency_keys_pkey")
                .col("owner")
                .col("method")
                .col("idempotency_key"),
        )
        .take()
}

fn idempotency_keys_by_expire_time() -> IndexCreateStatement {
    Index::create()
        .name("idempotency_keys_expire_time_idx")
        .table("idempotency_keys")
        .col("expire_time")
        .take()
}

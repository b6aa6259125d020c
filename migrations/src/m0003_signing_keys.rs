//! The keys that sign access tokens; the private halves are sealed under the master key.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, blob, text},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(signing_keys()).await?;
        manager.create_index(at_most_one_active()).await
    }
}

fn signing_keys() -> TableCreateStatement {
    Table::create()
        .table("signing_keys")
        .col(text("signing_key_id"))
        .col(text("algorithm"))
        .col(blob("public_key"))
        .col(blob("sealed_private_key"))
        .col(text("master_key_id"))
        .col(text("state"))
        .col(big_integer("prepare_time"))
        .col(big_integer_null("activate_time"))
        .col(big_integer_null("retire_time"))
        .col(big_integer_null("remove_time"))
        .primary_key(
            Index::create()
                .name("signing_keys_pkey")
                .col("signing_key_id"),
        )
        .take()
}

fn at_most_one_active() -> IndexCreateStatement {
    Index::create()
        .unique()
        .name("signing_keys_state_key")
        .table("signing_keys")
        .col("state")
        .and_where(Expr::col("state").eq("active"))
        .take()
}

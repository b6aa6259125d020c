//! API keys and the digests of their secrets.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, blob, boolean, json_binary, text, text_null},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(api_keys()).await?;
        manager.create_index(api_keys_by_space()).await?;
        manager.create_index(api_keys_by_user()).await?;
        manager.create_table(api_key_secrets()).await
    }
}

/// A key is good only while it bears the generations that its space and its user have now.
fn api_keys() -> TableCreateStatement {
    let mut table = Table::create();
    table
        .table("api_keys")
        .col(text("api_key_id"))
        .col(text("space_id"))
        .col(text("user_id"))
        .col(text("prefix"))
        .col(text("display_name"))
        .col(text("description"))
        .col(json_binary("roles"))
        .col(json_binary("scopes"))
        .col(json_binary("audiences"))
        .col(json_binary("allowed_cidrs"))
        .col(json_binary("labels"))
        .col(boolean("disabled").default(false))
        .col(big_integer_null("expire_time"))
        .col(big_integer("space_generation"))
        .col(big_integer("user_generation"))
        .col(big_integer("current_secret").default(1))
        .col(big_integer("create_time"))
        .col(big_integer("update_time"))
        .col(big_integer_null("revoke_time"))
        .col(big_integer_null("last_use_time"))
        .col(text_null("last_use_address"))
        .primary_key(Index::create().name("api_keys_pkey").col("api_key_id"));
    for (name, column, parent) in [
        ("api_keys_space_id_fkey", "space_id", "spaces"),
        ("api_keys_user_id_fkey", "user_id", "users"),
    ] {
        table.foreign_key(
            ForeignKey::create()
                .name(name)
                .from("api_keys", column)
                .to(parent, column),
        );
    }
    table.take()
}

fn api_keys_by_space() -> IndexCreateStatement {
    Index::create()
        .name("api_keys_space_id_create_time_idx")
        .table("api_keys")
        .col("space_id")
        .col("create_time")
        .col("api_key_id")
        .take()
}

fn api_keys_by_user() -> IndexCreateStatement {
    Index::create()
        .name("api_keys_user_id_space_id_create_time_idx")
        .table("api_keys")
        .col("user_id")
        .col("space_id")
        .col("create_time")
        .col("api_key_id")
        .take()
}

fn api_key_secrets() -> TableCreateStatement {
    Table::create()
        .table("api_key_secrets")
        .col(text("api_key_id"))
        .col(big_integer("secret_number"))
        .col(blob("digest"))
        .col(big_integer_null("expire_time"))
        .col(big_integer_null("last_use_time"))
        .col(big_integer("create_time"))
        .primary_key(
            Index::create()
                .name("api_key_secrets_pkey")
                .col("api_key_id")
                .col("secret_number"),
        )
        .foreign_key(
            ForeignKey::create()
                .name("api_key_secrets_api_key_id_fkey")
                .from("api_key_secrets", "api_key_id")
                .to("api_keys", "api_key_id"),
        )
        .take()
}

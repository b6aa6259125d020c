//! The authority itself, and its directory: spaces, users, roles, and who holds which.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, blob, blob_null, boolean, integer, json_binary, text,
        text_null,
    },
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(authority()).await?;
        manager.create_table(spaces()).await?;
        manager.create_table(users()).await?;
        manager.create_index(users_by_space()).await?;
        manager.create_table(roles()).await?;
        manager.create_table(role_assignments()).await?;
        manager.create_index(role_assignments_by_user()).await
    }
}

/// One row: what the log is called, which master key seals, and the head of the audit chain.
fn authority() -> TableCreateStatement {
    Table::create()
        .table("authority")
        .col(integer("authority_id"))
        .col(text("log_identity"))
        .col(big_integer_null("timeline"))
        .col(blob("key_check"))
        .col(text("master_key_id"))
        .col(big_integer("audit_sequence").default(0))
        .col(blob_null("audit_digest"))
        .col(blob_null("audit_hmac"))
        .col(big_integer("latest_time").default(0))
        .col(big_integer("create_time"))
        .primary_key(Index::create().name("authority_pkey").col("authority_id"))
        .check(Check::named(
            "authority_authority_id_check",
            Expr::col("authority_id").eq(1),
        ))
        .take()
}

fn spaces() -> TableCreateStatement {
    Table::create()
        .table("spaces")
        .col(text("space_id"))
        .col(text("slug"))
        .col(text("display_name"))
        .col(text("key_prefix"))
        .col(big_integer_null("max_token_ttl"))
        .col(big_integer_null("max_session_age"))
        .col(big_integer_null("max_api_key_ttl"))
        .col(json_binary("default_audiences"))
        .col(big_integer("key_generation").default(0))
        .col(big_integer_null("keys_ended_time"))
        .col(big_integer("create_time"))
        .col(big_integer("update_time"))
        .col(big_integer_null("delete_time"))
        .primary_key(Index::create().name("spaces_pkey").col("space_id"))
        .index(Index::create().unique().name("spaces_slug_key").col("slug"))
        .take()
}

fn users() -> TableCreateStatement {
    Table::create()
        .table("users")
        .col(text("user_id"))
        .col(text("username"))
        .col(text("email"))
        .col(text("display_name"))
        .col(text("space_id"))
        .col(boolean("disabled").default(false))
        .col(text_null("password_hash"))
        .col(big_integer("key_generation").default(0))
        .col(big_integer_null("keys_ended_time"))
        .col(big_integer("create_time"))
        .col(big_integer("update_time"))
        .col(big_integer_null("delete_time"))
        .col(big_integer_null("last_sign_in_time"))
        .primary_key(Index::create().name("users_pkey").col("user_id"))
        .index(
            Index::create()
                .unique()
                .name("users_username_key")
                .col("username"),
        )
        .foreign_key(
            ForeignKey::create()
                .name("users_space_id_fkey")
                .from("users", "space_id")
                .to("spaces", "space_id"),
        )
        .take()
}

fn users_by_space() -> IndexCreateStatement {
    Index::create()
        .name("users_space_id_username_idx")
        .table("users")
        .col("space_id")
        .col("username")
        .take()
}

fn roles() -> TableCreateStatement {
    Table::create()
        .table("roles")
        .col(text("space_id"))
        .col(text("name"))
        .col(text("description"))
        .col(json_binary("permissions"))
        .col(big_integer("create_time"))
        .col(big_integer("update_time"))
        .primary_key(
            Index::create()
                .name("roles_pkey")
                .col("space_id")
                .col("name"),
        )
        .foreign_key(
            ForeignKey::create()
                .name("roles_space_id_fkey")
                .from("roles", "space_id")
                .to("spaces", "space_id"),
        )
        .take()
}

/// `role` names a row of `roles` or a built-in role, which has none: hence no foreign key.
fn role_assignments() -> TableCreateStatement {
    Table::create()
        .table("role_assignments")
        .col(text("space_id"))
        .col(text("user_id"))
        .col(text("role"))
        .col(big_integer("create_time"))
        .primary_key(
            Index::create()
                .name("role_assignments_pkey")
                .col("space_id")
                .col("user_id")
                .col("role"),
        )
        .foreign_key(
            ForeignKey::create()
                .name("role_assignments_space_id_fkey")
                .from("role_assignments", "space_id")
                .to("spaces", "space_id"),
        )
        .foreign_key(
            ForeignKey::create()
                .name("role_assignments_user_id_fkey")
                .from("role_assignments", "user_id")
                .to("users", "user_id"),
        )
        .take()
}

fn role_assignments_by_user() -> IndexCreateStatement {
    Index::create()
        .name("role_assignments_user_id_idx")
        .table("role_assignments")
        .col("user_id")
        .take()
}

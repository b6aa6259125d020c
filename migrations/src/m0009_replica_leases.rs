//! Which servers may answer from what they remember, and how far each has applied the log. PostgreSQL only: a SQLite file has
//! one server.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, text},
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
            return Ok(());
        }
        manager.create_table(replica_leases()).await?;
        manager
            .get_connection()
            .execute_unprepared(VACUUM_OFTEN)
            .await?;
        Ok(())
    }
}

/// A few rows, each written many times a second: room for new versions beside the old ones, and vacuumed by count.
const VACUUM_OFTEN: &str = "ALTER TABLE replica_leases SET (fillfactor = 20, \
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)";

/// `beat` counts the renewals; `fence_time` is when another server took the lease away.
fn replica_leases() -> TableCreateStatement {
    Table::create()
        .table("replica_leases")
        .col(text("replica_id"))
        .col(text("name"))
        .col(text("issuer"))
        .col(big_integer("beat"))
        .col(big_integer("applied"))
        .col(big_integer("join_time"))
        .col(big_integer_null("fence_time"))
        .primary_key(
            Index::create()
                .name("replica_leases_pkey")
                .col("replica_id"),
        )
        .take()
}

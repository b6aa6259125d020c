//! What the audit log is looked through by: time alone, for those who see every space, actor, and resource.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_index(by_time()).await?;
        for column in ["actor_user_id", "resource_id"] {
            manager.create_index(by_column_and_time(column)).await?;
        }
        Ok(())
    }
}

fn by_time() -> IndexCreateStatement {
    Index::create()
        .name("audit_events_event_time_idx")
        .table("audit_events")
        .col("event_time")
        .take()
}

fn by_column_and_time(column: &'static str) -> IndexCreateStatement {
    Index::create()
        .name(format!("audit_events_{column}_event_time_idx"))
        .table("audit_events")
        .col(column)
        .col("event_time")
        .take()
}

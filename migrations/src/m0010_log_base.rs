//! Where the revocation log that is called by `authority.log_identity` begins: the one place before which positions may be missing.

use sea_orm_migration::{prelude::*, schema::big_integer};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::alter()
            .table("authority")
            .add_column(big_integer("log_base").default(1))
            .take();
        manager.alter_table(table).await
    }
}

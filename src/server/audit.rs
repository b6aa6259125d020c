//! Verifies the audit log out of the database itself, beside a server or without one.

use super::open::{database_settings, existing_master_keys, master_key_path};
use crate::{
    authority::audit::{
        head_key,
        verify::{self, Verdict},
    },
    config::Settings,
    error::{Error, Result},
    storage::{self, Database},
};

/// What is to be said of the audit chain. Changes nothing, in the database or beside it.
pub async fn verify_audit(settings: &Settings) -> Result<Verdict> {
    let db = Database::open_read_only(&database_settings(settings)).await?;
    let verdict = verdict(settings, &db).await;
    db.close().await;
    verdict
}

async fn verdict(settings: &Settings, db: &Database) -> Result<Verdict> {
    storage::require_current_schema(db).await?;
    let row = storage::authority::find(db.reader())
        .await?
        .ok_or_else(|| Error::internal("the database is not an authority's"))?;
    let master_keys = existing_master_keys(settings)?.ok_or_else(|| {
        // A server would make one; it would be another.
        let made = master_key_path(settings);
        Error::internal(format!(
            "there is no master key: none is configured, and {} does not exist",
            made.display()
        ))
    })?;
    master_keys.require_those_of(&row)?;
    verify::verify(db, &head_key(&master_keys)?).await
}

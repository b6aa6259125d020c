//! Verifies the audit log out of the database itself, beside a server or without one.

use super::{database_settings, master_key};
use crate::{
    authority::{
        audit::{
            head_key,
            verify::{self, Verdict},
        },
        bootstrap,
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
    require_master_key(settings)?;
    let master_key = master_key(settings)?;
    bootstrap::check(&row, &master_key)?;
    verify::verify(db, &head_key(&master_key)?).await
}

/// A server would make the key that is missing; it would be another one.
fn require_master_key(settings: &Settings) -> Result<()> {
    let made = settings.data_dir.join("master-key");
    if settings.master_key.is_some() || !settings.master_key_file.is_empty() || made.exists() {
        return Ok(());
    }
    Err(Error::internal(format!(
        "there is no master key: none is configured, and {} does not exist",
        made.display()
    )))
}

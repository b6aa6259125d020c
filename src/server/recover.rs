//! Lets a user in again who cannot sign in: a new password, set without a server.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use super::{database_settings, open, restore::require_alone};
use crate::{
    authority::{bootstrap, directory},
    background::Background,
    clock::Clock,
    config::Settings,
    domain::{
        ids::{NamedUser, Username},
        password::Password,
    },
    error::{Error, Result},
    random,
    storage::{self, Database, DatabaseLocation},
};

/// Gives the user (by id or name) a made-up password, left in a new `file` of mode 0600, kills its JWTs, and says its name.
/// Refuses while a server runs on the database.
pub async fn recover(settings: &Settings, user: &str, file: &Path) -> Result<Username> {
    if database_settings(settings).is_missing() {
        return Err(Error::internal("there is no database yet"));
    }
    require_no_server(settings).await?;
    let background = Background::default();
    let authority = open(settings, Clock::system(), &background).await?;
    let user = NamedUser::parse(user)?;
    let user = storage::standing::standing(authority.db.reader(), &user, None)
        .await?
        .map(|standing| standing.user)
        .ok_or_else(|| Error::not_found("user"))?;
    let text = random::base62(24)?;
    let password = Password::chosen(text.to_string(), &user.username, "password")?;
    // Before it counts: a password that nobody can read would lock the user out.
    bootstrap::write_secret(file, &text)?;
    let until = Instant::now() + Duration::from_secs(5);
    directory::passwords::recover(&authority, &user.id, &password, until.into()).await?;
    background.stop();
    background.ended().await;
    authority.db.close().await;
    Ok(user.username)
}

/// On SQLite none could run beside this: the file is locked.
async fn require_no_server(settings: &Settings) -> Result<()> {
    let settings = database_settings(settings);
    if let DatabaseLocation::Sqlite(_) = settings.location {
        return Ok(());
    }
    let db = Database::open(&settings).await?;
    storage::migrate_up(&db).await?;
    let alone = require_alone(&db).await;
    db.close().await;
    alone.map(drop)
}

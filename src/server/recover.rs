//! Lets a user in again who cannot sign in: a new password, set without a server.

use std::{path::Path, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{database_settings, open};
use crate::{
    authority::{Authority, bootstrap, directory},
    clock::Clock,
    config::Settings,
    domain::{
        ids::{NamedUser, Username},
        lease::RENEWED_EVERY,
        password::Password,
    },
    error::{Error, Result},
    log::Replica,
    random,
    storage::{self, Engine},
};

/// Gives the user (by id or name) a made-up password, left in a new `file` of mode 0600, kills its JWTs, and says its name.
/// Refuses while a server runs on the database.
pub async fn recover(settings: &Settings, user: &str, file: &Path) -> Result<Username> {
    if database_settings(settings).is_missing() {
        return Err(Error::internal("there is no database yet"));
    }
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let authority = open(settings, Clock::system(), &tasks, &stop).await?;
    require_alone(&authority).await?;
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
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    authority.db.close().await;
    Ok(user.username)
}

/// Fails where another server has renewed its lease meanwhile. On SQLite none could have opened the file.
async fn require_alone(authority: &Authority) -> Result<()> {
    if authority.db.engine() == Engine::Sqlite {
        return Ok(());
    }
    tokio::time::sleep(RENEWED_EVERY * 3).await;
    let replicas = authority.log.replicas().await?;
    let alive = |replica: &Replica| {
        !replica.this && !replica.fenced && replica.beat_age < RENEWED_EVERY * 2
    };
    match replicas.into_iter().find(alive) {
        Some(replica) => Err(Error::internal(format!(
            "a server runs over this database: {}",
            replica.name
        ))),
        None => Ok(()),
    }
}

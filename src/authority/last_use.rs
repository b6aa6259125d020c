//! When and from where API keys were used, and when users signed in: gathered in memory, written once a minute and at shutdown.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::Authority;
use crate::{
    clock::Timestamp,
    domain::ids::{ApiKeyId, UserId},
    error::Result,
    storage::last_use::{KeyUse, note_sign_ins, note_uses},
};

const PAUSE: Duration = Duration::from_mins(1);
/// Rows that are written in one transaction: whoever revokes one of them waits for no more than these.
const BATCH: usize = 500;

/// Uses that are not written yet.
#[derive(Debug, Default)]
pub struct LastUse {
    keys: Mutex<HashMap<ApiKeyId, KeyUse>>,
    sign_ins: Mutex<HashMap<UserId, Timestamp>>,
}

impl LastUse {
    /// A key was accepted, by its secret of this number, to the minute; and from where, where that is an address.
    pub fn note(&self, id: &ApiKeyId, secret: i64, address: &str, now: Timestamp) {
        let minute = Timestamp::from_seconds(now.seconds() / 60 * 60);
        let address: Option<IpAddr> = address.parse().ok();
        let mut keys = lock(&self.keys);
        // An id is copied once between two writings, not with every use.
        if !keys.contains_key(id) {
            keys.insert(id.clone(), KeyUse::default());
        }
        if let Some(noted) = keys.get_mut(id) {
            noted.secrets.insert(secret, minute);
            noted.address = address.or(noted.address);
        }
    }

    /// A user signed in.
    pub fn note_sign_in(&self, user: &UserId, now: Timestamp) {
        lock(&self.sign_ins).insert(user.clone(), now);
    }

    /// Keeps for the next time what was not written, behind what was noted since.
    fn keep_uses(&self, uses: &[(ApiKeyId, KeyUse)], written: &HashSet<ApiKeyId>) {
        let mut keys = lock(&self.keys);
        for (id, earlier) in uses.iter().filter(|(id, _)| !written.contains(id)) {
            let noted = keys.entry(id.clone()).or_default();
            for (&secret, &time) in &earlier.secrets {
                noted.secrets.entry(secret).or_insert(time);
            }
            noted.address = noted.address.or(earlier.address);
        }
    }

    fn keep_sign_ins(&self, sign_ins: &[(UserId, Timestamp)], written: &HashSet<UserId>) {
        let mut noted = lock(&self.sign_ins);
        for (user, time) in sign_ins.iter().filter(|(user, _)| !written.contains(user)) {
            noted.entry(user.clone()).or_insert(*time);
        }
    }
}

/// Writes once a minute, and a last time at `stop`.
pub async fn write_regularly(authority: std::sync::Arc<Authority>, stop: CancellationToken) {
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(PAUSE) => false,
            () = stop.cancelled() => true,
        };
        if let Err(error) = write(&authority).await {
            tracing::warn!(error = ?error, "last_use.write_failed");
        }
        if stopping {
            return;
        }
    }
}

/// Writes what was gathered, forward only and in short transactions. What somebody else is changing is kept for the next time;
/// what fails is dropped: it will be noted again.
pub async fn write(authority: &Authority) -> Result<()> {
    let (db, last_use) = (&authority.db, &authority.last_use);
    for uses in take(&last_use.keys).chunks(BATCH) {
        let transaction = db.begin().await?;
        let written = note_uses(&transaction, uses).await?;
        transaction.commit().await?;
        last_use.keep_uses(uses, &written);
    }
    for sign_ins in take(&last_use.sign_ins).chunks(BATCH) {
        let transaction = db.begin().await?;
        let written = note_sign_ins(&transaction, sign_ins).await?;
        transaction.commit().await?;
        last_use.keep_sign_ins(sign_ins, &written);
    }
    Ok(())
}

fn take<K, V>(gathered: &Mutex<HashMap<K, V>>) -> Vec<(K, V)> {
    std::mem::take(&mut *lock(gathered)).into_iter().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

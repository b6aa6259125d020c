//! When and from where API keys were used: gathered in memory, written once a minute and at shutdown.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::Authority;
use crate::{
    clock::Timestamp,
    domain::{
        api_key::KeyRecord,
        ids::{ApiKeyId, UserId},
    },
    error::Result,
    storage,
};

const PAUSE: Duration = Duration::from_mins(1);

/// Uses that are not written yet.
#[derive(Debug, Default)]
pub struct LastUse {
    keys: Mutex<HashMap<(ApiKeyId, i64), Timestamp>>,
    addresses: Mutex<HashMap<ApiKeyId, IpAddr>>,
    sign_ins: Mutex<HashMap<UserId, Timestamp>>,
}

impl LastUse {
    /// A key was accepted, by its secret of this number; to the minute: only the first time in each is noted. And from where,
    /// where that is an address.
    pub fn note(&self, record: &KeyRecord, secret: i64, address: &str, now: Timestamp) {
        if record.is_first_use(secret, now) {
            let minute = Timestamp::from_seconds(now.seconds() / 60 * 60);
            lock(&self.keys).insert((record.id.clone(), secret), minute);
        }
        if let Ok(address) = address.parse() {
            self.note_address(&record.id, address);
        }
    }

    fn note_address(&self, id: &ApiKeyId, address: IpAddr) {
        let mut addresses = lock(&self.addresses);
        match addresses.get_mut(id) {
            Some(known) => *known = address,
            None => drop(addresses.insert(id.clone(), address)),
        }
    }

    /// A user signed in.
    pub fn note_sign_in(&self, user: &UserId, now: Timestamp) {
        lock(&self.sign_ins).insert(user.clone(), now);
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

/// Writes what was gathered, forward only. What cannot be written is dropped: it will be noted again.
pub async fn write(authority: &Authority) -> Result<()> {
    let keys = std::mem::take(&mut *lock(&authority.last_use.keys));
    let addresses = std::mem::take(&mut *lock(&authority.last_use.addresses));
    let sign_ins = std::mem::take(&mut *lock(&authority.last_use.sign_ins));
    if keys.is_empty() && sign_ins.is_empty() {
        return Ok(());
    }
    let transaction = authority.db.begin().await?;
    // In the order of ids, as all do that write to many.
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_unstable();
    for ((id, secret), time) in keys {
        let address = addresses.get(&id).map(IpAddr::to_string);
        storage::api_keys::note_use(&transaction, &id, secret, time, address).await?;
    }
    let mut sign_ins: Vec<_> = sign_ins.into_iter().collect();
    sign_ins.sort_unstable();
    for (user, time) in sign_ins {
        storage::users::note_sign_in(&transaction, &user, time).await?;
    }
    transaction.commit().await
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

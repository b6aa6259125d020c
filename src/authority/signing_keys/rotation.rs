//! Does by itself what is due: the next key takes over, keys that are over leave the published set, and one is always prepared.
//!
//! Every server looks, and whichever comes first does it: what is due is judged again once nobody else changes keys.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Policy, ceremony::Ceremony};
use crate::{
    authority::Authority,
    clock::Timestamp,
    domain::signing_key::{SigningKeyDescription, State},
    error::Result,
    storage::signing_keys,
    telemetry::metrics as names,
};

const PAUSE: Duration = Duration::from_mins(1);
/// How long to wait for the entries; other servers learn of them all the same.
const WAIT: Duration = Duration::from_secs(5);

/// Does what is due, at once and then every minute until `stop`.
pub async fn rotate_regularly(authority: Arc<Authority>, stop: CancellationToken) {
    loop {
        if let Err(error) = rotate(&authority).await {
            tracing::warn!(error = ?error, "signing_keys.rotation_failed");
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Does what is due now. Nothing is locked where nothing is.
pub async fn rotate(authority: &Authority) -> Result<()> {
    let stored = signing_keys::published(authority.db.reader()).await?;
    let keys: Vec<SigningKeyDescription> = stored.into_iter().map(|key| key.described).collect();
    let now = authority.clock.now();
    tell_age(&keys, now);
    if Due::among(&keys, authority.signing_keys, now).is_nothing() {
        return Ok(());
    }
    let mut ceremony = Ceremony::begin(authority, None).await?;
    let due = Due::among(ceremony.published(), authority.signing_keys, ceremony.now());
    for key in &due.over {
        ceremony.remove(key).await?;
        tracing::info!(signing_key.id = %key.id, "signing_key.removed");
    }
    if let Some(key) = &due.next {
        ceremony.activate(key, false).await?;
        tracing::info!(signing_key.id = %key.id, "signing_key.activated");
    }
    ceremony.keep_one_prepared().await?;
    ceremony
        .change
        .commit((Instant::now() + WAIT).into())
        .await?;
    Ok(())
}

/// What is to be done.
struct Due {
    /// Keys that stay published for nothing.
    over: Vec<SigningKeyDescription>,
    /// The key that takes over.
    next: Option<SigningKeyDescription>,
    /// No key is prepared.
    none_prepared: bool,
}

impl Due {
    fn among(keys: &[SigningKeyDescription], policy: Policy, now: Timestamp) -> Self {
        let mut prepared = keys
            .iter()
            .filter(|key| key.life.state == State::Prepared)
            .peekable();
        let rotates = policy
            .rotation_period
            .is_some_and(|period| keys.iter().any(|key| key.life.is_due(now, period)));
        Self {
            none_prepared: prepared.peek().is_none(),
            next: prepared
                .find(|key| rotates && key.life.ready_time() <= now)
                .cloned(),
            over: keys
                .iter()
                .filter(|key| key.life.is_over(now))
                .cloned()
                .collect(),
        }
    }

    fn is_nothing(&self) -> bool {
        self.over.is_empty() && self.next.is_none() && !self.none_prepared
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of an age")]
fn tell_age(keys: &[SigningKeyDescription], now: Timestamp) {
    let active = keys.iter().find(|key| key.life.state == State::Active);
    if let Some(since) = active.and_then(|key| key.life.activate_time) {
        metrics::gauge!(names::SIGNING_KEY_AGE).set(now.since(since).as_secs() as f64);
    }
}

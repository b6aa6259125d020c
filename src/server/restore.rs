//! After a backup was restored: whatever was decided since it was made is lost, so nothing that it holds may count as alive.

use tokio::time::sleep;

use super::{database_settings, open::existing_master_keys};
use crate::{
    authority::{
        audit,
        keyring::{self, master_keys::MasterKeys},
    },
    clock::{Clock, Timestamp},
    config::Settings,
    domain::{
        ids::EventId,
        lease::{LeaseRow, Terms},
        revocation::{Decision, FORGET_AFTER, Reason, Subject},
        signing_key::Life,
    },
    error::{Error, Result},
    log,
    storage::{self, Database, Engine, Transaction, replica_leases, revocation_log, signing_keys},
};

/// What a restored database keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The API keys that were good when the backup was made. One that was revoked since is good again.
    pub api_keys: bool,
}

/// Begins a new log whose first entry ends every JWT, replaces the signing keys, and ends every API key unless they are `kept`.
/// Refuses while a server runs over the database.
pub async fn restore(settings: &Settings, kept: Kept, clock: &Clock) -> Result<()> {
    if database_settings(settings).is_missing() {
        return Err(Error::internal("there is no database yet"));
    }
    let db = Database::open(&database_settings(settings)).await?;
    let restored = restore_in(&db, settings, kept, clock).await;
    db.close().await;
    restored
}

async fn restore_in(db: &Database, settings: &Settings, kept: Kept, clock: &Clock) -> Result<()> {
    storage::migrate_up(db).await?;
    let row = storage::authority::find(db.reader()).await?;
    let row = row.ok_or_else(|| Error::internal("the database is not an authority's"))?;
    let keys = existing_master_keys(settings)?;
    let keys = keys.ok_or_else(|| Error::internal("there is no master key"))?;
    keys.require_those_of(&row)?;
    db.chain_audit_events(audit::head_key(&keys)?);
    let silent = require_alone(db).await?;
    let now = clock.now();
    let transaction = db.begin().await?;
    // One that was stopped may go on at any moment: it joins anew then.
    for lease in &silent {
        if !replica_leases::fence(&transaction, &lease.id, lease.beat, now).await? {
            return Err(a_server_runs());
        }
    }
    let everything = Decision::revocation(Subject::Everything, None, Reason::Administrative);
    let event_id = log::begin_anew(&transaction, &everything, now).await?;
    replace_signing_keys(&transaction, settings, &keys, now).await?;
    if !kept.api_keys {
        storage::spaces::raise_all_key_generations(&transaction, now).await?;
    }
    let details = [(
        "api_keys_kept",
        if kept.api_keys { "true" } else { "false" },
    )];
    let done = audit::Done {
        action: "authority.restore",
        space: None,
        resource: event_id.as_str(),
        details: &details,
    };
    audit::record(&transaction, audit::Actor::ITSELF, done, now).await?;
    transaction.commit().await
}

/// One that was revoked since the backup may be in the hands of somebody else.
async fn replace_signing_keys(
    transaction: &Transaction,
    settings: &Settings,
    keys: &MasterKeys,
    now: Timestamp,
) -> Result<()> {
    signing_keys::lock(transaction).await?;
    for mut key in signing_keys::published(transaction).await? {
        key.described.life = key.described.life.revoke(now)?;
        signing_keys::update(transaction, &key.described).await?;
        // Who holds it may write any `rev`: its tokens are dead as such.
        let subject = Subject::SigningKey(key.described.id.clone());
        let dead = Decision::revocation(subject, None, Reason::Administrative);
        let event_id = EventId::new(now)?;
        revocation_log::append(transaction, &[(&event_id, &dead)], now, FORGET_AFTER).await?;
    }
    let algorithm = super::open::signing_policy(settings).algorithm;
    let prepared = Life::prepared(now);
    let active = prepared.activate(now, true)?;
    for life in [active, prepared] {
        keyring::make(transaction, keys.first(), algorithm, life).await?;
    }
    Ok(())
}

/// The leases of servers that have fallen silent, whose right to answer from memory is over. Fails where one is renewed. On SQLite
/// none could have opened the file.
pub(super) async fn require_alone(db: &Database) -> Result<Vec<LeaseRow>> {
    if db.engine() == Engine::Sqlite {
        return Ok(Vec::new());
    }
    let look = async || {
        let mut leases = replica_leases::look(db.reader()).await?.leases;
        leases.retain(|lease| !lease.fenced);
        Ok::<_, Error>(leases)
    };
    let before = look().await?;
    if before.is_empty() {
        return Ok(before);
    }
    sleep(Terms::STANDARD.patience()).await;
    if look().await?.iter().any(|lease| !before.contains(lease)) {
        return Err(a_server_runs());
    }
    Ok(before)
}

fn a_server_runs() -> Error {
    Error::internal("a server runs over this database")
}

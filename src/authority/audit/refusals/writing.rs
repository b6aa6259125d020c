//! Writes down what was refused.

use super::Refusal;
use crate::{authority::Authority, domain::audit::Event, error::Result, storage};

/// Refusals written in one transaction.
const BATCH: usize = 256;

/// Writes down what is due.
pub async fn write(authority: &Authority) -> Result<()> {
    write_some(authority, false).await
}

/// Writes down everything, the sums of minutes that are not over included: the server ends.
pub async fn write_all(authority: &Authority) -> Result<()> {
    write_some(authority, true).await
}

async fn write_some(authority: &Authority, everything: bool) -> Result<()> {
    let refusals = &authority.refusals;
    let _writing = refusals.writing.lock().await;
    let looked_up = refusals.sign_ins.look_up(&authority.db).await;
    let mut due = refusals.take(authority.clock.now(), everything);
    while !due.is_empty() {
        let later = due.split_off(due.len().min(BATCH));
        if let Err(error) = insert(authority, &due).await {
            due.extend(later);
            refusals.put_back(due);
            return Err(error);
        }
        due = later;
    }
    looked_up
}

async fn insert(authority: &Authority, refusals: &[Refusal]) -> Result<()> {
    let events: Vec<Event> = refusals.iter().map(Refusal::event).collect::<Result<_>>()?;
    let transaction = authority.db.begin().await?;
    storage::audit::insert(&transaction, &events.iter().collect::<Vec<_>>()).await?;
    transaction.commit().await
}

//! The chain as it is remembered: a place and a digest in each event's row, and the sealed head in the row of `authority`.

use sea_orm::{ConnectionTrait, QueryResult, Value};
use serde::Serialize;

use super::{COLUMNS, Row, WRITTEN, Written};
use crate::{
    domain::{
        audit::{Digest, Event, Head, HeadKey, Link, SealedHead},
        ids::AuditEventId,
    },
    error::{Error, Result},
    storage::{
        Engine, Transaction,
        statement::{engine_of, execute, given_rows, rows, statement},
    },
};

/// Why nothing can be added to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// Somebody else is adding some.
    Busy,
    /// The end of the chain was not sealed under the key, or events have places beyond it: nothing is added, since that would
    /// seal what somebody else wrote.
    HeadForged,
}

/// Writes events down as the next links of the chain, and seals its new end. SQLite only. False, and nothing is written, where
/// the chain ends in what somebody else wrote: that must not keep anybody from revoking.
pub(super) async fn append(
    transaction: &Transaction,
    key: &HeadKey,
    events: &[&Event],
) -> Result<bool> {
    let Ok(mut head) = lock_head(transaction, key).await? else {
        return Ok(false);
    };
    let mut links = Vec::with_capacity(events.len());
    for event in events {
        head = head.then(event);
        links.push(WrittenLink {
            event: Written::from(*event),
            place: head.sequence,
            sha256: head.digest.to_string(),
        });
    }
    let columns = [WRITTEN, PLACE].concat();
    let given = given_rows(transaction, &columns);
    let sql = format!(
        "INSERT INTO audit_events ({COLUMNS}, sequence, digest) SELECT {COLUMNS}, place, unhex(sha256) FROM {given}"
    );
    execute(transaction, sql, [rows(&links)?]).await?;
    move_head(transaction, &key.seal(head)).await?;
    Ok(true)
}

/// An event as a link, as it is given to the database.
#[derive(Serialize)]
struct WrittenLink<'a> {
    #[serde(flatten)]
    event: Written<'a>,
    place: u64,
    sha256: String,
}

/// Where in the chain an event stands, as it is given to the database.
const PLACE: &[(&str, &str)] = &[("place", "bigint"), ("sha256", "text")];

/// Begins a chain without events: its end is sealed from the first on, since one without a seal is nobody's.
pub async fn begin(transaction: &Transaction, key: &HeadKey) -> Result<()> {
    move_head(transaction, &key.seal(Head::EMPTY)).await
}

/// Seals the end of the chain anew: where it was sealed under another key that this one knows, under this one.
pub async fn seal(transaction: &Transaction, key: &HeadKey) -> Result<Result<(), Barred>> {
    match lock_head(transaction, key).await? {
        Ok(head) => move_head(transaction, &key.seal(head)).await.map(Ok),
        Err(barred) => Ok(Err(barred)),
    }
}

/// Moves up to `limit` events from the inbox to the chain, in the order of their ids, and seals its new end. Says how many.
pub async fn chain(
    transaction: &Transaction,
    key: &HeadKey,
    limit: u64,
) -> Result<Result<usize, Barred>> {
    let mut head = match lock_head(transaction, key).await? {
        Ok(head) => head,
        Err(barred) => return Ok(Err(barred)),
    };
    let sql = format!(
        "SELECT {COLUMNS}, NULL AS sequence, NULL AS digest FROM audit_inbox ORDER BY audit_event_id LIMIT {limit}"
    );
    let found = transaction
        .query_all_raw(statement(transaction, sql, []))
        .await?;
    let mut links = Vec::with_capacity(found.len());
    // What cannot be read was not written by us, and waits for somebody who looks at it.
    for event in found
        .iter()
        .map(Row::read)
        .filter_map(|row| row.link().event)
    {
        head = head.then(&event);
        links.push((event.id, head));
    }
    if links.is_empty() {
        return Ok(Ok(0));
    }
    put_in_place(transaction, &links).await?;
    move_head(transaction, &key.seal(head)).await?;
    Ok(Ok(links.len()))
}

/// An event and its place, as they are given to the database.
#[derive(Serialize)]
struct Placed<'a> {
    id: &'a str,
    place: u64,
    sha256: String,
}

async fn put_in_place(transaction: &Transaction, links: &[(AuditEventId, Head)]) -> Result<()> {
    let columns = [&[("id", "text")], PLACE].concat();
    let given = given_rows(transaction, &columns);
    let chained = |digest: &str, from: &str| {
        format!(
            "INSERT INTO audit_events ({COLUMNS}, sequence, digest) SELECT {COLUMNS}, place, {digest} FROM {from}"
        )
    };
    let placed: Vec<Placed<'_>> = links
        .iter()
        .map(|(id, head)| Placed {
            id: id.as_str(),
            place: head.sequence,
            sha256: head.digest.to_string(),
        })
        .collect();
    let placed = rows(&placed)?;
    let touched = match engine_of(transaction) {
        Engine::Sqlite => {
            let waiting = format!("{given} JOIN audit_inbox ON audit_event_id = id");
            let sql = chained("unhex(sha256)", &waiting);
            execute(transaction, sql, [placed.clone()]).await?;
            let sql =
                format!("DELETE FROM audit_inbox WHERE audit_event_id IN (SELECT id FROM {given})");
            execute(transaction, sql, [placed]).await?
        }
        Engine::Postgres => {
            let sql = format!(
                "WITH taken AS (DELETE FROM audit_inbox USING {given} WHERE audit_event_id = id RETURNING *) {}",
                chained("decode(sha256, 'hex')", "taken")
            );
            execute(transaction, sql, [placed]).await?
        }
    };
    if touched == links.len() as u64 {
        return Ok(());
    }
    Err(Error::internal(
        "events were chained by somebody else meanwhile",
    ))
}

/// The end of the chain, kept from others until the transaction is over; otherwise why nothing can be added to it. Writers of
/// events never wait for it on PostgreSQL.
async fn lock_head(transaction: &Transaction, key: &HeadKey) -> Result<Result<Head, Barred>> {
    let lock = match engine_of(transaction) {
        Engine::Sqlite => "",
        Engine::Postgres => " FOR UPDATE SKIP LOCKED",
    };
    let beyond = "EXISTS (SELECT 1 FROM audit_events WHERE sequence > audit_sequence) AS beyond";
    let sql = format!("SELECT {HEAD}, {beyond} FROM authority WHERE authority_id = 1{lock}");
    let row = transaction
        .query_one_raw(statement(transaction, sql, []))
        .await?;
    let Some(row) = row else {
        return Ok(Err(Barred::Busy));
    };
    let sealed = sealed_head(&row);
    // We have given no event a place beyond it.
    let goes_on_beyond = row.try_get("", "beyond").unwrap_or(true);
    if !key.accepts(&sealed) || goes_on_beyond {
        return Ok(Err(Barred::HeadForged));
    }
    Ok(Ok(sealed.head))
}

async fn move_head(transaction: &Transaction, sealed: &SealedHead) -> Result<()> {
    let sql = "UPDATE authority SET audit_sequence = $1, audit_digest = $2, audit_hmac = $3 WHERE authority_id = 1";
    let values: [Value; 3] = [
        number(sealed.head.sequence).into(),
        sealed.head.digest.as_bytes().to_vec().into(),
        sealed.seal.clone().into(),
    ];
    execute(transaction, sql, values).await?;
    Ok(())
}

const HEAD: &str = "audit_sequence, audit_digest, audit_hmac";

/// The head as it is stored. A column that holds no such thing, of whatever type, makes none of it, and no seal fits that: it
/// must not keep anybody from revoking.
fn sealed_head(row: &QueryResult) -> SealedHead {
    let sequence: Option<i64> = row.try_get("", "audit_sequence").ok();
    let sequence = sequence.and_then(|sequence| u64::try_from(sequence).ok());
    let digest: Option<Vec<u8>> = row.try_get("", "audit_digest").ok();
    let digest = digest.as_deref().and_then(Digest::known);
    let seal: Option<Vec<u8>> = row.try_get("", "audit_hmac").ok();
    let (Some(sequence), Some(digest), Some(seal)) = (sequence, digest, seal) else {
        return NO_HEAD;
    };
    let head = Head { sequence, digest };
    SealedHead { head, seal }
}

/// Nothing has this seal.
const NO_HEAD: SealedHead = SealedHead {
    head: Head::EMPTY,
    seal: Vec::new(),
};

/// Whether every event is in the chain.
pub async fn is_chained(db: &impl ConnectionTrait) -> Result<bool> {
    let sql = "SELECT 1 FROM audit_inbox LIMIT 1";
    let row = db.query_one_raw(statement(db, sql, [])).await?;
    Ok(row.is_none())
}

/// Both ends of what is to be verified, as they are at one moment.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The sealed head.
    pub sealed: SealedHead,
    /// How many events are not in the chain yet.
    pub not_chained: u64,
    /// The last place that an event has; events may get further ones while those up to here are verified.
    pub last: i64,
}

/// Where the chain ends now. One statement, so that head and events belong together while a server goes on writing.
pub async fn ends(db: &impl ConnectionTrait) -> Result<Ends> {
    let sql = format!(
        "SELECT {HEAD}, (SELECT max(sequence) FROM audit_events) AS last,
                (SELECT count(*) FROM audit_inbox) AS not_chained
         FROM authority WHERE authority_id = 1"
    );
    let row = db.query_one_raw(statement(db, sql, [])).await?;
    let row = row.ok_or_else(|| Error::internal("the database is not an authority's"))?;
    let not_chained: i64 = row.try_get("", "not_chained")?;
    // SQLite lets somebody put there what is no number at all.
    let last: Option<i64> = row.try_get("", "last").unwrap_or(Some(i64::MAX));
    Ok(Ends {
        sealed: sealed_head(&row),
        not_chained: u64::try_from(not_chained).unwrap_or_default(),
        last: last.unwrap_or_default(),
    })
}

/// Up to `limit` links beyond the place `after` and up to the place `last`, in the order of their places.
pub async fn links(
    db: &impl ConnectionTrait,
    after: Option<u64>,
    last: i64,
    limit: u64,
) -> Result<Vec<Link>> {
    // What somebody put at a place below the first is looked at, too.
    let after = after.map_or(i64::MIN, number);
    let sql = format!(
        "SELECT {COLUMNS}, sequence, digest FROM audit_events WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT {limit}"
    );
    let rows = db
        .query_all_raw(statement(db, sql, [after.into(), last.into()]))
        .await?;
    Ok(rows.iter().map(|row| Row::read(row).link()).collect())
}

fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

//! The lock that a running server holds over its PostgreSQL database, for as long as its session lives.

use sea_orm::{ConnectionTrait, Statement};

use crate::error::{Error, Result};

/// `tkna` and `srvr`, so that it is nobody else's lock.
const SQL: &str = "SELECT CASE
    WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
        AND classid = 1953197665 AND objid = 1936881266 AND objsubid = 2) THEN 'held'
    WHEN pg_try_advisory_lock(1953197665, 1936881266) THEN 'taken'
    ELSE 'another' END AS hold";

/// Who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// This session did already.
    Held,
    /// This session does from now on.
    Taken,
    /// Another session does.
    Another,
}

/// Takes the lock for this session where nobody holds it, and says who does.
pub async fn hold(db: &impl ConnectionTrait) -> Result<Hold> {
    let statement = Statement::from_string(db.get_database_backend(), SQL);
    let row = db.query_one_raw(statement).await?;
    let hold: Option<String> = row.map(|row| row.try_get("", "hold")).transpose()?;
    match hold.as_deref() {
        Some("held") => Ok(Hold::Held),
        Some("taken") => Ok(Hold::Taken),
        Some("another") => Ok(Hold::Another),
        _ => Err(Error::internal("the server lock gave no answer")),
    }
}

//! What a failure of the database means to a caller. Values never leave this file: not those that were bound, which
//! PostgreSQL repeats in the details of an error, and not those that could not be read.

use std::{borrow::Cow, fmt, time::Duration};

use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, error::DatabaseError, postgres::PgDatabaseError},
};

use crate::error::{Error, Reason};

/// When it is worth trying again where the database cannot be reached.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        classify(&error)
    }
}

/// For what `sqlx` is asked directly.
pub(super) fn from_sqlx(error: sqlx::Error) -> Error {
    classify(&DbErr::Conn(RuntimeErr::SqlxError(error.into())))
}

/// The name of the constraint that a statement would have violated, by the schema's conventions: `<table>_pkey`,
/// `<table>_<columns>_key`, and what a check is called. None for other failures, and for a foreign key on SQLite, which does
/// not say which.
pub fn violated_constraint(error: &DbErr) -> Option<String> {
    let error = database_error(error)?;
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        return error.constraint().map(str::to_owned);
    }
    let message = error.message();
    if let Some(name) = message.strip_prefix("CHECK constraint failed: ") {
        return Some(name.to_owned());
    }
    let columns = message.strip_prefix("UNIQUE constraint failed: ")?;
    if let Some(index) = columns.strip_prefix("index ") {
        return Some(index.trim_matches('\'').to_owned());
    }
    let table = columns.split_once('.')?.0;
    if error.code().as_deref() == Some(SQLITE_CONSTRAINT_PRIMARYKEY) {
        return Some(format!("{table}_pkey"));
    }
    let columns: Vec<&str> = columns
        .split(", ")
        .filter_map(|column| column.split_once('.').map(|(_, name)| name))
        .collect();
    Some(format!("{table}_{}_key", columns.join("_")))
}

const SQLITE_CONSTRAINT_PRIMARYKEY: &str = "1555";

enum Meaning {
    /// The database cannot be reached, or cannot do anything now.
    Unavailable,
    /// Another transaction was in the way.
    Conflict,
    /// A fault of ours, or of the data.
    Fault,
}

fn classify(error: &DbErr) -> Error {
    let cause = Cause::of(error);
    match meaning(error) {
        Meaning::Unavailable => unavailable(),
        Meaning::Conflict => Error::new(
            Reason::ConcurrentModification,
            "another call changed it at the same time",
        ),
        Meaning::Fault => Error::internal(format!("a database query failed: {cause}")),
    }
    .because(cause)
}

/// What is told where the database cannot be reached.
pub fn unavailable() -> Error {
    Error::new(Reason::DatabaseUnavailable, "the database is not available")
        .retry_after(RETRY_AFTER)
}

fn meaning(error: &DbErr) -> Meaning {
    if let Some(error) = database_error(error) {
        let code = error.code().unwrap_or_default();
        if error.is_unique_violation() {
            return Meaning::Conflict;
        }
        return if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            meaning_of_sqlstate(&code)
        } else {
            meaning_of_sqlite(&code)
        };
    }
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Meaning::Unavailable,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            meaning_of_sqlx(error)
        }
        _ => Meaning::Fault,
    }
}

fn meaning_of_sqlx(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Meaning::Unavailable,
        _ => Meaning::Fault,
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn meaning_of_sqlstate(code: &str) -> Meaning {
    match code {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Meaning::Conflict,
        // Lock timeout; idle in transaction for too long; a standby; a commit of which nothing is known; a database that lets nobody
        // in, or is not there.
        "55P03" | "25P03" | "25006" | "40003" | "55000" | "3D000" => Meaning::Unavailable,
        // Connection lost, refused, out of resources, shut down or cancelled, the system's faults, or its configuration.
        _ if ["08", "28", "53", "57", "58", "F0"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Meaning::Unavailable
        }
        _ => Meaning::Fault,
    }
}

/// <https://sqlite.org/rescode.html>
fn meaning_of_sqlite(extended: &str) -> Meaning {
    const PERM: i32 = 3;
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const NOMEM: i32 = 7;
    const READONLY: i32 = 8;
    const INTERRUPT: i32 = 9;
    const IOERR: i32 = 10;
    const FULL: i32 = 13;
    const CANTOPEN: i32 = 14;
    const PROTOCOL: i32 = 15;
    match extended.parse::<i32>().map(|code| code & 0xff) {
        Ok(
            PERM | BUSY | LOCKED | NOMEM | READONLY | INTERRUPT | IOERR | FULL | CANTOPEN
            | PROTOCOL,
        ) => Meaning::Unavailable,
        Ok(_) | Err(_) => Meaning::Fault,
    }
}

fn database_error(error: &DbErr) -> Option<&dyn DatabaseError> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => error.as_database_error(),
        _ => None,
    }
}

/// A failure of the database as the log may have it.
#[derive(Debug)]
struct Cause(Cow<'static, str>);

impl Cause {
    fn of(error: &DbErr) -> Self {
        if let Some(error) = database_error(error) {
            return Self::of_database(error);
        }
        match error {
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => Self::of_sqlx(error),
            DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. } => {
                Self("a column holds what it cannot hold".into())
            }
            other => Self(other.to_string().into()),
        }
    }

    /// Class 22 is about values, and repeats them.
    fn of_database(error: &dyn DatabaseError) -> Self {
        let code = error.code().unwrap_or_default();
        if code.starts_with("22") && error.try_downcast_ref::<PgDatabaseError>().is_some() {
            return Self(format!("a value cannot be taken (code {code})").into());
        }
        Self(format!("{} (code {code})", error.message()).into())
    }

    fn of_sqlx(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { index, .. } => {
                Self(format!("the column {index} holds what it cannot hold").into())
            }
            sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
                Self("a value cannot be read or written".into())
            }
            other => Self(other.to_string().into()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

//! Where the database is, and how long it may take.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::postgres;
use crate::error::Result;

/// Where the database is, and how long it may take.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Which engine, and where.
    pub location: DatabaseLocation,
    /// How many connections the pool of a PostgreSQL database has at most. SQLite has one that writes and four that read.
    pub max_connections: u32,
    /// How long to wait for a connection of the pool.
    pub acquire_timeout: Duration,
    /// How long a statement may take. PostgreSQL only.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock. On SQLite, for the file's.
    pub lock_timeout: Duration,
    /// How long a transaction may do nothing: shorter than others wait for its locks, so that a server that is stopped in the
    /// middle of one does not stop them. PostgreSQL only.
    pub idle_in_transaction_timeout: Duration,
    /// What the connections are called in `pg_stat_activity`.
    pub application_name: String,
    /// Whether nothing can be written. PostgreSQL only: on SQLite it is a matter of the connection.
    pub read_only: bool,
}

/// Which engine, and where.
#[derive(Debug, Clone)]
pub enum DatabaseLocation {
    /// A file, which one process owns; it and its folder are created where they are missing.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database, 13 or newer: `postgres://user:password@host/database`.
    Postgres(SecretString),
}

impl DatabaseSettings {
    /// The SQLite file at `path`.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::at(DatabaseLocation::Sqlite(path.into()))
    }

    /// The PostgreSQL database at `url`.
    pub fn postgres(url: impl Into<String>) -> Self {
        Self::at(DatabaseLocation::Postgres(SecretString::from(url.into())))
    }

    /// Whether it is a file that is not there yet.
    pub fn is_missing(&self) -> bool {
        match &self.location {
            DatabaseLocation::Sqlite(path) => !path.exists(),
            DatabaseLocation::Postgres(_) => false,
        }
    }

    /// INTERNAL for a URL that is none.
    pub fn check(&self) -> Result<()> {
        match &self.location {
            DatabaseLocation::Sqlite(_) => Ok(()),
            DatabaseLocation::Postgres(url) => postgres::parse(url).map(|_| ()),
        }
    }

    fn at(location: DatabaseLocation) -> Self {
        Self {
            location,
            max_connections: 16,
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(3),
            idle_in_transaction_timeout: Duration::from_secs(2),
            application_name: "token-authority".to_owned(),
            read_only: false,
        }
    }
}

//! The databases that are measured on.

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::runtime::{Builder, Runtime};

use crate::server::Server;

/// Which engine something is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// SQLite, and PostgreSQL where there is a server.
    pub(crate) fn to_measure() -> impl Iterator<Item = Self> {
        let postgres = postgres_server().map(|_| Self::Postgres);
        [Self::Sqlite].into_iter().chain(postgres)
    }

    /// As people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }

    /// Starts a server on a fresh database.
    pub(crate) fn start(self) -> Server {
        match self {
            Self::Sqlite => Server::start(),
            Self::Postgres => Server::start_on(Some(Database::create())),
        }
    }
}

/// A fresh PostgreSQL database, given up when dropped.
pub(crate) struct Database {
    name: String,
    url: String,
    server: String,
}

impl Database {
    pub(crate) fn create() -> Self {
        let server = postgres_server().unwrap();
        let name = format!("speed_{}", uuid::Uuid::now_v7().simple());
        tell(&server, format!("CREATE DATABASE {name}"));
        let (base, _) = server.rsplit_once('/').unwrap();
        Self {
            url: format!("{base}/{name}"),
            name,
            server,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        tell(&self.server, drop);
    }
}

fn tell(server: &str, statement: String) {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(server).await.unwrap();
        let statement = sqlx::AssertSqlSafe(statement);
        connection.execute(statement).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark has no configuration but this"
)]
fn postgres_server() -> Option<String> {
    std::env::var("TOKEN_AUTHORITY_BENCH_POSTGRES").ok()
}

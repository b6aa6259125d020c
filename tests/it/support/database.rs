//! A database of a test's own.

use sqlx::{Connection as _, Executor as _, PgConnection};

/// Which engine a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// A file in the test's data directory.
    Sqlite,
    /// A database on the server that `TOKEN_AUTHORITY_TEST_POSTGRES` names.
    Postgres,
}

/// A fresh database, given up when dropped.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    name: String,
    /// None on SQLite.
    url: Option<String>,
    server: Option<String>,
}

impl TestDatabase {
    /// A fresh database; none where there is no server to make it on.
    pub(crate) async fn create(engine: Engine) -> Option<Self> {
        match engine {
            Engine::Sqlite => Some(Self {
                name: String::new(),
                url: None,
                server: None,
            }),
            Engine::Postgres => Self::create_on(&postgres_server()?).await,
        }
    }

    async fn create_on(server: &str) -> Option<Self> {
        let name = format!("it_{}", uuid::Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(server).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(create).await.unwrap();
        connection.close().await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = format!("{base}/{name}");
        Some(Self {
            name,
            url: Some(url),
            server: Some(server.to_owned()),
        })
    }

    /// A database that is there already, and stays.
    pub(crate) fn at(url: String) -> Self {
        let (_, name) = url.rsplit_once('/').unwrap();
        Self {
            name: name.to_owned(),
            url: Some(url),
            server: None,
        }
    }

    /// The same database for another server; given up by whoever made it. PostgreSQL only.
    pub(crate) fn shared(&self) -> Self {
        Self {
            name: self.name.clone(),
            url: self.url.clone(),
            server: None,
        }
    }

    /// The same database by way of another port of this machine. PostgreSQL only.
    pub(crate) fn through(&self, port: u16) -> Self {
        let mut through = self.shared();
        if let Some(url) = &mut through.url {
            let (before, database) = url.rsplit_once('/').unwrap();
            let user = before.rsplit_once('@').map_or(before, |(user, _)| user);
            *url = format!("{user}@127.0.0.1:{port}/{database}");
        }
        through
    }

    /// Where it is; none on SQLite.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Which engine it is of.
    pub(crate) fn engine(&self) -> Engine {
        if self.url.is_some() {
            Engine::Postgres
        } else {
            Engine::Sqlite
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some(server) = self.server.clone() else {
            return;
        };
        let name = self.name.clone();
        // A thread of its own: the test's runtime may be the one that drops it.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await.unwrap();
                let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
                connection.execute(drop).await.unwrap();
            });
        });
        let _ = dropping.join();
    }
}

/// The PostgreSQL server of the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration but this"
)]
pub(crate) fn postgres_server() -> Option<String> {
    std::env::var("TOKEN_AUTHORITY_TEST_POSTGRES").ok()
}

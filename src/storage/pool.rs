//! Connections, and what replaces them when they are dead and do not know it.
//!
//! **The leak.** A connection whose other end vanished without a word (a firewall, a power cut) answers nothing. `sqlx` 0.9.0
//! pings a connection when it comes back to the pool, and waits for the answer for as long as TCP does: a quarter of an hour
//! during which its place in the pool is taken, though nothing of ours holds it. Once every place is lost so, the pool gives
//! nothing any more. Hence:
//! - a statement that has had no answer when the server itself would long have given it up shows that its connection is dead,
//!   and that those beside it are no better: the pool is replaced at once;
//! - a pool that gives no connection, and in which nothing at all is answered for as long, is replaced, too.
//!
//! What still runs on the old pool may end there. For a while there may be more connections than the settings say.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult,
    RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
    entity::prelude::async_trait::async_trait, sqlx::PgPool,
};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::Transaction;
use crate::error::{Error, Result};

/// How a pool is replaced.
#[derive(Clone)]
pub(super) struct Recipe {
    /// Makes another pool, without connecting yet.
    pub(super) open: Arc<dyn Fn() -> DatabaseConnection + Send + Sync>,
    /// After how long without an answer.
    pub(super) patience: Duration,
}

/// Connections to the database. Cheap to clone. Taken by queries as `&impl ConnectionTrait`, each statement by itself: what
/// is written belongs into a transaction ([`Pool::begin`]).
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    current: ArcSwap<Generation>,
    recipe: Option<Recipe>,
    backend: DbBackend,
    tasks: TaskTracker,
}

/// The connections from one replacement to the next.
struct Generation {
    connection: DatabaseConnection,
    answers: AtomicU64,
    watched: AtomicBool,
}

/// How many connections a pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// All of them.
    pub open: usize,
    /// Those that wait to be used.
    pub idle: usize,
}

/// The connections of a pool as they are now: what is asked of them is waited for, but not for ever.
#[derive(Clone)]
pub(super) struct Loan {
    pool: Pool,
    from: Arc<Generation>,
}

impl Pool {
    pub(super) fn new(
        connection: DatabaseConnection,
        recipe: Option<Recipe>,
        tasks: &TaskTracker,
    ) -> Self {
        Self(Arc::new(Shared {
            backend: connection.get_database_backend(),
            current: ArcSwap::from_pointee(Generation::of(connection)),
            recipe,
            tasks: tasks.clone(),
        }))
    }

    /// Begins a transaction; BEGIN IMMEDIATE on SQLite.
    ///
    /// It begins in a task of its own. Where the future of `sea_orm`'s `begin` is dropped before PostgreSQL's answer to BEGIN
    /// is there, `sqlx` 0.9.0 does not know that a transaction is open and gives the connection back with it: whatever the next
    /// borrower writes outside a transaction is lost. Nor can it be seen on the connection without a round trip. Nothing that
    /// a caller does can drop the task; where the caller has gone, the transaction that it was to get is dropped, and rolled
    /// back like any other.
    pub async fn begin(&self) -> Result<Transaction> {
        let pool = self.clone();
        let beginning = async move { pool.begin_here().await }.in_current_span();
        let begun = self.0.tasks.spawn(beginning).await;
        Ok(begun
            .map_err(|error| Error::internal("beginning a transaction failed").because(error))??)
    }

    async fn begin_here(&self) -> Result<Transaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let loan = self.loan();
        let begun = loan
            .answered(loan.connection().begin_with_options(options))
            .await?;
        Ok(Transaction::new(begun, loan))
    }

    /// How many connections there are now.
    pub fn in_use(&self) -> PoolUse {
        let (open, idle) = if self.0.backend == DbBackend::Sqlite {
            let pool = self.connection();
            let pool = pool.get_sqlite_connection_pool();
            (pool.size(), pool.num_idle())
        } else {
            let pool = self.sqlx_pool();
            (pool.size(), pool.num_idle())
        };
        let open = usize::try_from(open).unwrap_or(usize::MAX);
        PoolUse {
            open,
            idle: idle.min(open),
        }
    }

    /// What migrations run on: they begin transactions of their own.
    pub(super) fn connection(&self) -> DatabaseConnection {
        self.0.current.load().connection.clone()
    }

    /// PostgreSQL only.
    fn sqlx_pool(&self) -> PgPool {
        self.connection().get_postgres_connection_pool().clone()
    }

    /// Closes the connections, as they come back.
    pub(super) async fn close(&self) {
        if let Err(error) = self.connection().close_by_ref().await {
            tracing::debug!(%error, "closing the database connections failed");
        }
    }

    fn loan(&self) -> Loan {
        Loan {
            pool: self.clone(),
            from: self.0.current.load_full(),
        }
    }
}

impl Loan {
    fn connection(&self) -> &DatabaseConnection {
        &self.from.connection
    }

    /// Waits for an answer, and draws the conclusions where there is none.
    pub(super) async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, DbErr>> + Send,
    ) -> Result<T, DbErr> {
        let Some(recipe) = &self.pool.0.recipe else {
            return answer.await;
        };
        match tokio::time::timeout(recipe.patience, answer).await {
            Ok(Err(error)) if is_exhausted(&error) => {
                self.watch(recipe.patience);
                Err(error)
            }
            Ok(answer) => {
                self.from.answers.fetch_add(1, Ordering::Relaxed);
                answer
            }
            Err(_) => {
                self.replace(recipe);
                Err(no_answer())
            }
        }
    }

    /// Replaces the connections unless something is answered soon.
    fn watch(&self, patience: Duration) {
        if self.from.watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let loan = self.clone();
        let before = self.from.answers.load(Ordering::Relaxed);
        self.pool.0.tasks.spawn(async move {
            tokio::time::sleep(patience).await;
            let silent = loan.from.answers.load(Ordering::Relaxed) == before;
            if let Some(recipe) = loan.pool.0.recipe.as_ref().filter(|_| silent) {
                loan.replace(recipe);
            }
            loan.from.watched.store(false, Ordering::Relaxed);
        });
    }

    fn replace(&self, recipe: &Recipe) {
        let shared = &self.pool.0;
        let fresh = Arc::new(Generation::of((recipe.open)()));
        let found = shared.current.compare_and_swap(&self.from, fresh);
        if !Arc::ptr_eq(&found, &self.from) {
            return;
        }
        tracing::warn!("the database does not answer; its connections are replaced");
        let replaced = Arc::clone(&self.from);
        let patience = recipe.patience;
        shared.tasks.spawn(async move {
            let closing = replaced.connection.close_by_ref();
            tokio::time::timeout(patience, closing).await.ok();
        });
    }
}

impl Generation {
    fn of(connection: DatabaseConnection) -> Self {
        Self {
            connection,
            answers: AtomicU64::new(0),
            watched: AtomicBool::new(false),
        }
    }
}

/// Whether the pool had no connection to give.
fn is_exhausted(error: &DbErr) -> bool {
    matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
}

/// What is told of a statement to which there was no answer.
fn no_answer() -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(
        "the database did not answer".to_owned(),
    ))
}

#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.0.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let loan = self.loan();
        loan.answered(loan.connection().execute_raw(statement))
            .await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let loan = self.loan();
        loan.answered(loan.connection().execute_unprepared(sql))
            .await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let loan = self.loan();
        loan.answered(loan.connection().query_one_raw(statement))
            .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let loan = self.loan();
        loan.answered(loan.connection().query_all_raw(statement))
            .await
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.in_use().fmt(f)
    }
}

//! Transactions: what is written in one is there wholly or not at all.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    entity::prelude::async_trait::async_trait,
};

use super::{
    database_file::{DatabaseFile, out_of_place},
    pool::Loan,
};
use crate::{domain::audit::HeadKey, error::Result};

/// A transaction. Dropping it rolls back.
///
/// Once a statement has failed, nothing further is done in it, on either engine: PostgreSQL answers COMMIT with a ROLLBACK
/// then, which `sqlx` takes for success, and SQLite, out of disk space, rolls back and goes on without a transaction.
pub struct Transaction {
    inner: DatabaseTransaction,
    failed: AtomicBool,
    loan: Loan,
    file: Option<Arc<DatabaseFile>>,
    /// Under which audit events are chained as they are written; none: somebody does so afterwards.
    audit_key: Option<HeadKey>,
}

impl Transaction {
    pub(super) fn new(transaction: DatabaseTransaction, loan: Loan) -> Self {
        Self {
            inner: transaction,
            failed: AtomicBool::new(false),
            loan,
            file: None,
            audit_key: None,
        }
    }

    pub(super) fn in_file(self, file: Option<Arc<DatabaseFile>>) -> Self {
        Self { file, ..self }
    }

    pub(super) fn chaining_under(self, audit_key: Option<HeadKey>) -> Self {
        Self { audit_key, ..self }
    }

    pub(super) fn audit_key(&self) -> Option<&HeadKey> {
        self.audit_key.as_ref()
    }

    /// Makes it last. UNAVAILABLE where the database gave no answer, or its file is not in its place any more: then it is not
    /// known whether it lasts.
    pub async fn commit(self) -> Result<()> {
        self.refuse_after_failure()?;
        self.loan.answered(self.inner.commit()).await?;
        match self.file {
            Some(file) if !file.is_in_place() => Err(out_of_place()),
            Some(_) | None => Ok(()),
        }
    }

    /// Undoes it, and waits until that is done.
    pub async fn rollback(self) -> Result<()> {
        self.loan.answered(self.inner.rollback()).await?;
        Ok(())
    }

    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, DbErr>> + Send,
    ) -> Result<T, DbErr> {
        self.refuse_after_failure()?;
        // Set before and cleared after, so that a statement whose future is dropped counts as failed.
        self.failed.store(true, Ordering::Relaxed);
        let answer = self.loan.answered(answer).await?;
        self.failed.store(false, Ordering::Relaxed);
        Ok(answer)
    }

    fn refuse_after_failure(&self) -> Result<(), DbErr> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(DbErr::Custom(
                "an earlier statement of the transaction failed".to_owned(),
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.answered(self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.answered(self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.answered(self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.answered(self.inner.query_all_raw(statement)).await
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

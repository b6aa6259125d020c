//! This server's lease: taken before the log is loaded, renewed for as long as the server follows the log, given back when it
//! ends.
//!
//! Whenever the log has to be loaded anew, be it that another server took the lease away, or that the log is not the one that was
//! applied, that is done under a new lease, as at a start: the old one told others how far *that* log was applied.
//!
//! Nobody else has a SQLite file: there the lease is written nowhere, and lasts only while the file is where it was.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Shared, tail};
use crate::{
    clock::boottime,
    domain::{
        ids::ReplicaId,
        lease::{Lease, Next, RENEWED_EVERY, Renewal, Terms},
    },
    error::{Error, Result},
    storage::{Engine, Pool, replica_leases},
};

/// How long to wait where the database gave no answer.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    issuer: String,
    /// To the table of leases, where there are others.
    connection: Option<Pool>,
    /// The database file is not where it was.
    out_of_place: bool,
}

impl Keeper {
    pub(super) async fn new(shared: Arc<Shared>, issuer: String) -> Result<Self> {
        let connection = match shared.db.engine() {
            Engine::Sqlite => None,
            Engine::Postgres => Some(shared.own_connection("token-authority lease").await?),
        };
        Ok(Self {
            shared,
            issuer,
            connection,
            out_of_place: false,
        })
    }

    /// Joins the other servers: from now on whoever revokes waits for this one. Returns when it may answer from memory.
    pub(super) async fn join(&mut self) -> Result<()> {
        self.renew().await?;
        let shared = Arc::clone(&self.shared);
        let loading = tail::load_anew(&shared);
        tokio::pin!(loading);
        loop {
            tokio::select! {
                loaded = &mut loading => break loaded?,
                () = tokio::time::sleep(RENEWED_EVERY) => {
                    self.renew().await?;
                }
            }
        }
        // Posts how far.
        self.renew().await?;
        let alone = self.require_one_issuer().await;
        if alone.is_err() {
            self.end().await?;
        }
        alone
    }

    /// Each of two servers with different issuers would call the other's tokens inactive, and could not revoke them. INTERNAL
    /// beside one whose lease is renewed, or new.
    async fn require_one_issuer(&mut self) -> Result<()> {
        let Some(connection) = self.connection.clone() else {
            return Ok(());
        };
        let begun = boottime();
        let left = replica_leases::of_other_issuers(&connection, &self.issuer).await?;
        // What a server left that is no more stands still.
        while !left.is_empty() && boottime().saturating_sub(begun) < Terms::STANDARD.patience() {
            tokio::time::sleep(RENEWED_EVERY).await;
            self.renew().await?;
            let others = replica_leases::of_other_issuers(&connection, &self.issuer).await?;
            if let Some(other) = others.iter().find(|other| !left.contains(other)) {
                return Err(Error::internal(format!(
                    "a server with the issuer {} works on this database, and this one's is {}",
                    other.issuer, self.issuer
                )));
            }
        }
        Ok(())
    }

    /// Keeps the lease until `stop`, and gives it back.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = self.shared.wake_lease.notified() => {}
                () = tokio::time::sleep(RENEWED_EVERY) => {}
                () = stop.cancelled() => return self.give_back().await,
            }
            match self.renew().await {
                Ok(true) if failing => {
                    failing = false;
                    tracing::info!("lease.renewed_again");
                }
                Ok(_) => {}
                Err(error) => {
                    if !failing {
                        tracing::warn!(error = ?error, "lease.not_renewed");
                    }
                    failing = true;
                    tokio::time::sleep(AFTER_FAILURE).await;
                    self.shared.wake_lease.notify_one();
                }
            }
        }
    }

    /// Says how far the log is applied here, and gets the right to answer from memory for a while. False where the lease is let
    /// be, since the log cannot be followed.
    async fn renew(&mut self) -> Result<bool> {
        if !self.is_in_place() {
            return self.end().await.map(|()| false);
        }
        let shared = Arc::clone(&self.shared);
        let applied = shared.memory.place();
        let renewal = match shared.right.step(|right| right.next(boottime(), applied)) {
            Next::LetBe => return Ok(false),
            Next::Renew(renewal) => renewal,
            Next::Join => self.begin().await?,
        };
        let touched = self.write(&renewal).await?;
        let to_load = shared.right.step(|right| {
            right.renewal_committed(&renewal, touched);
            right.load().is_some()
        });
        if !touched {
            tracing::warn!(replica.id = %renewal.id(), "lease.taken_away");
            shared.wake_lease.notify_one();
        }
        if to_load {
            shared.wake_tail.notify_one();
        }
        Ok(touched)
    }

    /// Whether the log is the one that the next start will find.
    fn is_in_place(&mut self) -> bool {
        let in_place = self.shared.db.is_in_place();
        match (
            in_place,
            std::mem::replace(&mut self.out_of_place, !in_place),
        ) {
            (false, false) => tracing::error!("the database file was moved or removed"),
            (true, true) => tracing::warn!("the database file is back"),
            (false, true) | (true, false) => {}
        }
        in_place
    }

    /// False where the lease was taken away.
    async fn write(&self, renewal: &Renewal) -> Result<bool> {
        let Some(connection) = &self.connection else {
            return Ok(true);
        };
        let (id, applied) = (renewal.id(), renewal.applied());
        let transaction = connection.begin().await?;
        let touched = if renewal.opens() {
            let (name, now) = (&self.shared.barrier.name, self.shared.clock.now());
            replica_leases::open(&transaction, id, name, &self.issuer, now).await?
        } else {
            replica_leases::renew(&transaction, id, applied).await?
        };
        transaction.commit().await?;
        Ok(touched)
    }

    /// Gives the lease up for another one.
    async fn begin(&mut self) -> Result<Renewal> {
        self.end().await?;
        let id = ReplicaId::new(self.shared.clock.now())?;
        self.shared.barrier.set_own(&id);
        Ok(self.shared.right.step(|right| right.join(id, boottime())))
    }

    async fn give_back(self) {
        if let Err(error) = self.end().await {
            tracing::warn!(error = ?error, "lease.not_given_back");
        }
    }

    /// Nothing is answered from memory any more, and nobody has to wait for that.
    async fn end(&self) -> Result<()> {
        let ended = self.shared.right.step(|right| {
            right.end();
            right.lease().map(Lease::id).cloned()
        });
        let (Some(id), Some(connection)) = (ended, &self.connection) else {
            return Ok(());
        };
        let transaction = connection.begin().await?;
        replica_leases::give_back(&transaction, &id).await?;
        transaction.commit().await
    }
}

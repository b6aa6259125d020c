//! This server's lease: taken before the log is loaded, renewed for as long as the server runs, given back when it ends.
//!
//! Whenever the log has to be loaded anew, be it that another server took the lease away, or that the log is not the one that was
//! applied, that is done under a new lease, as at a start: the old one told others how far *that* log was applied.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Shared, tail};
use crate::{
    clock::boottime,
    domain::{
        ids::ReplicaId,
        lease::{Lease, RENEWED_EVERY, Renewal, Terms},
    },
    error::Result,
    storage::{Pool, replica_leases},
};

/// How long to wait where the database gave no answer.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    connection: Pool,
    lease: Lease,
    /// The loads that are done under it.
    loads: u64,
}

impl Keeper {
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self> {
        let connection = shared.own_connection("token-authority lease").await?;
        let loads = shared.right.loads_wanted();
        Ok(Self {
            lease: new_lease(&shared)?,
            shared,
            connection,
            loads,
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
                () = tokio::time::sleep(RENEWED_EVERY) => self.renew().await?,
            }
        }
        // Takes in that it is loaded, and posts how far.
        self.renew().await?;
        self.renew().await
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
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("lease.renewed_again");
                }
                Ok(()) => {}
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

    /// Says how far the log is applied here, and gets the right to answer from memory for a while.
    async fn renew(&mut self) -> Result<()> {
        let wanted = self.shared.right.loads_wanted();
        if self.loads < wanted {
            self.begin_anew(wanted).await?;
        }
        let applied = *self.shared.place.borrow();
        let Some(renewal) = self.lease.renewal_sent(boottime(), applied) else {
            return Ok(());
        };
        let touched = self.write(&renewal).await?;
        self.lease.renewal_committed(&renewal, touched);
        if self.lease.has_ended() {
            tracing::warn!(replica.id = %self.lease.id(), "lease.taken_away");
            self.shared.right.suspend();
            self.shared.wake_lease.notify_one();
        }
        self.load_under_it();
        let right = self.lease.right().unwrap_or_default();
        self.shared.right.ends_at(right);
        Ok(())
    }

    /// Has the log loaded once the lease is committed, and notes that it is.
    fn load_under_it(&mut self) {
        let Some(load) = self.lease.load() else {
            return;
        };
        let right = &self.shared.right;
        if right.is_loaded(self.loads) {
            self.lease.loaded(load, *self.shared.place.borrow());
            self.shared.wake_lease.notify_one();
        } else {
            right.allow_loads(self.loads);
            self.shared.wake_tail.notify_one();
        }
    }

    async fn write(&self, renewal: &Renewal) -> Result<bool> {
        let (id, applied) = (renewal.id(), renewal.applied());
        let transaction = self.connection.begin().await?;
        let touched = if renewal.opens() {
            let (name, now) = (&self.shared.barrier.name, self.shared.clock.now());
            replica_leases::open(&transaction, id, name, now).await?
        } else {
            replica_leases::renew(&transaction, id, applied).await?
        };
        transaction.commit().await?;
        Ok(touched)
    }

    /// Gives the lease up for another one, under which the first `wanted` loads are done.
    async fn begin_anew(&mut self, wanted: u64) -> Result<()> {
        self.end().await?;
        self.lease = new_lease(&self.shared)?;
        self.loads = wanted;
        Ok(())
    }

    async fn give_back(mut self) {
        if let Err(error) = self.end().await {
            tracing::warn!(error = ?error, "lease.not_given_back");
        }
    }

    /// Nothing is answered from memory any more, and nobody has to wait for that.
    async fn end(&mut self) -> Result<()> {
        self.lease.end();
        self.shared.right.ends_at(Duration::ZERO);
        let transaction = self.connection.begin().await?;
        replica_leases::give_back(&transaction, self.lease.id()).await?;
        transaction.commit().await
    }
}

fn new_lease(shared: &Shared) -> Result<Lease> {
    let id = ReplicaId::new(shared.clock.now())?;
    shared.barrier.set_own(&id);
    Ok(Lease::new(id, Terms::STANDARD))
}

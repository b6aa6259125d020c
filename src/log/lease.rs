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
    lease: Option<Lease>,
    /// The loads that are done under it.
    loads: u64,
}

impl Keeper {
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self> {
        let connection = shared.own_connection("token-authority lease").await?;
        Ok(Self {
            shared,
            connection,
            lease: None,
            loads: 0,
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
        if !self.shared.right.follows_the_log(boottime()) {
            return Ok(());
        }
        let wanted = self.shared.right.loads_wanted();
        let applied = *self.shared.place.borrow();
        let lease = self.lease.as_ref().filter(|_| self.loads >= wanted);
        let renewal = match lease.and_then(|lease| lease.renewal_sent(boottime(), applied)) {
            Some(renewal) => renewal,
            // There is none, it has ended, or it is not known whether its row was written.
            None => self.begin(wanted).await?,
        };
        let touched = self.write(&renewal).await?;
        let Some(lease) = &mut self.lease else {
            return Ok(());
        };
        lease.renewal_committed(&renewal, touched);
        let (shared, right) = (&self.shared, &self.shared.right);
        if lease.has_ended() {
            tracing::warn!(replica.id = %lease.id(), "lease.taken_away");
            right.suspend();
            shared.wake_lease.notify_one();
        }
        if let Some(load) = lease.load() {
            if right.is_loaded(self.loads) {
                lease.loaded(load, *shared.place.borrow());
                shared.wake_lease.notify_one();
            } else {
                right.allow_loads(self.loads);
                shared.wake_tail.notify_one();
            }
        }
        right.ends_at(lease.right().unwrap_or_default());
        Ok(())
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
    async fn begin(&mut self, wanted: u64) -> Result<Renewal> {
        self.end().await?;
        let id = ReplicaId::new(self.shared.clock.now())?;
        self.shared.barrier.set_own(&id);
        let (lease, opening) = Lease::open(id, Terms::STANDARD, boottime());
        self.lease = Some(lease);
        self.loads = wanted;
        Ok(opening)
    }

    async fn give_back(mut self) {
        if let Err(error) = self.end().await {
            tracing::warn!(error = ?error, "lease.not_given_back");
        }
    }

    /// Nothing is answered from memory any more, and nobody has to wait for that.
    async fn end(&mut self) -> Result<()> {
        self.shared.right.ends_at(Duration::ZERO);
        let Some(lease) = &mut self.lease else {
            return Ok(());
        };
        lease.end();
        let transaction = self.connection.begin().await?;
        replica_leases::give_back(&transaction, lease.id()).await?;
        transaction.commit().await?;
        self.lease = None;
        Ok(())
    }
}

//! A change at work: one transaction with its entries in the log and its audit row, made in the name of a caller that is
//! judged again once the rows are locked.

use std::collections::BTreeMap;

use super::{Authority, audit, caller::Caller};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{EventId, SpaceId, UserId},
        revocation::{Decision, FORGET_AFTER, Reason, Subject},
    },
    error::Result,
    log::{Effect, Pending, WaitUntil},
    storage::{self, Transaction, revocation_log},
};

/// Entries that are appended in one statement, where there are many.
const APPENDED: usize = 500;

/// How a row is locked. Whoever makes something that belongs to a user or a space keeps it from being ended; whoever changes
/// or ends it waits for all of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    Keep,
    Change,
}

/// The rows that a change needs, locked in one order whatever the order they were named in: spaces before users, each by id.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    spaces: BTreeMap<SpaceId, Lock>,
    users: BTreeMap<UserId, Lock>,
}

impl Locks {
    /// The space must not be ended meanwhile.
    #[must_use]
    pub fn keep_space(mut self, id: &SpaceId) -> Self {
        self.spaces.entry(id.clone()).or_insert(Lock::Keep);
        self
    }

    /// The space will be changed or ended.
    #[must_use]
    pub fn change_space(mut self, id: &SpaceId) -> Self {
        self.spaces.insert(id.clone(), Lock::Change);
        self
    }

    /// The user must not be ended meanwhile.
    #[must_use]
    pub fn keep_user(mut self, id: &UserId) -> Self {
        self.users.entry(id.clone()).or_insert(Lock::Keep);
        self
    }

    /// The user will be changed or ended.
    #[must_use]
    pub fn change_user(mut self, id: &UserId) -> Self {
        self.users.insert(id.clone(), Lock::Change);
        self
    }

    /// Whether the space is locked for a change.
    fn changes_space(&self, id: &SpaceId) -> bool {
        self.spaces.get(id) == Some(&Lock::Change)
    }

    async fn take(&self, transaction: &Transaction) -> Result<()> {
        for (id, lock) in &self.spaces {
            match lock {
                Lock::Keep => storage::spaces::lock_shared(transaction, id).await?,
                Lock::Change => storage::spaces::lock_exclusively(transaction, id).await?,
            }
        }
        for (id, lock) in &self.users {
            match lock {
                Lock::Keep => storage::users::lock_shared(transaction, id).await?,
                Lock::Change => storage::users::lock_exclusively(transaction, id).await?,
            }
        }
        Ok(())
    }
}

/// Sets what is to be set; where that is none, it stays.
pub(super) fn replace<T>(old: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *old = new;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Change<'a> {
    /// What is written here lasts once [`Change::commit`] has returned.
    pub transaction: Transaction,
    /// When it was decided.
    pub now: Timestamp,
    locks: Locks,
    pending: Pending,
    kills: bool,
    actor: audit::Actor<'a>,
}

impl<'a> Change<'a> {
    /// Begins in the name of `caller`, or of the authority itself where there is none. UNAUTHENTICATED where the caller's
    /// credential was ended since it was judged.
    pub async fn begin(
        authority: &Authority,
        caller: Option<&'a Caller>,
        locks: Locks,
    ) -> Result<Self> {
        let pending = authority.log.pending();
        let locks = match caller {
            Some(caller) => locks
                .keep_user(caller.user_id())
                .keep_space(caller.space_id()),
            None => locks,
        };
        let transaction = authority.db.begin().await?;
        locks.take(&transaction).await?;
        if let Some(caller) = caller {
            caller
                .credential
                .judge_again(authority, &transaction, caller.position)
                .await?;
        }
        Ok(Self {
            transaction,
            now: authority.clock.now(),
            locks,
            pending,
            kills: false,
            actor: caller.map_or(audit::Actor::ITSELF, audit::Actor::caller),
        })
    }

    /// Whether the space was locked for a change.
    pub fn holds_space(&self, id: &SpaceId) -> bool {
        self.locks.changes_space(id)
    }

    /// Kills the JWTs of `subject` in `space`.
    pub async fn kill(
        &mut self,
        subject: Subject,
        space: &SpaceId,
        reason: Reason,
    ) -> Result<EventId> {
        let decision = Decision::revocation(subject, Some(space.clone()), reason);
        self.revoke(&decision).await
    }

    /// Kills the JWTs of `subject` in every space.
    pub async fn kill_everywhere(&mut self, subject: Subject, reason: Reason) -> Result<EventId> {
        self.revoke(&Decision::revocation(subject, None, reason))
            .await
    }

    /// Kills what `decision` says.
    pub async fn revoke(&mut self, decision: &Decision) -> Result<EventId> {
        self.kills = true;
        self.append(decision).await
    }

    /// Kills the JWTs of many, each in its space, without a statement for each.
    pub async fn kill_each(
        &mut self,
        subjects: impl IntoIterator<Item = (Subject, SpaceId)>,
        reason: Reason,
    ) -> Result<()> {
        let decisions = subjects.into_iter().map(|(subject, space)| {
            let decision = Decision::revocation(subject, Some(space), reason);
            Ok((EventId::new(self.now)?, decision))
        });
        let decisions: Vec<_> = decisions.collect::<Result<_>>()?;
        for chunk in decisions.chunks(APPENDED) {
            let entries: Vec<_> = chunk.iter().map(|(id, decision)| (id, decision)).collect();
            let made =
                revocation_log::append(&self.transaction, &entries, self.now, FORGET_AFTER).await?;
            for (id, decision) in entries {
                self.pending.expect(id, decision.kind, made);
            }
            self.kills = true;
        }
        Ok(())
    }

    /// Makes stale what is remembered of `subject` in every space.
    pub async fn touch_everywhere(&mut self, subject: Subject) -> Result<()> {
        self.append(&Decision::change(subject, None)).await?;
        Ok(())
    }

    /// Waits with others for what was killed already.
    pub fn join(&mut self, found: &revocation_log::Found) {
        self.kills = true;
        self.pending.join(found);
    }

    /// Makes stale what is remembered of `subject` in `space`.
    pub async fn touch(&mut self, subject: Subject, space: &SpaceId) -> Result<EventId> {
        let decision = Decision::change(subject, Some(space.clone()));
        self.append(&decision).await
    }

    /// A secret ends, with what is touched: how far that has reached matters as much as what is killed.
    pub fn ends_a_secret(&mut self) {
        self.kills = true;
    }

    async fn append(&mut self, decision: &Decision) -> Result<EventId> {
        self.pending
            .append(&self.transaction, decision, self.now)
            .await
    }

    /// Writes down what was done.
    pub async fn audit(
        &self,
        action: &'static str,
        space: &SpaceId,
        resource: &str,
        details: &[(&str, &str)],
    ) -> Result<()> {
        self.record(action, Some(space), resource, details).await
    }

    /// Writes down what was done to the authority as a whole.
    pub async fn audit_everywhere(
        &self,
        action: &'static str,
        resource: &str,
        details: &[(&str, &str)],
    ) -> Result<()> {
        self.record(action, None, resource, details).await
    }

    async fn record(
        &self,
        action: &'static str,
        space: Option<&SpaceId>,
        resource: &str,
        details: &[(&str, &str)],
    ) -> Result<()> {
        let done = audit::Done {
            action,
            space,
            resource,
            details,
        };
        audit::record(&self.transaction, self.actor, done, self.now).await
    }

    /// Makes it last where nobody remembers anything that it makes stale.
    pub async fn commit_alone(self) -> Result<()> {
        self.transaction.commit().await
    }

    /// Makes it last and waits for its entries, so that the caller's next call finds it done. How far it has reached, where it
    /// kills anything.
    pub async fn commit(self, until: WaitUntil) -> Result<Option<Effect>> {
        let kills = self.kills;
        let pending = self.commit_only().await?;
        Ok(pending.effect(until).await.filter(|_| kills))
    }

    /// Makes it last; its entries are still to be waited for.
    pub async fn commit_only(self) -> Result<Pending> {
        self.transaction.commit().await?;
        Ok(self.pending)
    }
}

//! The right to answer from memory, as those share it who have a part in it: the tail, the keeper of the lease, and every answer.
//! What may be done when is decided in [`lease::Answering`].

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    clock::boottime,
    domain::lease::{self, Answering, Terms},
};

#[derive(Debug)]
pub(super) struct Right {
    answering: Mutex<Answering>,
    /// What came of it, in nanoseconds: answers wait for nobody.
    kept: AtomicU64,
}

impl Right {
    /// None yet: a lease gives it.
    pub(super) fn none() -> Self {
        Self {
            answering: Mutex::new(Answering::new(Terms::STANDARD, boottime())),
            kept: AtomicU64::new(lease::Right::NONE.nanos()),
        }
    }

    /// As it is now: it may be renewed, or end before its time.
    pub(super) fn now(&self) -> lease::Right {
        lease::Right::from_nanos(self.kept.load(Ordering::SeqCst))
    }

    /// Whether it is there at this moment.
    pub(super) fn is_there(&self) -> bool {
        self.now().allows(boottime())
    }

    /// Takes a step, and lets answers go by what has come of it.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut Answering) -> T) -> T {
        let answering = self.answering.lock();
        let mut answering = answering.unwrap_or_else(PoisonError::into_inner);
        let done = step(&mut answering);
        self.kept.store(answering.right().nanos(), Ordering::SeqCst);
        done
    }
}

//! Refusals: gathered in memory and written soon after, so that no refusal waits for the database, and what is told and how
//! fast does not show whether there was something to write.
//!
//! A flood is counted, not stored: of each caller's refusals the first few in a minute are written one by one, the others as
//! one event with their number. In reading order: `refusal` (one of them, and whose it is), `gathered` (how they are counted),
//! `sign_ins` (those of nobody who is known: sign-ins that were throttled), `writing`.

mod gathered;
mod refusal;
mod sign_ins;
mod writing;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::{
    gathered::ONE_BY_ONE,
    refusal::ACTION,
    writing::{write, write_all},
};
use self::{
    gathered::{Gathered, count_unwritten},
    refusal::Refusal,
    sign_ins::{SignIn, SignIns},
};
use crate::{
    authority::{Call, caller::Caller, sign_in::Purpose},
    clock::Timestamp,
    error::{Error, Reason},
};

/// Refusals that are not written yet.
#[derive(Debug)]
pub struct Refusals {
    callers: Mutex<Gathered>,
    sign_ins: SignIns,
    /// Held by who writes, so that whoever comes next finds everything written that was noted before.
    writing: tokio::sync::Mutex<()>,
}

impl Default for Refusals {
    fn default() -> Self {
        // An alert needs to see it before there is anything to count.
        count_unwritten(0);
        Self {
            callers: Mutex::default(),
            sign_ins: SignIns::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }
}

impl Refusals {
    /// The call of `method` was refused. What is not a refusal is not noted: a lack of permission is, and so is "not found" for
    /// what exists; whatever else fails is the caller's affair.
    pub fn note(&self, caller: &Caller, method: &str, error: &Error, now: Timestamp) {
        if let Some(refusal) = Refusal::of(caller, method, error, now) {
            locked(&self.callers).note(refusal);
        }
    }

    /// A sign-in under this name failed. It is noted where it was throttled, with the same work whether or not somebody bears
    /// the name.
    pub fn note_sign_in(
        &self,
        username: &str,
        purpose: Purpose<'_>,
        call: &Call,
        error: &Error,
        now: Timestamp,
    ) {
        if error.reason() == Reason::SignInThrottled {
            self.sign_ins
                .note(SignIn::new(username, purpose, call, now));
        }
    }

    /// What is to be written by now: one by one, and the sums of minutes that are over.
    fn take(&self, now: Timestamp, everything: bool) -> Vec<Refusal> {
        let mut due = locked(&self.callers).take(now, everything);
        due.extend(self.sign_ins.take(now, everything));
        due
    }

    /// What could not be written waits for the next time, as far as there is room.
    fn put_back(&self, refusals: Vec<Refusal>) {
        let mut callers = locked(&self.callers);
        for refusal in refusals {
            callers.wait(refusal);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

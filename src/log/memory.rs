//! What was applied, and how far: changed by the tail, read and waited for by everybody else.

use std::sync::{
    PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::Applied;
use crate::{clock::Timestamp, domain::revocation::Position};

/// How far the tail is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// The last place applied.
    pub position: Position,
    /// When the log was last read, and found to end there.
    pub read_time: Timestamp,
    /// The last read that was asked for and is done.
    pub(super) answered: u64,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    applied: RwLock<Applied>,
    /// The last place applied. Changes with it, and when the log was loaded anew.
    place: watch::Sender<Position>,
    /// Changes with every read.
    progress: watch::Sender<Progress>,
    /// Reads that somebody asked for; the tail says up to which it has answered.
    asked: AtomicU64,
}

impl Memory {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Applied> {
        self.applied.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Applied> {
        self.applied.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to there is applied: those who wait for it may go on.
    pub(super) fn moved_to(&self, place: Position) {
        self.place.send_replace(place);
    }

    /// The last place applied.
    pub(super) fn place(&self) -> Position {
        *self.place.borrow()
    }

    /// Tells whenever that changes.
    pub(super) fn places(&self) -> watch::Receiver<Position> {
        self.place.subscribe()
    }

    /// Asks for a read that begins after this, and says which [`Progress::answered`] tells of it.
    pub(super) fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// What a read that begins now will have answered.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// The log was read to its end in a read that began at `read_time`, when so much was asked.
    pub(super) fn was_read(&self, read_time: Timestamp, answered: u64) {
        self.progress.send_replace(Progress {
            position: self.place(),
            read_time,
            answered,
        });
    }

    /// Tells of every read.
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

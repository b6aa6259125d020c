//! How far behind the log the open streams are.
//!
//! Each stream notes its place in a number of its own, with nothing to wait for; whoever asks looks at all of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::domain::revocation::Position;

/// The streams that are open. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct OpenStreams(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    next: u64,
    open: HashMap<u64, Arc<AtomicU64>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct OpenStream {
    streams: OpenStreams,
    number: u64,
    place: Arc<AtomicU64>,
}

impl OpenStreams {
    /// One more, which goes on after `position`.
    pub fn open(&self, position: Position) -> OpenStream {
        let place = Arc::new(AtomicU64::new(position.0));
        let mut places = self.places();
        let number = places.next;
        places.next += 1;
        places.open.insert(number, Arc::clone(&place));
        drop(places);
        OpenStream {
            streams: self.clone(),
            number,
            place,
        }
    }

    /// How many entries up to `applied` the one that is farthest behind has still to send; 0 where none is open.
    pub fn lag(&self, applied: Position) -> u64 {
        let places = self.places();
        let sent = places.open.values().map(|place| place.load(Relaxed));
        let farthest = sent.min().unwrap_or(applied.0);
        applied.0.saturating_sub(farthest)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenStream {
    /// Everything up to here was sent.
    pub fn sent(&self, position: Position) {
        self.place.store(position.0, Relaxed);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.places().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_that_is_farthest_behind_counts_for_as_long_as_it_is_open() {
        let streams = OpenStreams::default();
        assert_eq!(streams.lag(Position(9)), 0);
        let slow = streams.open(Position(2));
        let quick = streams.open(Position(5));
        assert_eq!(streams.lag(Position(9)), 7);
        quick.sent(Position(9));
        slow.sent(Position(4));
        assert_eq!(streams.lag(Position(9)), 5);
        drop(slow);
        assert_eq!(streams.lag(Position(9)), 0);
        assert_eq!(streams.lag(Position(10)), 1);
        // It may have sent what was applied meanwhile.
        assert_eq!(streams.lag(Position(8)), 0);
    }
}

//! How many connections or streams there may be: in all, and of one client, so that none can shut out the others.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::Gauge;

/// Seats, counted by whose they are. Clones are the same.
#[derive(Debug, Clone)]
pub struct Seats<K: Eq + Hash>(Arc<Room<K>>);

#[derive(Debug)]
struct Room<K> {
    total_max: usize,
    one_max: usize,
    taken: Mutex<Taken<K>>,
    gauge: Gauge,
}

#[derive(Debug)]
struct Taken<K> {
    total: usize,
    by_one: HashMap<K, usize>,
}

/// A seat, free again on drop.
#[derive(Debug)]
pub struct Seat<K: Eq + Hash> {
    room: Arc<Room<K>>,
    whose: K,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// None is left.
    InAll,
    /// None is left for this one.
    ForOne,
}

impl<K: Eq + Hash + Clone> Seats<K> {
    /// So many in all, and for one. `gauge` shows how many are taken.
    pub fn new(total_max: usize, one_max: usize, gauge: Gauge) -> Self {
        let taken = Mutex::new(Taken {
            total: 0,
            by_one: HashMap::new(),
        });
        Self(Arc::new(Room {
            total_max,
            one_max,
            taken,
            gauge,
        }))
    }

    /// A seat for `whose`.
    pub fn take(&self, whose: K) -> Result<Seat<K>, Full> {
        let mut taken = self.0.taken();
        if taken.total >= self.0.total_max {
            return Err(Full::InAll);
        }
        let of_one = taken.by_one.entry(whose.clone()).or_insert(0);
        if *of_one >= self.0.one_max {
            return Err(Full::ForOne);
        }
        *of_one += 1;
        taken.total += 1;
        self.0.gauge.increment(1.0);
        Ok(Seat {
            room: Arc::clone(&self.0),
            whose,
        })
    }
}

impl<K> Room<K> {
    /// Counts stay right whoever panicked while holding them.
    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.total -= 1;
        if let Some(of_one) = taken.by_one.get_mut(&self.whose) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.by_one.remove(&self.whose);
            }
        }
        self.room.gauge.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cannot_take_every_seat_and_a_seat_is_free_again() {
        let seats = Seats::new(3, 2, Gauge::noop());
        let first = seats.take("here").unwrap();
        let _second = seats.take("here").unwrap();
        assert_eq!(seats.take("here").unwrap_err(), Full::ForOne);
        let _third = seats.take("there").unwrap();
        assert_eq!(seats.take("elsewhere").unwrap_err(), Full::InAll);
        drop(first);
        let _again = seats.take("here").unwrap();
        assert_eq!(seats.take("elsewhere").unwrap_err(), Full::InAll);
    }
}

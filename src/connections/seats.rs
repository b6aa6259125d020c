//! How many connections, streams or bytes there may be: in all, and of one client, so that none can shut out the others.

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

/// A seat or some, free again on drop.
#[derive(Debug)]
pub struct Seat<K: Eq + Hash> {
    room: Arc<Room<K>>,
    whose: K,
    count: usize,
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
        self.take_some(whose, 1)
    }

    /// So many seats for `whose`, at least one.
    pub fn take_some(&self, whose: K, count: usize) -> Result<Seat<K>, Full> {
        let mut taken = self.0.taken();
        if count > self.0.total_max - taken.total {
            return Err(Full::InAll);
        }
        let of_one = taken.by_one.get(&whose).copied().unwrap_or_default();
        if count > self.0.one_max - of_one {
            return Err(Full::ForOne);
        }
        taken.by_one.insert(whose.clone(), of_one + count);
        taken.total += count;
        self.0.gauge.increment(float(count));
        Ok(Seat {
            room: Arc::clone(&self.0),
            whose,
            count,
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
        taken.total -= self.count;
        if let Some(of_one) = taken.by_one.get_mut(&self.whose) {
            *of_one -= self.count;
            if *of_one == 0 {
                taken.by_one.remove(&self.whose);
            }
        }
        self.room.gauge.decrement(float(self.count));
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to look at")]
fn float(count: usize) -> f64 {
    count as f64
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

    #[test]
    fn who_needs_some_gets_all_of_them_or_none() {
        let seats = Seats::new(10, 6, Gauge::noop());
        let four = seats.take_some("here", 4).unwrap();
        assert_eq!(seats.take_some("here", 3).unwrap_err(), Full::ForOne);
        let _five = seats.take_some("there", 5).unwrap();
        assert_eq!(seats.take_some("elsewhere", 2).unwrap_err(), Full::InAll);
        drop(four);
        let _six = seats.take_some("elsewhere", 5).unwrap();
    }
}

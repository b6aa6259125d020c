//! How many connections there may be: in all, and of one address, so that one client cannot shut out the others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::Gauge;

use crate::telemetry::metrics as names;

/// The seats of a listener. Clones are the same.
#[derive(Debug, Clone)]
pub struct Seats(Arc<Room>);

#[derive(Debug)]
struct Room {
    total_max: usize,
    address_max: usize,
    taken: Mutex<Taken>,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's seat, free again on drop.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    address: IpAddr,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// None is left.
    InAll,
    /// None is left for the address.
    ForAddress,
}

impl Seats {
    /// So many in all, and for one address. `listener` names them in the metrics.
    pub fn new(listener: &'static str, total_max: usize, address_max: usize) -> Self {
        Self(Arc::new(Room {
            total_max,
            address_max,
            taken: Mutex::default(),
            gauge: metrics::gauge!(names::CONNECTIONS, "listener" => listener),
        }))
    }

    /// A seat for a connection from `address`.
    pub fn take(&self, address: IpAddr) -> Result<Seat, Full> {
        let address = network_of(address);
        let mut taken = self.0.taken();
        if taken.total >= self.0.total_max {
            return Err(Full::InAll);
        }
        let of_address = taken.by_address.entry(address).or_insert(0);
        if *of_address >= self.0.address_max {
            return Err(Full::ForAddress);
        }
        *of_address += 1;
        taken.total += 1;
        self.0.gauge.increment(1.0);
        Ok(Seat {
            room: Arc::clone(&self.0),
            address,
        })
    }
}

impl Room {
    /// Counts stay right whoever panicked while holding them.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.total -= 1;
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        self.room.gauge.decrement(1.0);
    }
}

/// Whoever has an IPv6 address has its whole /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_seat() {
        let seats = Seats::new("test", 3, 2);
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let first = seats.take(here).unwrap();
        let _second = seats.take(mapped).unwrap();
        assert_eq!(seats.take(here).unwrap_err(), Full::ForAddress);
        let _third = seats.take("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(seats.take("::1".parse().unwrap()).unwrap_err(), Full::InAll);
        drop(first);
        let _again = seats.take(here).unwrap();
    }
}

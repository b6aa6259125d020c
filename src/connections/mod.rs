//! TCP connections, for gRPC and HTTP alike: how many there may be, how long one may stay silent, and how all of them end.
//!
//! In reading order: [`accept`] (the loop), [`tls`] (handshakes), [`stream`] (what comes of one), [`seats`] (how many, streams too),
//! [`address`] (where from), [`ending`] (how they end).

pub mod accept;
pub mod address;
pub mod ending;
pub mod seats;
pub mod stream;
pub mod tls;

pub use self::{
    accept::Accepted, address::ClientAddress, ending::Ending, seats::Seats, stream::Stream,
};

//! TCP connections, for gRPC and HTTP alike: how many there may be, how long one may stay silent, and how all of them end.
//!
//! In reading order: [`accept`] (the loop), [`seats`] (how many), [`ending`] (how they end).

pub mod accept;
pub mod ending;
pub mod seats;

pub use self::{accept::Accepted, ending::Ending, seats::Seats};

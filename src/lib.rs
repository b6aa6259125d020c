//! One binary that issues, introspects, rotates and revokes tokens, and streams every revocation to subscribers.

#[cfg(feature = "server")]
pub mod authority;
pub mod clock;
pub mod domain;
pub mod error;
pub mod proto;
pub mod random;

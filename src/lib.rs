//! One binary that issues, introspects, rotates and revokes tokens, and streams every revocation to subscribers.

#[cfg(feature = "server")]
pub mod cli;
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
pub mod domain;
pub mod error;
#[cfg(feature = "server")]
pub mod grpc;
pub mod proto;
pub mod random;

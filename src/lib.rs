//! One binary that issues, introspects, rotates and revokes tokens, and streams every revocation to subscribers.
//!
//! # What lives where
//!
//! Imports point down this list; a test holds that. Each folder's cover page says what is in it, in reading order.
//!
//! - `cli`: the command line, one file a noun; most verbs are one call to a running server.
//! - `server`: the composition root. Everything is made there once, and ends there in good order.
//! - `grpc`: one file a service, the layers around every call, conversions, failures as clients see them. `http`: the key set
//!   and the probes. Both stand on `connections`: how many, how long silent, TLS.
//! - `authority`: what it does, whoever asks. Tokens and API keys are judged there, out of memory; changes are made there, each
//!   one transaction with its log entry and its audit event.
//! - `log`: the revocation log at work: a place for each entry, applied in order, told to whoever waits or watches.
//! - `storage`: where it is remembered; the only folder that names SQL.
//! - [`domain`]: what a token authority is. Pure and synchronous: time and randomness are arguments.
//! - leaves that all may use: [`proto`] (generated from the contract), [`error`], [`clock`], [`random`], `config`, `telemetry`,
//!   `shutdown`, `background`.
//!
//! # What always holds
//!
//! - A revocation is committed, then applied, then answered; never in another order.
//! - A reply that says `effective` comes when no answer out of memory can still say "active".
//! - What cannot be known is UNAVAILABLE: neither "active" nor "inactive" is ever guessed.
//! - A change, its log entry and its audit event are in the database together, or none of them is.
//! - A call that has begun is finished, whether or not its client still waits.
//! - No secret is in a log, an error, a metric, an argument or a `Debug`.

#[cfg(feature = "server")]
pub mod authority;
#[cfg(feature = "server")]
pub mod background;
#[cfg(feature = "server")]
pub mod cli;
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod connections;
pub mod domain;
pub mod error;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod log;
pub mod proto;
pub mod random;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(feature = "server")]
pub mod storage;
#[cfg(feature = "server")]
pub mod telemetry;

//! What a token authority is: pure and synchronous, without I/O. Time and randomness are arguments.
//!
//! In reading order: [`ids`] (what things are called), [`permission`] (what tokens allow), [`jwt`] and [`api_key`] (the two
//! kinds of token), [`signing_key`] (the life of what signs), [`password`] (which ones are taken), `throttle` (how guessing is
//! slowed down), [`revocation`] (what ends a token), `lease` (until when a replica may answer from memory), [`standing`] and
//! [`directory`] (who somebody is), `audit` (what was done, in a chain).

pub mod api_key;
#[cfg(feature = "server")]
pub mod audit;
pub mod directory;
pub mod ids;
pub mod jwt;
#[cfg(feature = "server")]
pub mod lease;
#[cfg(feature = "server")]
pub mod password;
pub mod permission;
pub mod revocation;
pub mod signing_key;
pub mod standing;
#[cfg(feature = "server")]
pub mod throttle;

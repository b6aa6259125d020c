//! The audit log as a chain: each event carries a digest over itself and all before it, and the last one is sealed under a key
//! that is not in the database. What was changed, taken out or made anew is found by going along the chain.
//!
//! In reading order: [`event`] (what is written down, and its one spelling as bytes), [`chain`] (digests and the sealed head),
//! [`verify`] (going along it). What nobody can see here: an older database that was put back whole, its head included.
//! Whoever keeps the last digest elsewhere can.

pub mod chain;
pub mod event;
pub mod verify;

pub use chain::{Digest, Head, HeadKey, SealedHead};
pub use event::{Event, Outcome};
pub use verify::{Fault, Link, Verification};

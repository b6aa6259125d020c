//! The keys that sign, as they are managed: [`list`], [`prepare`], [`activate`], [`revoke`], and [`rotation`], which does by itself
//! what is due.
//!
//! Every change is a `ceremony`: one at a time, whichever server it is of, with an entry in the log for each key that it
//! touches, from which every server learns of it. What a key may become is in [`crate::domain::signing_key`].

pub mod activate;
mod ceremony;
pub mod list;
pub mod prepare;
pub mod revoke;
pub mod rotation;

use std::time::Duration;

use crate::domain::jwt::Algorithm;

/// How keys are made and how long they sign.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How a new key signs where nothing is said.
    pub algorithm: Algorithm,
    /// For how long a key signs before the next one takes over; none: until somebody says so.
    pub rotation_period: Option<Duration>,
}

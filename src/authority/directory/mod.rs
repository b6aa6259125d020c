//! Spaces, users and roles, and what a change of them means for tokens.
//!
//! Whether the caller may is asked one floor up; here it is done, with its entry in the log and its audit row in one
//! transaction.

pub mod roles;
pub mod spaces;
pub mod users;

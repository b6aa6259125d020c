//! Signing in with a password.

pub mod hashing;

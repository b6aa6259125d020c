//! What the authority does.

pub mod keyring;

//! What the authority does.

pub mod keyring;
pub mod sign_in;

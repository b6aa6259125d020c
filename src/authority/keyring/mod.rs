//! The keys of the authority: the master key, and what is sealed under it.

pub mod master_key;

//! The contract over gRPC: how calls come in, what stands around every one of them, and how failures are told.
//!
//! [`status`] is how failures are told.

pub mod status;

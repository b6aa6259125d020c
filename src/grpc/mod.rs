//! The contract over gRPC: how calls come in, what stands around every one of them, and how failures are told.
//!
//! In reading order: [`transport`] (connections), [`methods`] (what can be called), [`layers`] (what every call passes
//! through), [`status`] (failures), [`health`] and [`reflection`].

pub mod health;
pub mod layers;
pub mod methods;
pub mod reflection;
pub mod status;
pub mod transport;

//! What is served over HTTP/1.1, beside gRPC.
//!
//! In reading order: [`serve`] (connections), [`jwks`] (the public listener's key set), [`ops`] (the operators' listener).

pub mod jwks;
pub mod ops;
pub mod serve;

//! The contract over gRPC: how calls come in, what stands around every one of them, and how failures are told.
//!
//! In reading order: [`transport`] (connections), [`methods`] (what can be called), [`layers`] (what every call passes
//! through), [`authentication`] (who calls), [`direct`] (past the router), [`status`] (failures), [`health`] and [`reflection`];
//! then one file a service, and `convert` for what they share.

pub mod api_key_service;
pub mod audit_service;
pub mod authentication;
mod convert;
pub mod direct;
pub mod health;
pub mod layers;
pub mod methods;
pub mod reflection;
pub mod revocation_service;
pub mod role_service;
pub mod signing_key_service;
pub mod space_service;
pub mod status;
pub mod system_service;
pub mod token_service;
pub mod transport;
pub mod user_service;

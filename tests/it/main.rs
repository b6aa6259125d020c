//! The authority as its users meet it: a real server, a real database for each test, real gRPC.
//!
//! Every test runs on SQLite, and on PostgreSQL too where `TOKEN_AUTHORITY_TEST_POSTGRES` names a server on which databases
//! may be created.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on has failed"
)]

mod support;

mod discovery;
mod draining;
mod floods;
mod layering;
mod methods;
mod patience;
mod sign_in;
mod transport;

//! The authority as its users meet it: a real server, a real database for each test, real gRPC.
//!
//! Every test runs on SQLite, and on PostgreSQL too where `TOKEN_AUTHORITY_TEST_POSTGRES` names a server on which databases
//! may be created.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

mod api_keys;
mod authorization;
mod cancelled_calls;
mod crashes;
mod cutoffs;
mod discovery;
mod draining;
mod floods;
mod forgery;
mod immediate;
mod introspect;
mod issue;
mod late_commits;
mod layering;
mod listing;
mod methods;
mod one_server;
mod passwords;
mod patience;
mod resumption;
mod revoke;
mod revoking;
mod rotate;
mod secrets;
mod sign_in;
mod transport;
mod watch_closing;
mod watch_cursors;
mod watch_promises;

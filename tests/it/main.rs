//! The authority as its users meet it: a real server, a real database for each test, real gRPC.
//!
//! Every test runs on SQLite, and on PostgreSQL too where `TOKEN_AUTHORITY_TEST_POSTGRES` names a server on which databases
//! may be created.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod cancelled_calls;
mod crashes;
mod cutoffs;
mod immediate;
mod late_commits;
mod listing;
mod one_server;
mod resumption;
mod revoking;
mod sign_in;
mod watch_closing;
mod watch_cursors;
mod watch_promises;

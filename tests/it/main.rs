//! The authority as its users meet it: a real server, a real database for each test, real gRPC.
//!
//! Every test runs on SQLite, and on PostgreSQL too where `TOKEN_AUTHORITY_TEST_POSTGRES` names a server on which databases
//! may be created.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]
#![expect(
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    clippy::assigning_clones,
    clippy::type_complexity,
    clippy::large_stack_arrays,
    clippy::trivially_copy_pass_by_ref,
    reason = "a test reads as a story and a table as a table"
)]

mod support;

mod aging;
mod ahead;
mod api_keys;
mod audit;
mod authorization;
mod busy_callers;
mod canary;
mod cancelled_calls;
mod configuration;
mod crashes;
mod cutoffs;
mod database_file;
mod database_trouble;
mod deleted_user;
mod directory;
mod discovery;
mod draining;
mod escalation;
mod failover;
mod floods;
mod following;
mod forgery;
mod garbled_places;
mod history;
mod hostile_text;
mod immediate;
mod introspect;
mod introspection_cost;
mod issue;
mod late_commits;
mod layering;
mod listing;
mod lost_tasks;
mod many_at_once;
mod methods;
mod metrics;
mod min_cursor;
mod model;
mod names;
mod one_role;

mod operators_line;
mod passwords;
mod patience;
mod public_keys;
mod replicas;
mod restored;
mod resumption;
mod revoke;
mod revoking;
mod role_names;
mod rolling;
mod rotate;
mod secrets;
mod server_info;
mod shared_commits;
mod sign_in;
mod signing_keys;
mod slow_subscribers;
mod tenants;
mod throttle;
mod tls;
mod transport;
mod unread;
mod walk;
mod watch_closing;
mod watch_cursors;
mod watch_limits;
mod watch_promises;
mod wrong_clocks;

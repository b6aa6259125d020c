//! The database schema, one file a step, for SQLite and PostgreSQL alike.
//!
//! A step expands: it adds what the new release needs and leaves alone what the release before it uses. What is no longer
//! used goes in a later release. A step that has been released is never changed.
//!
//! Conventions, which the code above the schema relies on:
//! - a moment is a `bigint` of microseconds since 1970 in UTC, named `…_time`; a span is a `bigint` of microseconds;
//! - an id is a `text`; a list or a map is JSON; what was deleted keeps its row as a tombstone, so that names stay unique;
//! - every constraint and index has a name: `<table>_pkey`, `<table>_<columns>_key` for what is unique, `…_fkey`, `…_check`,
//!   `…_idx`. SQLite reports the columns of a violated constraint only, from which the name follows.

#![expect(
    elided_lifetimes_in_paths,
    reason = "async_trait wants `up` in the form in which the trait declares it"
)]

pub use sea_orm_migration::{MigrationTrait, MigratorTrait, migrator::MigrationStatus};

mod m0001_directory;
mod m0002_api_keys;
mod m0003_signing_keys;
mod m0004_revocation_log;
mod m0005_audit_events;
mod m0006_idempotency_keys;
mod m0007_audit_listing;
mod m0008_sign_in_failures;
mod m0009_replica_leases;

/// All steps, in the order in which they are applied.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_directory::Migration),
            Box::new(m0002_api_keys::Migration),
            Box::new(m0003_signing_keys::Migration),
            Box::new(m0004_revocation_log::Migration),
            Box::new(m0005_audit_events::Migration),
            Box::new(m0006_idempotency_keys::Migration),
            Box::new(m0007_audit_listing::Migration),
            Box::new(m0008_sign_in_failures::Migration),
            Box::new(m0009_replica_leases::Migration),
        ]
    }
}

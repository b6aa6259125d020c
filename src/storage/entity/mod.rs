//! One file a table, named after it: the rows as the database has them. Moments are microseconds since 1970 (see
//! [`crate::clock::Timestamp`]); what the texts mean is known one floor up.

use std::{collections::BTreeMap, fmt};

use sea_orm::{DeriveValueType, FromJsonQueryResult};
use serde::{Deserialize, Serialize};

pub mod api_key_secrets;
pub mod api_keys;
pub mod audit_events;
pub mod authority;
pub mod idempotency_keys;
pub mod role_assignments;
pub mod roles;
pub mod rotated_tokens;
pub mod sign_in_failures;
pub mod signing_keys;
pub mod spaces;
pub mod users;

/// A column that holds a list of texts, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StringList(pub Vec<String>);

/// A column that holds texts by name, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StringMap(pub BTreeMap<String, String>);

/// A text that is shown to nobody: a password's hash.
#[derive(Clone, PartialEq, Eq, DeriveValueType)]
pub struct HiddenText(pub String);

/// Bytes that are shown to nobody: digests of secrets, sealed keys, and what secrets are made of.
#[derive(Clone, PartialEq, Eq, DeriveValueType)]
pub struct HiddenBytes(pub Vec<u8>);

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HiddenText")
    }
}

impl fmt::Debug for HiddenBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HiddenBytes")
    }
}

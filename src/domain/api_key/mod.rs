//! API keys: the token as it is presented (`token`), the key as it is described (`description`), and what a presented one
//! is judged by (`record`).

#[cfg(feature = "server")]
mod description;
#[cfg(feature = "server")]
mod record;
mod token;

#[cfg(feature = "server")]
pub use description::{ApiKey, Bounds, State};
#[cfg(feature = "server")]
pub use record::{Inactive, KeyRecord, Secret, StoredKey};
pub use token::{ApiKeyToken, KeyPrefix, SecretDigest, has_form, hint};

//! The JWT access token (RFC 9068): what it says, the keys that sign it, and the one strict function that accepts it.
//!
//! Deliberately not here: whether an accepted token has been revoked, and for whom it is meant. Both are the caller's to ask.
//!
//! In reading order: `claims` (what a token says), `keys` (what signs and what verifies), [`verify`] (what is accepted).

mod claims;
mod keys;
mod verify;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wycheproof;

use std::{fmt, time::Duration};

pub use self::{
    claims::AccessToken,
    keys::{KeySet, SigningKey, VerifyingKey},
    verify::{claimed, verify},
};
use crate::domain::ids::SigningKeyId;

/// The longest life of a token, whatever a space allows.
pub const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// The longest token that is made, in bytes.
pub const MAX_MADE_BYTES: usize = 4 * 1024;

/// The longest token that is looked at, in bytes.
pub const MAX_PRESENTED_BYTES: usize = 8 * 1024;

/// The header's `typ` (RFC 9068 section 2.1). The longer spelling `application/at+jwt` is not accepted.
const TYPE: &str = "at+jwt";

/// How a token is signed (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl Algorithm {
    /// As `alg` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }

    /// The algorithm of exactly this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::EdDsa, Self::Es256]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a token is not accepted. For logs and metrics: whoever presented it is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is not a token of this service's form.
    #[error("the token is malformed")]
    Malformed,
    /// It names a key that the set does not hold.
    #[error("the token names the unknown key {0}")]
    UnknownKey(SigningKeyId),
    /// The named key did not sign it, or not by its algorithm.
    #[error("the signature is not the named key's")]
    BadSignature,
    /// Somebody else issued it.
    #[error("the token is another issuer's")]
    WrongIssuer,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
}

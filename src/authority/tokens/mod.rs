//! Tokens from their beginning to their end: [`issue`], [`introspect`] (counted by [`verdicts`]), [`rotate`], [`revoke`].

pub mod introspect;
pub mod issue;
pub mod revoke;
pub mod rotate;
pub mod verdicts;

use crate::domain::jwt::AccessToken;

/// A JWT and what it says. The token itself is not shown by Debug.
#[derive(Clone)]
pub struct IssuedToken {
    /// The compact JWS.
    pub access_token: String,
    /// What it says.
    pub claims: AccessToken,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

//! The one strict function that accepts tokens, for server and verifiers alike. Nowhere else is jsonwebtoken asked to.
//!
//! It works in two layers. The lower one is JWS (RFC 7515): cut, read the header, check the signature by the key's own
//! algorithm. The upper one is our profile: `typ`, the form of `kid`, the claims. Both must hold.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{AccessToken, Algorithm, KeySet, MAX_PRESENTED_BYTES, Rejection, TYPE, VerifyingKey};
use crate::{clock::Timestamp, domain::ids::SigningKeyId};

/// The length of a SHA-256 thumbprint in base64url.
const KID_LENGTH: usize = 43;

/// Accepts a token that one of `keys` signed for `issuer` and whose time is `now`.
///
/// Whether it has been revoked, and for which audience it is, is left to the caller.
pub fn verify(
    token: &str,
    keys: &KeySet,
    issuer: &str,
    now: Timestamp,
) -> Result<AccessToken, Rejection> {
    let compact = Compact::cut(token)?;
    let header_json = decode(compact.header)?;
    let header = Header::read(&header_json)?;
    header.check_profile()?;
    let key = keys
        .get(header.kid)
        .ok_or_else(|| Rejection::UnknownKey(SigningKeyId::known(header.kid)))?;
    compact.check_signature(&header, key)?;
    let token = AccessToken::from_claims_json(&decode(compact.claims)?, key.id())?;
    if *token.issuer != *issuer {
        return Err(Rejection::WrongIssuer);
    }
    token.check_times(now)?;
    Ok(token)
}

/// What a token says, whoever signed it: for one of which [`verify`] found nothing wrong but its time.
pub fn claimed(token: &str) -> Option<AccessToken> {
    let claims = decode(Compact::cut(token).ok()?.claims).ok()?;
    AccessToken::from_claims_json(&claims, &SigningKeyId::known("")).ok()
}

/// A token in JWS compact serialization (RFC 7515 section 7.1), cut at its dots.
pub(super) struct Compact<'t> {
    pub(super) header: &'t str,
    pub(super) claims: &'t str,
    signed: &'t str,
    signature: &'t str,
}

impl<'t> Compact<'t> {
    pub(super) fn cut(token: &'t str) -> Result<Self, Rejection> {
        if token.len() > MAX_PRESENTED_BYTES {
            return Err(Rejection::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Rejection::Malformed)?;
        let empty = header.is_empty() || claims.is_empty() || signature.is_empty();
        if empty || claims.contains('.') {
            return Err(Rejection::Malformed);
        }
        Ok(Self {
            header,
            claims,
            signed,
            signature,
        })
    }

    /// The algorithm is the key's; a header that says another is refused, not followed.
    pub(super) fn check_signature(
        &self,
        header: &Header<'_>,
        key: &VerifyingKey,
    ) -> Result<(), Rejection> {
        let algorithm = match key.algorithm() {
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        };
        if header.alg != key.algorithm().as_str() {
            return Err(Rejection::BadSignature);
        }
        let message = self.signed.as_bytes();
        match jsonwebtoken::crypto::verify(self.signature, message, key.prepared(), algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Rejection::BadSignature),
        }
    }
}

/// The header. Any other member is refused, `crit`, `jwk`, `jku`, `x5u`, `x5c`, `zip`, `enc`, `cty` and `b64` with them; so
/// is a member that comes twice, and one written with escapes, which an honest signer has no need of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header<'t> {
    alg: &'t str,
    typ: Option<&'t str>,
    pub(super) kid: &'t str,
}

impl<'t> Header<'t> {
    pub(super) fn read(json: &'t [u8]) -> Result<Self, Rejection> {
        // serde would also take the members' values as an array.
        if json.first() != Some(&b'{') {
            return Err(Rejection::Malformed);
        }
        serde_json::from_slice(json).map_err(|_| Rejection::Malformed)
    }

    fn check_profile(&self) -> Result<(), Rejection> {
        let known_algorithm = Algorithm::parse(self.alg).is_some();
        let well_formed = self.kid.len() == KID_LENGTH
            && self
                .kid
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if known_algorithm && well_formed && self.typ == Some(TYPE) {
            Ok(())
        } else {
            Err(Rejection::Malformed)
        }
    }
}

/// Canonical base64url alone (RFC 7515 section 2): no padding, no white space, no bits left over at the end.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Rejection::Malformed)
}

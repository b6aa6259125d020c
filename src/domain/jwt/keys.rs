//! What signs tokens and what verifies them. A key knows its algorithm: a token's header has no say in it.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, ParsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{AccessToken, Algorithm, MAX_MADE_BYTES, TYPE};
use crate::{
    domain::ids::SigningKeyId,
    error::{Error, Reason, Result},
};

/// The public half of a signing key.
#[derive(Clone)]
pub struct VerifyingKey {
    id: SigningKeyId,
    algorithm: Algorithm,
    public_bytes: Box<[u8]>,
    prepared: DecodingKey,
}

impl VerifyingKey {
    /// Takes an Ed25519 key as its 32 bytes (RFC 8032), a P-256 key as its 65 bytes (uncompressed point of SEC 1). `INTERNAL`
    /// where it is none, since only our own database and published sets are read so.
    pub fn new(algorithm: Algorithm, public_bytes: &[u8]) -> Result<Self> {
        let length = match algorithm {
            Algorithm::EdDsa => 32,
            Algorithm::Es256 => 65,
        };
        let parsed = match algorithm {
            Algorithm::EdDsa => ParsedPublicKey::new(&ED25519, public_bytes),
            Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_bytes),
        };
        if public_bytes.len() != length || parsed.is_err() {
            return Err(Error::internal(format!(
                "these bytes are no public key for {algorithm}"
            )));
        }
        let prepared = match algorithm {
            Algorithm::EdDsa => DecodingKey::from_ed_der(public_bytes),
            Algorithm::Es256 => DecodingKey::from_ec_der(public_bytes),
        };
        Ok(Self {
            id: thumbprint(algorithm, public_bytes),
            algorithm,
            public_bytes: public_bytes.into(),
            prepared,
        })
    }

    /// `kid`: the thumbprint of RFC 7638.
    pub fn id(&self) -> &SigningKeyId {
        &self.id
    }

    /// The only algorithm that this key verifies by.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as [`VerifyingKey::new`] takes it.
    pub fn public_bytes(&self) -> &[u8] {
        &self.public_bytes
    }

    /// As a JWK (RFC 7517, RFC 8037): public members only.
    pub fn to_jwk(&self) -> Value {
        let mut jwk = json!({
            "use": "sig",
            "alg": self.algorithm.as_str(),
            "kid": self.id.as_str(),
        });
        for (name, value) in members(self.algorithm, &self.public_bytes) {
            jwk[name] = value.into();
        }
        jwk
    }

    /// For the one function that accepts tokens.
    pub(super) fn prepared(&self) -> &DecodingKey {
        &self.prepared
    }

    /// The same key under a name that is not its thumbprint, as vectors published elsewhere have them.
    #[cfg(test)]
    pub(super) fn renamed(mut self, id: SigningKeyId) -> Self {
        self.id = id;
        self
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({} {})", self.algorithm, self.id)
    }
}

/// The members of a JWK that make up its thumbprint, in the order of RFC 7638 section 3.3.
fn members(algorithm: Algorithm, public_bytes: &[u8]) -> Vec<(&'static str, String)> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match algorithm {
        Algorithm::EdDsa => vec![
            ("crv", "Ed25519".into()),
            ("kty", "OKP".into()),
            ("x", encode(public_bytes)),
        ],
        Algorithm::Es256 => {
            // The first byte says that the point is not compressed.
            let (x, y) = public_bytes[1..].split_at(32);
            vec![
                ("crv", "P-256".into()),
                ("kty", "EC".into()),
                ("x", encode(x)),
                ("y", encode(y)),
            ]
        }
    }
}

fn thumbprint(algorithm: Algorithm, public_bytes: &[u8]) -> SigningKeyId {
    let members: Vec<String> = members(algorithm, public_bytes)
        .into_iter()
        .map(|(name, value)| format!("\"{name}\":\"{value}\""))
        .collect();
    let json = format!("{{{}}}", members.join(","));
    let hash = digest::digest(&digest::SHA256, json.as_bytes());
    SigningKeyId::known(URL_SAFE_NO_PAD.encode(hash))
}

/// The keys whose tokens are accepted, by `kid`.
#[derive(Debug, Clone, Default)]
pub struct KeySet(BTreeMap<SigningKeyId, VerifyingKey>);

impl KeySet {
    /// The key of this `kid`.
    pub fn get(&self, kid: &str) -> Option<&VerifyingKey> {
        self.0.get(kid)
    }

    /// One after the other, sorted by `kid`.
    pub fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.0.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a JWK set (RFC 7517 section 5); the same keys give the same bytes.
    pub fn to_jwks_json(&self) -> String {
        let keys: Vec<Value> = self.iter().map(VerifyingKey::to_jwk).collect();
        json!({ "keys": keys }).to_string()
    }
}

impl FromIterator<VerifyingKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = VerifyingKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.id.clone(), key)).collect())
    }
}

/// A key that signs tokens, ready for use: reading one costs as much as signing.
pub struct SigningKey {
    pair: Pair,
    verifying_key: VerifyingKey,
    encoded_header: String,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// A new key. `INTERNAL` where the machine gives no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self> {
        let pair = match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::generate().map(Pair::Ed25519),
            Algorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::P256)
            }
        };
        let pair = pair.map_err(|error| {
            Error::internal("a signing key could not be generated").because(error)
        })?;
        Self::prepare(pair)
    }

    /// Takes a private key as PKCS#8 (RFC 5958). `INTERNAL` where it is none for `algorithm`.
    pub fn from_private(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self> {
        let pair = match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(Pair::Ed25519),
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Pair::P256)
            }
        };
        let pair = pair.map_err(|error| {
            Error::internal(format!("these bytes are no private key for {algorithm}"))
                .because(error)
        })?;
        Self::prepare(pair)
    }

    fn prepare(pair: Pair) -> Result<Self> {
        let verifying_key = match &pair {
            Pair::Ed25519(pair) => VerifyingKey::new(Algorithm::EdDsa, pair.public_key().as_ref())?,
            Pair::P256(pair) => VerifyingKey::new(Algorithm::Es256, pair.public_key().as_ref())?,
        };
        let header = json!({
            "alg": verifying_key.algorithm.as_str(),
            "typ": TYPE,
            "kid": verifying_key.id.as_str(),
        });
        Ok(Self {
            pair,
            encoded_header: URL_SAFE_NO_PAD.encode(header.to_string()),
            verifying_key,
        })
    }

    /// `kid`: the thumbprint of RFC 7638.
    pub fn id(&self) -> &SigningKeyId {
        &self.verifying_key.id
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        self.verifying_key.algorithm
    }

    /// What verifies its tokens.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying_key
    }

    /// The public half, as [`VerifyingKey::new`] takes it.
    pub fn public_bytes(&self) -> &[u8] {
        &self.verifying_key.public_bytes
    }

    /// The private key, as [`SigningKey::from_private`] takes it: PKCS#8 version 1, which every library reads.
    pub fn private_bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        let document = match &self.pair {
            Pair::Ed25519(pair) => pair.to_pkcs8v1(),
            Pair::P256(pair) => pair.to_pkcs8v1(),
        };
        document
            .map(|document| Zeroizing::new(document.as_ref().to_vec()))
            .map_err(|error| Error::internal("a signing key cannot be written").because(error))
    }

    /// Makes a token of `claims`. `FAILED_PRECONDITION`/`TOKEN_TOO_LARGE` over 4 KiB.
    pub fn sign(&self, claims: &AccessToken) -> Result<String> {
        let mut token = String::with_capacity(1024);
        token.push_str(&self.encoded_header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_claims_json()?, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        if token.len() > MAX_MADE_BYTES {
            return Err(Error::new(
                Reason::TokenTooLarge,
                format!("the token would have over {MAX_MADE_BYTES} bytes; ask for fewer scopes"),
            ));
        }
        Ok(token)
    }

    /// Signs what stands before a token's second dot; for ES256 both numbers at their full length (RFC 7518 section 3.4).
    pub(super) fn signature(&self, message: &[u8]) -> Result<impl AsRef<[u8]> + use<>> {
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.try_sign(message),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message),
        };
        signature.map_err(|error| Error::internal("signing failed").because(error))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

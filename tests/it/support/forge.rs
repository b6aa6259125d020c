//! Makes tokens that no honest signer would, with the server's own keys where a thief would have them.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use token_authority::{
    domain::{
        jwt::{Algorithm, SigningKey},
        signing_key::State,
    },
    storage::signing_keys,
};

use super::Server;

/// Holds one signing key and a good token's claims.
pub(crate) struct Forger {
    pair: Ed25519KeyPair,
    pub(crate) kid: String,
    pub(crate) public: Vec<u8>,
    /// What a good token says.
    pub(crate) claims: Value,
}

impl Forger {
    /// Has stolen the server's key of this state, and holds a good token.
    pub(crate) async fn with_stolen(server: &Server, state: State, token: &str) -> Self {
        let stored = signing_keys::published(server.authority.db.reader())
            .await
            .unwrap();
        let mut stored = stored.into_iter();
        let stored = stored
            .find(|key| key.described.life.state == state)
            .unwrap();
        let (id, algorithm) = (&stored.described.id, stored.described.algorithm);
        let bound = format!("signing key {} {id}", algorithm.as_str());
        let private = server
            .authority
            .master_keys
            .open(&stored.sealed_private_key, bound.as_bytes())
            .unwrap();
        Self::new(&private, token)
    }

    /// Has a key of its own making, and holds a good token.
    pub(crate) fn with_own_key(token: &str) -> Self {
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
        Self::new(&key.private_bytes().unwrap(), token)
    }

    fn new(private: &[u8], token: &str) -> Self {
        let key = SigningKey::from_private(Algorithm::EdDsa, private).unwrap();
        Self {
            pair: Ed25519KeyPair::from_pkcs8(private).unwrap(),
            kid: key.id().to_string(),
            public: key.public_bytes().to_vec(),
            claims: claims_of(token),
        }
    }

    /// The header of a good token.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid})
    }

    /// A token of any header and claims, signed.
    pub(crate) fn sign(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = unsigned(header, claims);
        self.sign_text(&signed)
    }

    /// A signature behind any text.
    pub(crate) fn sign_text(&self, signed: &str) -> String {
        let signature = self.pair.try_sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token whose header has another member.
    pub(crate) fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header();
        header[name] = value;
        self.sign(header.to_string(), self.claims.to_string())
    }

    /// A token one of whose claims is another; none takes it away.
    pub(crate) fn with_claim(&self, name: &str, value: Option<Value>) -> String {
        let mut claims = self.claims.clone();
        match value {
            Some(value) => claims[name] = value,
            None => drop(claims.as_object_mut().unwrap().remove(name)),
        }
        self.with_claims(claims.to_string())
    }

    /// A token of any claims.
    pub(crate) fn with_claims(&self, claims: impl AsRef<[u8]>) -> String {
        self.sign(self.header().to_string(), claims)
    }
}

/// What is signed of a token.
pub(crate) fn unsigned(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let (header, claims) = (
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims),
    );
    format!("{header}.{claims}")
}

/// What a token says.
pub(crate) fn claims_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

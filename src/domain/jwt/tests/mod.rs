//! What the strict function accepts, and every forgery that it does not.

mod claims;
mod form;
mod header;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::{
    clock::Timestamp,
    domain::{
        ids::{ApiKeyId, RoleName, SessionId, SpaceId, SpaceSlug, TokenId, UserId, Username},
        permission::PermissionSet,
    },
    error::Reason,
};

const ISSUER: &str = "https://authority.example";
const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW)
}

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::EdDsa).unwrap()
}

fn set(keys: &[&SigningKey]) -> KeySet {
    keys.iter().map(|key| key.verifying_key().clone()).collect()
}

fn sample(key: &SigningKey) -> AccessToken {
    AccessToken {
        issuer: ISSUER.into(),
        subject: UserId::known("usr_01k00000000000000000000000"),
        audiences: vec!["https://orders.example".into(), ISSUER.into()],
        expire_time: now() + Duration::from_hours(24),
        issue_time: now(),
        not_before: now(),
        token_id: TokenId::known("AAAAAAAAAAAAAAAAAAAAAA"),
        client_id: "password".into(),
        scopes: PermissionSet::from_claim("authority.self orders.read"),
        space_id: SpaceId::known("spc_01k00000000000000000000000"),
        space_slug: SpaceSlug::known("system"),
        username: Username::known("alice"),
        email: Some("\"alice\"@example.org".into()),
        roles: vec![RoleName::known("admin")],
        api_key_id: Some(ApiKeyId::known("XkQBXKr652MV1VF9")),
        narrowed: true,
        session_id: SessionId::known("BBBBBBBBBBBBBBBBBBBBBB"),
        auth_time: now(),
        rev: (1 << 53) - 1,
        signing_key_id: key.id().clone(),
    }
}

fn header_of(key: &SigningKey) -> Value {
    json!({"alg": key.algorithm().as_str(), "typ": "at+jwt", "kid": key.id().as_str()})
}

fn claims_of(key: &SigningKey) -> Value {
    serde_json::from_slice(&sample(key).to_claims_json().unwrap()).unwrap()
}

/// A token of any header and claims, validly signed.
fn forge(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>, key: &SigningKey) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    sign_text(&signed, key)
}

fn sign_text(signed: &str, key: &SigningKey) -> String {
    let signature = key.signature(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The verdict on a token whose header is as a text has it.
fn with_header(key: &SigningKey, header: &str) -> Result<AccessToken, Rejection> {
    let token = forge(header, claims_of(key).to_string(), key);
    verify(&token, &set(&[key]), ISSUER, now())
}

/// The verdict on a token whose claims are as a text has them.
fn with_claims(key: &SigningKey, claims: impl AsRef<[u8]>) -> Result<AccessToken, Rejection> {
    let token = forge(header_of(key).to_string(), claims, key);
    verify(&token, &set(&[key]), ISSUER, now())
}

/// The verdict on a token one of whose claims is another; none takes it away.
fn with_claim(
    key: &SigningKey,
    name: &str,
    value: Option<Value>,
) -> Result<AccessToken, Rejection> {
    let mut claims = claims_of(key);
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    with_claims(key, claims.to_string())
}

#[test]
fn what_was_signed_is_read_back() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let key = SigningKey::generate(algorithm).unwrap();
        let token = key.sign(&sample(&key)).unwrap();
        assert_eq!(
            verify(&token, &set(&[&key]), ISSUER, now()),
            Ok(sample(&key))
        );
        let bare = AccessToken {
            email: None,
            api_key_id: None,
            roles: vec![],
            scopes: PermissionSet::default(),
            narrowed: false,
            ..sample(&key)
        };
        let token = key.sign(&bare).unwrap();
        assert_eq!(verify(&token, &set(&[&key]), ISSUER, now()), Ok(bare));
    }
}

#[test]
fn ed25519_signs_the_same_claims_alike() {
    let key = key();
    let token = key.sign(&sample(&key)).unwrap();
    let private = key.private_bytes().unwrap();
    let again = SigningKey::from_private(Algorithm::EdDsa, &private).unwrap();
    assert_eq!(again.sign(&sample(&key)).unwrap(), token);
    assert!(SigningKey::from_private(Algorithm::Es256, &private).is_err());
    assert_eq!(private[4], 0, "version 1 of PKCS#8 says 0");
}

#[test]
fn a_token_over_4_kib_is_not_made() {
    let key = key();
    let big = AccessToken {
        audiences: vec!["a".repeat(MAX_MADE_BYTES)],
        ..sample(&key)
    };
    assert_eq!(key.sign(&big).unwrap_err().reason(), Reason::TokenTooLarge);
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    // RFC 8037 appendix A.3, and the P-256 key of RFC 7515 appendix A.3.
    let ed = URL_SAFE_NO_PAD
        .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
        .unwrap();
    let ed = VerifyingKey::new(Algorithm::EdDsa, &ed).unwrap();
    assert_eq!(
        ed.id().as_str(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    let mut p256 = vec![4];
    for half in [
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    ] {
        p256.extend(URL_SAFE_NO_PAD.decode(half).unwrap());
    }
    let p256 = VerifyingKey::new(Algorithm::Es256, &p256).unwrap();
    insta::assert_snapshot!(
        p256.to_jwk(),
        @r#"{"alg":"ES256","crv":"P-256","kid":"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U","kty":"EC","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#
    );
}

#[test]
fn bytes_that_are_no_key_are_refused() {
    let key = key();
    assert!(VerifyingKey::new(Algorithm::EdDsa, &key.public_bytes()[1..]).is_err());
    assert!(VerifyingKey::new(Algorithm::Es256, key.public_bytes()).is_err());
    assert!(VerifyingKey::new(Algorithm::Es256, &[4; 65]).is_err());
}

#[test]
fn a_key_set_shows_public_members_alone() {
    let (one, two) = (key(), SigningKey::generate(Algorithm::Es256).unwrap());
    let jwks: Value = serde_json::from_str(&set(&[&one, &two]).to_jwks_json()).unwrap();
    for jwk in jwks["keys"].as_array().unwrap() {
        for name in jwk.as_object().unwrap().keys() {
            assert!(["alg", "crv", "kid", "kty", "use", "x", "y"].contains(&name.as_str()));
        }
    }
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn debug_shows_no_private_key() {
    let key = key();
    assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.id()));
}

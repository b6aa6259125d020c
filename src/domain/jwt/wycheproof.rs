//! The vectors of project Wycheproof, against the signature layer that the strict function stands on.

use std::{env, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use wycheproof::{TestResult, ecdsa, eddsa};

use super::{
    Algorithm, KeySet, Rejection, VerifyingKey,
    verify::{Compact, Header, decode, verify},
};
use crate::{clock::Timestamp, domain::ids::SigningKeyId};

/// Whether the signature layer takes `signature` of `message`.
fn accepts(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    let algorithm = match key.algorithm() {
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
    };
    let signature = URL_SAFE_NO_PAD.encode(signature);
    jsonwebtoken::crypto::verify(&signature, message, key.prepared(), algorithm).unwrap_or(false)
}

#[test]
fn ed25519_verdicts_are_the_published_ones() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let key = VerifyingKey::new(Algorithm::EdDsa, &group.key.pk).unwrap();
        for test in group.tests {
            let good = test.result == TestResult::Valid;
            assert_eq!(accepts(&key, &test.msg, &test.sig), good, "{}", test.tc_id);
            count += 1;
        }
    }
    assert_eq!(count, set.number_of_tests);
}

#[test]
fn es256_verdicts_are_the_published_ones() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let key = VerifyingKey::new(Algorithm::Es256, &group.key.key).unwrap();
        for test in group.tests {
            let good = test.result == TestResult::Valid;
            assert_eq!(accepts(&key, &test.msg, &test.sig), good, "{}", test.tc_id);
            count += 1;
        }
    }
    assert_eq!(count, set.number_of_tests);
}

/// Wycheproof's JWS and JWK vectors, which are not part of this repository. Where `TOKEN_AUTHORITY_TEST_WYCHEPROOF` names a
/// directory that holds `json_web_signature_test.json` and `json_web_key_test.json`, every token in them is judged; where it
/// is unset, this says so on stderr and returns.
///
/// The seam: these tokens are no access tokens (no `typ`, a `kid` that is no thumbprint, a payload that is no claims set), so
/// the strict function refuses them all, which is asserted. What is compared with the published verdicts is the layer below
/// it: the compact form, the header's members, the algorithm bound to the key, the signature.
#[test]
fn published_tokens_get_their_published_verdict() {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let Some(directory) = env::var_os("TOKEN_AUTHORITY_TEST_WYCHEPROOF") else {
        eprintln!("skipped: TOKEN_AUTHORITY_TEST_WYCHEPROOF names no directory of vectors");
        return;
    };
    for file in ["json_web_signature_test.json", "json_web_key_test.json"] {
        let text = fs::read_to_string(Path::new(&directory).join(file)).unwrap();
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let mut tally = Tally::default();
        for group in vectors["testGroups"].as_array().unwrap() {
            judge_group(group, &mut tally);
        }
        eprintln!("{file}: {tally:?}");
        assert_eq!(vectors["numberOfTests"], tally.judged);
        assert!(tally.valid_for_our_algorithms_accepted > 0 || file.contains("key"));
    }
}

#[derive(Debug, Default)]
struct Tally {
    judged: u32,
    valid_for_our_algorithms_accepted: u32,
    valid_for_other_algorithms_refused: u32,
    invalid_refused: u32,
}

fn judge_group(group: &Value, tally: &mut Tally) {
    let keys = key_set(group);
    for test in group["tests"].as_array().unwrap() {
        let token = match &test["jws"] {
            Value::String(compact) => compact.clone(),
            json => json.to_string(),
        };
        let now = Timestamp::from_seconds(1_800_000_000);
        assert!(verify(&token, &keys, "issuer", now).is_err());
        let accepted = judge(&token, &keys).is_ok();
        let ours = keys.iter().next().is_some();
        tally.judged += 1;
        match (test["result"].as_str().unwrap(), accepted, ours) {
            ("invalid", false, _) => tally.invalid_refused += 1,
            ("valid", true, true) => tally.valid_for_our_algorithms_accepted += 1,
            ("valid", false, false) => tally.valid_for_other_algorithms_refused += 1,
            verdict => panic!("{verdict:?} for {}: {}", test["tcId"], group["comment"]),
        }
    }
}

/// The layer below the profile, put together as the strict function does.
fn judge(token: &str, keys: &KeySet) -> Result<(), Rejection> {
    let compact = Compact::cut(token)?;
    let header_json = decode(compact.header)?;
    let header = Header::read(&header_json)?;
    let key = keys.get(header.kid).ok_or(Rejection::BadSignature)?;
    decode(compact.claims)?;
    compact.check_signature(&header, key)
}

/// The keys of a group that are for our algorithms and for signatures, under the names that the vectors give them.
fn key_set(group: &Value) -> KeySet {
    let jwk = match &group["public"] {
        Value::Null => &group["private"],
        public => public,
    };
    let jwks = match &jwk["keys"] {
        Value::Array(keys) => keys.as_slice(),
        _ => std::slice::from_ref(jwk),
    };
    jwks.iter().filter_map(key_of).collect()
}

fn key_of(jwk: &Value) -> Option<VerifyingKey> {
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
    let kind = ["kty", "crv", "alg"].map(|name| jwk[name].as_str().unwrap_or(""));
    let (algorithm, bytes) = match kind {
        ["OKP", "Ed25519", "EdDSA"] => (Algorithm::EdDsa, member("x")?),
        ["EC", "P-256", "ES256"] => {
            let point = [vec![4], member("x")?, member("y")?].concat();
            (Algorithm::Es256, point)
        }
        _ => return None,
    };
    let operations = jwk["key_ops"].as_array();
    let verifies = operations.is_none_or(|all| all.iter().any(|one| one == "verify"));
    if !verifies || jwk["use"].as_str().is_some_and(|wanted| wanted != "sig") {
        return None;
    }
    let key = VerifyingKey::new(algorithm, &bytes).ok()?;
    Some(key.renamed(SigningKeyId::known(jwk["kid"].as_str()?)))
}

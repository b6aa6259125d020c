//! What the strict function accepts, and every forgery that it does not.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
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

pub(super) fn sample(key: &SigningKey) -> AccessToken {
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

fn header(key: &SigningKey) -> Value {
    json!({"alg": key.algorithm().as_str(), "typ": "at+jwt", "kid": key.id().as_str()})
}

fn claims(key: &SigningKey) -> Value {
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
    let token = forge(header, claims(key).to_string(), key);
    verify(&token, &set(&[key]), ISSUER, now())
}

/// The verdict on a token whose claims are as a text has them.
fn with_claims(key: &SigningKey, claims: impl AsRef<[u8]>) -> Result<AccessToken, Rejection> {
    let token = forge(header(key).to_string(), claims, key);
    verify(&token, &set(&[key]), ISSUER, now())
}

/// The verdict on a token one of whose claims is another; none takes it away.
fn with_claim(
    key: &SigningKey,
    name: &str,
    value: Option<Value>,
) -> Result<AccessToken, Rejection> {
    let mut claims = claims(key);
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
fn the_header_says_alg_typ_and_kid_and_nothing_else() {
    let key = key();
    let token = key.sign(&sample(&key)).unwrap();
    let (said, _) = token.split_once('.').unwrap();
    let said: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(said).unwrap()).unwrap();
    assert_eq!(said, header(&key));
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
fn a_token_over_8_kib_is_not_looked_at() {
    let key = key();
    let mut long = claims(&key);
    long["filler"] = "x".repeat(5_000).into();
    assert!(with_claims(&key, long.to_string()).is_ok());
    long["filler"] = "x".repeat(8_000).into();
    assert_eq!(
        with_claims(&key, long.to_string()),
        Err(Rejection::Malformed)
    );
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
fn j01_j06_an_algorithm_that_is_not_the_keys_is_refused() {
    let key = key();
    let others = json!([
        "none", "nOnE", "None", "NONE ", "", "HS256", "HS512", "RS256", "PS256", "ES384", "eddsa",
        "EDDSA", "Ed25519", "EdDSA ", "EdDSA\u{0}", ["EdDSA"], 8, null, true, {"EdDSA": 1}
    ]);
    for algorithm in others.as_array().unwrap() {
        let mut header = header(&key);
        header["alg"] = algorithm.clone();
        let verdict = with_header(&key, &header.to_string());
        assert_eq!(verdict, Err(Rejection::Malformed), "{algorithm}");
    }
    let mut missing = header(&key);
    missing.as_object_mut().unwrap().remove("alg");
    assert!(with_header(&key, &missing.to_string()).is_err());
}

#[test]
fn j01_an_empty_signature_is_refused() {
    let key = key();
    for algorithm in ["none", "EdDSA"] {
        let mut header = header(&key);
        header["alg"] = algorithm.into();
        let token = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims(&key).to_string())
        );
        assert_eq!(
            verify(&token, &set(&[&key]), ISSUER, now()),
            Err(Rejection::Malformed)
        );
    }
}

#[test]
fn j03_the_public_key_is_no_hmac_secret() {
    use aws_lc_rs::hmac;
    let key = key();
    // The prefix of an Ed25519 key as SubjectPublicKeyInfo (RFC 8410).
    let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    der.extend_from_slice(key.public_bytes());
    let base64 = STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
    let secrets = [
        key.public_bytes().to_vec(),
        der,
        base64.into_bytes(),
        pem.into_bytes(),
    ];
    for secret in secrets {
        for algorithm in ["HS256", "EdDSA"] {
            let mut header = header(&key);
            header["alg"] = algorithm.into();
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header.to_string()),
                URL_SAFE_NO_PAD.encode(claims(&key).to_string())
            );
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            let tag = hmac::sign(&secret, signed.as_bytes());
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert!(verify(&token, &set(&[&key]), ISSUER, now()).is_err());
        }
    }
}

#[test]
fn j04_a_key_verifies_by_its_own_algorithm_alone() {
    let (ed, es) = (key(), SigningKey::generate(Algorithm::Es256).unwrap());
    let keys = set(&[&ed, &es]);
    for (named, signer) in [(&ed, &es), (&es, &ed)] {
        for algorithm in ["EdDSA", "ES256"] {
            let header = json!({"alg": algorithm, "typ": "at+jwt", "kid": named.id().as_str()});
            let token = forge(header.to_string(), claims(named).to_string(), signer);
            assert_eq!(
                verify(&token, &keys, ISSUER, now()),
                Err(Rejection::BadSignature)
            );
        }
        // The named key did sign it, but the header speaks of the other's algorithm.
        let other = signer.algorithm().as_str();
        let header = json!({"alg": other, "typ": "at+jwt", "kid": named.id().as_str()});
        let token = forge(header.to_string(), claims(named).to_string(), named);
        assert_eq!(
            verify(&token, &keys, ISSUER, now()),
            Err(Rejection::BadSignature)
        );
    }
}

#[test]
fn j08_j10_j15_no_header_member_but_three_is_taken() {
    let (key, thief) = (key(), key());
    let members = json!({
        "jwk": thief.verifying_key().to_jwk(), "jku": "https://evil.example", "x5u": "https://evil.example",
        "x5c": ["MIIB"], "x5t": "AA", "x5t#S256": "AA", "crit": ["exp"], "b64": false, "zip": "DEF",
        "enc": "A256GCM", "cty": "JWT", "nonce": "1", "exp": 1, "Alg": "none", "": ""
    });
    for (name, value) in members.as_object().unwrap() {
        let mut header = header(&key);
        header[name] = value.clone();
        let verdict = with_header(&key, &header.to_string());
        assert_eq!(verdict, Err(Rejection::Malformed), "{name}");
        let token = forge(header.to_string(), claims(&key).to_string(), &thief);
        assert!(verify(&token, &set(&[&key]), ISSUER, now()).is_err());
    }
    for value in ["null", "[]"] {
        let text = header(&key)
            .to_string()
            .replacen('{', &format!("{{\"crit\":{value},"), 1);
        assert_eq!(with_header(&key, &text), Err(Rejection::Malformed));
    }
}

#[test]
fn j11_j12_an_ill_formed_kid_is_refused_before_it_is_looked_up() {
    let key = key();
    let kids = json!([
        "../../dev/null",
        "' OR 1=1--",
        "k".repeat(5_000),
        "k".repeat(44),
        "k".repeat(42),
        "",
        "\u{0}".repeat(43),
        "\u{1f511}".repeat(11),
        format!("{}\n", "k".repeat(42)),
        format!("{}=", "k".repeat(42)),
        format!("{}+", "k".repeat(42)),
        7,
        null,
        true,
        ["k"],
        {}
    ]);
    for kid in kids.as_array().unwrap() {
        let mut header = header(&key);
        header["kid"] = kid.clone();
        let verdict = with_header(&key, &header.to_string());
        assert_eq!(verdict, Err(Rejection::Malformed), "{kid}");
    }
    let mut missing = header(&key);
    missing.as_object_mut().unwrap().remove("kid");
    assert_eq!(
        with_header(&key, &missing.to_string()),
        Err(Rejection::Malformed)
    );
}

#[test]
fn j13_j31_a_key_outside_the_set_is_unknown() {
    let (key, gone) = (key(), key());
    let token = gone.sign(&sample(&gone)).unwrap();
    assert_eq!(
        verify(&token, &set(&[&key]), ISSUER, now()),
        Err(Rejection::UnknownKey(gone.id().clone()))
    );
    // The same under the other key's name.
    let token = forge(header(&key).to_string(), claims(&key).to_string(), &gone);
    assert_eq!(
        verify(&token, &set(&[&key, &gone]), ISSUER, now()),
        Err(Rejection::BadSignature)
    );
}

#[test]
fn the_type_is_at_jwt_and_nothing_like_it() {
    let key = key();
    let types = json!([
        "JWT",
        "jwt",
        "AT+JWT",
        "at+JWT",
        "application/at+jwt",
        "at+jwt ",
        "",
        null,
        ["at+jwt"],
        1
    ]);
    for kind in types.as_array().unwrap() {
        let mut header = header(&key);
        header["typ"] = kind.clone();
        let verdict = with_header(&key, &header.to_string());
        assert_eq!(verdict, Err(Rejection::Malformed), "{kind}");
    }
    let mut missing = header(&key);
    missing.as_object_mut().unwrap().remove("typ");
    assert_eq!(
        with_header(&key, &missing.to_string()),
        Err(Rejection::Malformed)
    );
}

#[test]
fn a_header_that_readers_may_read_differently_is_refused() {
    let key = key();
    let kid = key.id().as_str();
    let headers = [
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","alg":"EdDSA"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","typ":"JWT","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","\u0061lg":"none"}}"#),
        format!(r#"{{"alg":"EdDS\u0041","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"["EdDSA","at+jwt","{kid}"]"#),
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}{{}}"#),
        format!("\u{feff}{{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"{kid}\"}}"),
        "null".to_owned(),
        "{}".to_owned(),
    ];
    for header in headers {
        let verdict = with_header(&key, &header);
        assert_eq!(verdict, Err(Rejection::Malformed), "{header}");
    }
    let reordered = format!(r#"{{"kid":"{kid}","typ":"at+jwt","alg":"EdDSA"}}"#);
    assert!(with_header(&key, &reordered).is_ok());
}

#[test]
fn j16_j17_a_date_is_an_integer_and_is_there() {
    let key = key();
    for name in ["exp", "iat", "nbf", "auth_time"] {
        let values = json!([
            "9999999999",
            "",
            -1,
            null,
            true,
            [NOW],
            {},
            1_800_000_000.0,
            1_800_000_000.5
        ]);
        for value in values.as_array().unwrap() {
            let verdict = with_claim(&key, name, Some(value.clone()));
            assert_eq!(verdict, Err(Rejection::Malformed), "{name} {value}");
        }
        for number in [
            "1e20",
            "1800000000e0",
            "-0",
            "18446744073709551615",
            "9223372036854775807",
            "253402300800",
            "99999999999999999999999",
        ] {
            let mut claims = claims(&key);
            claims[name] = "HERE".into();
            let text = claims.to_string().replace("\"HERE\"", number);
            let verdict = with_claims(&key, text);
            assert_eq!(verdict, Err(Rejection::Malformed), "{name} {number}");
        }
        assert_eq!(with_claim(&key, name, None), Err(Rejection::Malformed));
    }
}

#[test]
fn j32_expiry_has_no_leeway_and_the_future_30_seconds() {
    let key = key();
    let cases = [
        ("exp", 1, Ok(())),
        ("exp", 0, Err(Rejection::Expired)),
        ("exp", -1, Err(Rejection::Expired)),
        ("iat", 29, Ok(())),
        ("iat", 30, Ok(())),
        ("iat", 31, Err(Rejection::NotYetValid)),
        ("iat", 3_600, Err(Rejection::NotYetValid)),
        ("nbf", 29, Ok(())),
        ("nbf", 31, Err(Rejection::NotYetValid)),
        ("nbf", 1_000_000_000, Err(Rejection::NotYetValid)),
    ];
    for (name, offset, expected) in cases {
        let mut claims = claims(&key);
        claims["iat"] = (NOW - 60).into();
        claims["nbf"] = (NOW - 60).into();
        claims["exp"] = (NOW + 7_200).into();
        claims[name] = (NOW + offset).into();
        let verdict = with_claims(&key, claims.to_string()).map(drop);
        assert_eq!(verdict, expected, "{name} {offset}");
    }
}

#[test]
fn j19_a_life_over_24_hours_is_refused() {
    let key = key();
    for (lifetime, good) in [
        (86_400, true),
        (86_401, false),
        (315_360_000, false),
        (-1, false),
    ] {
        let verdict = with_claim(&key, "exp", Some((NOW + lifetime).into()));
        assert_eq!(verdict.is_ok(), good, "{lifetime}");
    }
}

#[test]
fn j21_there_is_an_audience_and_each_is_a_string() {
    let key = key();
    let refused = json!([null, "", [], [""], ["a", 1], [["a"]], ["a", null], 1, true, {"a": "b"}]);
    for value in refused.as_array().unwrap() {
        let verdict = with_claim(&key, "aud", Some(value.clone()));
        assert_eq!(verdict, Err(Rejection::Malformed), "{value}");
    }
    assert!(with_claim(&key, "aud", None).is_err());
    let single = with_claim(&key, "aud", Some("a".into())).unwrap();
    assert_eq!(single.audiences, ["a"]);
}

#[test]
fn j22_a_name_is_a_string_and_not_empty() {
    let key = key();
    let names = [
        "iss",
        "sub",
        "jti",
        "client_id",
        "space",
        "space_slug",
        "username",
        "sid",
    ];
    for name in names {
        let refused = json!(["", null, 1, ["a"], {}]);
        for value in refused.as_array().unwrap() {
            let verdict = with_claim(&key, name, Some(value.clone()));
            assert_eq!(verdict, Err(Rejection::Malformed), "{name} {value}");
        }
        assert_eq!(with_claim(&key, name, None), Err(Rejection::Malformed));
    }
    let verdict = with_claim(&key, "iss", Some("https://evil.example".into()));
    assert_eq!(verdict, Err(Rejection::WrongIssuer));
    let verdict = with_claim(&key, "iss", Some(format!("{ISSUER}/").into()));
    assert_eq!(verdict, Err(Rejection::WrongIssuer));
    let verdict = with_claim(&key, "iss", Some(json!([ISSUER])));
    assert_eq!(verdict, Err(Rejection::Malformed));
}

#[test]
fn every_other_claim_has_its_type() {
    let key = key();
    let cases = json!({
        "rev": [null, -1, 1.0, "1", 9_007_199_254_740_992_u64, u64::MAX, true],
        "scope": [null, 1, ["orders.read"]],
        "roles": [null, "admin", [1], [null], {}],
        "narrowed": [null, 0, "true"],
        "email": [null, 1, ["a"]],
        "api_key_id": [null, 1, ["a"]],
    });
    for (name, values) in cases.as_object().unwrap() {
        for value in values.as_array().unwrap() {
            let verdict = with_claim(&key, name, Some(value.clone()));
            assert_eq!(verdict, Err(Rejection::Malformed), "{name} {value}");
        }
        let missing = with_claim(&key, name, None);
        let optional = ["email", "api_key_id"].contains(&name.as_str());
        assert_eq!(missing.is_ok(), optional, "{name}");
    }
}

#[test]
fn a_claim_that_comes_twice_is_refused_and_one_that_is_unknown_passed_over() {
    let key = key();
    let text = claims(&key).to_string();
    let twice = [
        r#""sub":"usr_evil""#,
        r#""exp":9999999999"#,
        r#""\u0073ub":"usr_evil""#,
        r#""email":"x@example.org""#,
        r#""later":1,"later":1"#,
        r#""later":1,"\u006cater":2"#,
    ];
    for member in twice {
        let front = text.replacen('{', &format!("{{{member},"), 1);
        assert_eq!(
            with_claims(&key, front),
            Err(Rejection::Malformed),
            "{member}"
        );
    }
    let unknown = text.replacen('{', r#"{"later":{"a":[1,null]},"more":1.5,"#, 1);
    assert_eq!(with_claims(&key, unknown), Ok(sample(&key)));
}

#[test]
fn j24_claims_that_are_not_one_json_object_in_utf8_are_refused() {
    let key = key();
    let text = claims(&key).to_string();
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = text.replacen(
        '{',
        &format!("{{\"deep\":{}{},", "[".repeat(2_000), "]".repeat(2_000)),
        1,
    );
    let mut broken = text.clone().into_bytes();
    broken.splice(1..1, b"\"later\":\"\xff\",".iter().copied());
    let surrogate = text.replacen('{', r#"{"later":"\ud800","#, 1);
    let refused: [Vec<u8>; 12] = [
        utf16,
        deep.into_bytes(),
        broken,
        surrogate.into_bytes(),
        format!("\u{feff}{text}").into_bytes(),
        format!("{text}{text}").into_bytes(),
        format!("[{text}]").into_bytes(),
        text.as_bytes()[..text.len() - 1].to_vec(),
        b"null".to_vec(),
        b"\"\"".to_vec(),
        b"{}".to_vec(),
        b"\0".to_vec(),
    ];
    for claims in refused {
        assert_eq!(
            with_claims(&key, &claims),
            Err(Rejection::Malformed),
            "{}",
            String::from_utf8_lossy(&claims)
        );
    }
    let bottomless = forge(header(&key).to_string(), "[".repeat(1 << 20), &key);
    assert_eq!(
        verify(&bottomless, &set(&[&key]), ISSUER, now()),
        Err(Rejection::Malformed)
    );
}

#[test]
fn j15_j26_j27_only_three_filled_parts_make_a_token() {
    let key = key();
    let token = key.sign(&sample(&key)).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let json = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]});
    let refused = [
        String::new(),
        ".".into(),
        "..".into(),
        "....".into(),
        format!("{}.{}", parts[0], parts[1]),
        format!(".{}.{}", parts[1], parts[2]),
        format!("{}..{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[1], parts[2]),
        json.to_string(),
        format!("Bearer {token}"),
        "ta_XkQBXKr652MV1VF9_00000000000000000000000000000000".into(),
    ];
    for token in refused {
        let verdict = verify(&token, &set(&[&key]), ISSUER, now());
        assert_eq!(verdict, Err(Rejection::Malformed), "{token}");
    }
}

#[test]
fn each_part_has_one_spelling() {
    let key = key();
    let claims = claims(&key).to_string();
    // As long as leaves two bits over in the last character.
    let padded = |text: &str| format!("{text}{}", " ".repeat((3 - text.len() % 3) % 3 + 2));
    let (header, claims) = (padded(&header(&key).to_string()), padded(&claims));
    let good = URL_SAFE_NO_PAD.encode(&header);
    let good_claims = URL_SAFE_NO_PAD.encode(&claims);
    assert!(
        verify(
            &sign_text(&format!("{good}.{good_claims}"), &key),
            &set(&[&key]),
            ISSUER,
            now()
        )
        .is_ok()
    );
    let spellings = |good: &str, bytes: &str| {
        let mut loose = good.to_owned();
        let last = loose.pop().unwrap();
        loose.push(char::from(last as u8 + 1));
        [
            URL_SAFE.encode(bytes),
            loose,
            format!("{good} "),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{}\n{}", &good[..8], &good[8..]),
        ]
    };
    for header in spellings(&good, &header) {
        let token = sign_text(&format!("{header}.{good_claims}"), &key);
        let verdict = verify(&token, &set(&[&key]), ISSUER, now());
        assert_eq!(verdict, Err(Rejection::Malformed), "{header}");
    }
    for claims in spellings(&good_claims, &claims) {
        let token = sign_text(&format!("{good}.{claims}"), &key);
        let verdict = verify(&token, &set(&[&key]), ISSUER, now());
        assert_eq!(verdict, Err(Rejection::Malformed), "{claims}");
    }
}

#[test]
fn j29_the_signature_of_one_token_is_not_anothers() {
    let key = key();
    let one = key.sign(&sample(&key)).unwrap();
    let other = AccessToken {
        rev: 7,
        ..sample(&key)
    };
    let other = key.sign(&other).unwrap();
    let (signed, _) = one.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(
        verify(
            &format!("{signed}.{signature}"),
            &set(&[&key]),
            ISSUER,
            now()
        ),
        Err(Rejection::BadSignature)
    );
}

#[test]
fn j30_no_bit_can_be_flipped() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let key = SigningKey::generate(algorithm).unwrap();
        let keys = set(&[&key]);
        let token = key.sign(&sample(&key)).unwrap();
        for position in 0..token.len() {
            for bit in 0..8 {
                let mut bytes = token.clone().into_bytes();
                bytes[position] ^= 1 << bit;
                // What is not UTF-8 does not reach the function.
                if let Ok(flipped) = String::from_utf8(bytes) {
                    let verdict = verify(&flipped, &keys, ISSUER, now());
                    assert!(verdict.is_err(), "bit {bit} of byte {position}");
                }
            }
        }
        for end in 0..token.len() {
            assert!(verify(&token[..end], &keys, ISSUER, now()).is_err());
        }
    }
}

#[test]
fn debug_shows_no_private_key() {
    let key = key();
    assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.id()));
}

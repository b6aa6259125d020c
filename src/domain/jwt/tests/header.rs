//! Forged headers and foreign keys.

use base64::engine::general_purpose::STANDARD;

use super::*;

#[test]
fn the_header_says_alg_typ_and_kid_and_nothing_else() {
    let key = key();
    let token = key.sign(&sample(&key)).unwrap();
    let (said, _) = token.split_once('.').unwrap();
    let said: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(said).unwrap()).unwrap();
    assert_eq!(said, header_of(&key));
}

#[test]
fn j01_j06_an_algorithm_that_is_not_the_keys_is_refused() {
    let key = key();
    let others = json!([
        "none", "nOnE", "None", "NONE ", "", "HS256", "HS512", "RS256", "PS256", "ES384", "eddsa",
        "EDDSA", "Ed25519", "EdDSA ", "EdDSA\u{0}", ["EdDSA"], 8, null, true, {"EdDSA": 1}
    ]);
    for algorithm in others.as_array().unwrap() {
        let mut header = header_of(&key);
        header["alg"] = algorithm.clone();
        let verdict = with_header(&key, &header.to_string());
        assert_eq!(verdict, Err(Rejection::Malformed), "{algorithm}");
    }
    let mut missing = header_of(&key);
    missing.as_object_mut().unwrap().remove("alg");
    assert!(with_header(&key, &missing.to_string()).is_err());
}

#[test]
fn j01_an_empty_signature_is_refused() {
    let key = key();
    for algorithm in ["none", "EdDSA"] {
        let mut header = header_of(&key);
        header["alg"] = algorithm.into();
        let token = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims_of(&key).to_string())
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
            let mut header = header_of(&key);
            header["alg"] = algorithm.into();
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header.to_string()),
                URL_SAFE_NO_PAD.encode(claims_of(&key).to_string())
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
            let token = forge(header.to_string(), claims_of(named).to_string(), signer);
            assert_eq!(
                verify(&token, &keys, ISSUER, now()),
                Err(Rejection::BadSignature)
            );
        }
        // The named key did sign it, but the header speaks of the other's algorithm.
        let other = signer.algorithm().as_str();
        let header = json!({"alg": other, "typ": "at+jwt", "kid": named.id().as_str()});
        let token = forge(header.to_string(), claims_of(named).to_string(), named);
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
        let mut header = header_of(&key);
        header[name] = value.clone();
        let verdict = with_header(&key, &header.to_string());
        assert_eq!(verdict, Err(Rejection::Malformed), "{name}");
        let token = forge(header.to_string(), claims_of(&key).to_string(), &thief);
        assert!(verify(&token, &set(&[&key]), ISSUER, now()).is_err());
    }
    for value in ["null", "[]"] {
        let text = header_of(&key)
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
        let mut header = header_of(&key);
        header["kid"] = kid.clone();
        let verdict = with_header(&key, &header.to_string());
        assert_eq!(verdict, Err(Rejection::Malformed), "{kid}");
    }
    let mut missing = header_of(&key);
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
    let token = forge(
        header_of(&key).to_string(),
        claims_of(&key).to_string(),
        &gone,
    );
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
        let mut header = header_of(&key);
        header["typ"] = kind.clone();
        let verdict = with_header(&key, &header.to_string());
        assert_eq!(verdict, Err(Rejection::Malformed), "{kind}");
    }
    let mut missing = header_of(&key);
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

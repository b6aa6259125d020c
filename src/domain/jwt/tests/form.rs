//! The compact form: its parts, its size, its one spelling, its signature.

use base64::engine::general_purpose::URL_SAFE;

use super::*;

#[test]
fn a_token_over_8_kib_is_not_looked_at() {
    let key = key();
    let mut long = claims_of(&key);
    long["filler"] = "x".repeat(5_000).into();
    assert!(with_claims(&key, long.to_string()).is_ok());
    long["filler"] = "x".repeat(8_000).into();
    assert_eq!(
        with_claims(&key, long.to_string()),
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
    let claims = claims_of(&key).to_string();
    // As long as leaves two bits over in the last character.
    let padded = |text: &str| format!("{text}{}", " ".repeat((3 - text.len() % 3) % 3 + 2));
    let (header, claims) = (padded(&header_of(&key).to_string()), padded(&claims));
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

//! Claims that are not as they should be, validly signed.

use super::*;

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
            let mut claims = claims_of(&key);
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
        let mut claims = claims_of(&key);
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
    let text = claims_of(&key).to_string();
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
    let text = claims_of(&key).to_string();
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
    let bottomless = forge(header_of(&key).to_string(), "[".repeat(1 << 20), &key);
    assert_eq!(
        verify(&bottomless, &set(&[&key]), ISSUER, now()),
        Err(Rejection::Malformed)
    );
}

//! Claims that are not as they should be, validly signed.

use std::time::Duration;

use serde_json::{Value, json};
use token_authority::proto;
use tonic::Code;

use super::{are_nothing, thief};
use crate::support::{Forger, both, refused};

/// The signed claims of a token, one of which is as a text has it.
fn with_raw(thief: &Forger, name: &str, raw: &str) -> String {
    let mut claims = thief.claims.clone();
    claims[name] = "HERE".into();
    thief.with_claims(claims.to_string().replace("\"HERE\"", raw))
}

both!(j16_to_j19_dates_are_whole_and_sane, async |server| {
    let (good, thief) = thief(server).await;
    let now = server.clock.now().seconds();
    let mut tokens = Vec::new();
    for name in ["exp", "iat", "nbf", "auth_time"] {
        for raw in [
            "\"9999999999\"",
            "1e20",
            "-1",
            "null",
            "true",
            "[1]",
            "{}",
            "1800000000.5",
            "-0",
            "18446744073709551615",
            "253402300800",
        ] {
            tokens.push(with_raw(&thief, name, raw));
        }
        tokens.push(thief.with_claim(name, None));
    }
    for (name, seconds) in [
        ("exp", now),
        ("exp", now - 1),
        ("exp", now + 86_401),
        ("exp", now + 315_360_000),
        ("iat", now + 31),
        ("iat", now + 3_600),
        ("nbf", now + 31),
        ("nbf", now + 1_000_000),
        ("iat", now - 315_360_000),
    ] {
        tokens.push(thief.with_claim(name, Some(seconds.into())));
    }
    are_nothing(server, &good, &tokens).await;
});

both!(
    j32_expiry_has_no_leeway_and_the_future_30_seconds,
    async |server| {
        let (good, thief) = thief(server).await;
        let now = server.clock.now().seconds();
        for (name, offset) in [
            ("exp", 1),
            ("iat", 29),
            ("iat", 30),
            ("nbf", 29),
            ("nbf", 30),
        ] {
            let token = thief.with_claim(name, Some((now + offset).into()));
            assert_eq!(
                server.verdict(&good, &token).await,
                Ok(()),
                "{name} {offset}"
            );
        }
        let token = thief.with_claim("exp", Some((now + 2).into()));
        assert_eq!(server.verdict(&good, &token).await, Ok(()));
        // A token that is remembered expires as well.
        let left =
            token_authority::clock::Timestamp::from_seconds(now + 2).since(server.clock.now());
        server
            .clock
            .advance(left.checked_sub(Duration::from_micros(1)).unwrap());
        assert_eq!(server.verdict(&good, &token).await, Ok(()));
        server.clock.advance(Duration::from_micros(1));
        assert_eq!(
            server.verdict(&good, &token).await,
            Err(proto::InactiveReason::Expired)
        );
        // Nor does a clock that is set back make it come alive in the meantime of another's verdict.
        refused(
            server.who(&token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
    }
);

both!(
    j21_j22_names_and_audiences_are_there_and_are_texts,
    async |server| {
        let (good, thief) = thief(server).await;
        let mut tokens = Vec::new();
        for value in
            json!([null, "", [], [""], ["a", 1], [["a"]], ["a", null], 1, true, {"a": "b"}])
                .as_array()
                .unwrap()
        {
            tokens.push(thief.with_claim("aud", Some(value.clone())));
        }
        tokens.push(thief.with_claim("aud", None));
        for name in [
            "iss",
            "sub",
            "jti",
            "client_id",
            "space",
            "space_slug",
            "username",
            "sid",
        ] {
            for value in json!(["", null, 1, ["a"], {}]).as_array().unwrap() {
                tokens.push(thief.with_claim(name, Some(value.clone())));
            }
            tokens.push(thief.with_claim(name, None));
        }
        for issuer in [
            "https://evil.example",
            &format!("{}/", server.authority.issuer),
            &server.authority.issuer.to_uppercase(),
        ] {
            tokens.push(thief.with_claim("iss", Some(issuer.into())));
        }
        for (name, value) in [
            ("rev", json!(-1)),
            ("rev", json!(1.5)),
            ("rev", json!("1")),
            ("rev", json!(u64::MAX)),
            ("rev", Value::Null),
            ("scope", json!(["a"])),
            ("roles", json!("admin")),
            ("narrowed", json!(0)),
            ("email", Value::Null),
        ] {
            tokens.push(thief.with_claim(name, Some(value)));
        }
        are_nothing(server, &good, &tokens).await;
    }
);

both!(
    j21_a_token_for_others_is_active_for_them_and_no_bearer_here,
    async |server| {
        let (good, thief) = thief(server).await;
        let issuer = &*server.authority.issuer;
        for (audience, calls) in [
            (json!("orders"), false),
            (json!(["orders", "billing"]), false),
            (json!([format!("{issuer}/")]), false),
            (json!(issuer), true),
            (json!(["orders", issuer]), true),
        ] {
            let token = thief.with_claim("aud", Some(audience.clone()));
            assert_eq!(server.verdict(&good, &token).await, Ok(()));
            assert_eq!(server.who(&token).await.is_ok(), calls, "{audience}");
        }
    }
);

both!(j24_claims_are_one_json_object_in_utf8, async |server| {
    let (good, thief) = thief(server).await;
    let text = thief.claims.to_string();
    let deep = text.replacen(
        '{',
        &format!("{{\"deep\":{}{},", "[".repeat(2_000), "]".repeat(2_000)),
        1,
    );
    let mut broken = text.clone().into_bytes();
    broken.splice(1..1, b"\"later\":\"\xff\",".iter().copied());
    let claims: [Vec<u8>; 12] = [
        text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        deep.into_bytes(),
        broken,
        format!("\u{feff}{text}").into_bytes(),
        format!("{text}{text}").into_bytes(),
        format!("[{text}]").into_bytes(),
        text.as_bytes()[..text.len() - 1].to_vec(),
        text.replacen('{', r#"{"sub":"usr_evil","#, 1).into_bytes(),
        b"null".to_vec(),
        b"{}".to_vec(),
        b"\0".to_vec(),
        vec![],
    ];
    let tokens: Vec<String> = claims
        .iter()
        .map(|claims| thief.with_claims(claims))
        .collect();
    are_nothing(server, &good, &tokens).await;
    for bottomless in [
        "[".repeat(1 << 20),
        format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20)),
    ] {
        assert!(
            server
                .verdict(&good, &thief.with_claims(bottomless))
                .await
                .is_err()
        );
    }
});

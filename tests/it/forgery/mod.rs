//! Tokens that nobody honest signed, as a thief would present them: to introspection, as a bearer, to rotation and revocation.

mod claims;
mod strangers;

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;
use token_authority::{domain::signing_key::State, proto};
use tonic::Code;

use crate::support::{Forger, Server, as_caller, both, refused, rotate_request, unsigned};

/// A thief who has the key that signs, and a good token of `admin`.
async fn thief(server: &Server) -> (String, Forger) {
    let good = server.admin().await.access_token;
    let forger = Forger::with_stolen(server, State::Active, &good).await;
    assert_eq!(
        server
            .verdict(&good, &forger.with_claims(forger.claims.to_string()))
            .await,
        Ok(())
    );
    (good, forger)
}

/// None of these is a token, wherever it is presented.
async fn are_nothing(server: &Server, judge: &str, tokens: &[String]) {
    let mut client = server.tokens().await;
    for some in tokens.chunks(256) {
        let request = proto::BatchIntrospectTokensRequest {
            tokens: some.to_vec(),
            ..Default::default()
        };
        let told = client
            .batch_introspect_tokens(as_caller(judge, request))
            .await
            .unwrap()
            .into_inner();
        for (token, told) in some.iter().zip(told.introspections) {
            assert_eq!(told.active, Some(false), "{token}");
            assert_eq!(told.principal, None, "{token}");
        }
    }
    for token in tokens.iter().filter(|token| token.len() < 8_192) {
        let answer = client
            .get_caller_identity(as_caller(token, proto::GetCallerIdentityRequest {}))
            .await;
        refused(answer, Code::Unauthenticated, "CREDENTIALS_INVALID");
    }
    for token in tokens.iter().take(32) {
        refused(
            server.rotated(token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        assert_eq!(server.revoke(token).await, None);
    }
    assert_eq!(
        server.verdict(judge, judge).await,
        Ok(()),
        "whoever is honest is not harmed"
    );
}

both!(j01_j06_the_algorithm_is_the_keys, async |server| {
    let (good, thief) = thief(server).await;
    let others = json!([
        "none", "nOnE", "None", "NONE ", "", "HS256", "RS256", "PS256", "ES256", "ES384", "eddsa", "Ed25519",
        ["EdDSA"], 8, null, true, {"EdDSA": 1}
    ]);
    let mut tokens: Vec<String> = others
        .as_array()
        .unwrap()
        .iter()
        .map(|alg| thief.with_header("alg", alg.clone()))
        .collect();
    for alg in ["none", "EdDSA", "nOnE"] {
        let mut header = thief.header();
        header["alg"] = alg.into();
        tokens.push(format!(
            "{}.",
            unsigned(header.to_string(), thief.claims.to_string())
        ));
    }
    let mut header = thief.header();
    header.as_object_mut().unwrap().remove("alg");
    tokens.push(thief.sign(header.to_string(), thief.claims.to_string()));
    are_nothing(server, &good, &tokens).await;
});

both!(j03_the_public_key_is_no_hmac_secret, async |server| {
    let (good, thief) = thief(server).await;
    let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    der.extend_from_slice(&thief.public);
    let base64 = STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
    let mut tokens = Vec::new();
    for secret in [
        thief.public.clone(),
        der,
        base64.into_bytes(),
        pem.into_bytes(),
    ] {
        for alg in ["HS256", "EdDSA"] {
            let mut header = thief.header();
            header["alg"] = alg.into();
            let signed = unsigned(header.to_string(), thief.claims.to_string());
            let tag = hmac::sign(
                &hmac::Key::new(hmac::HMAC_SHA256, &secret),
                signed.as_bytes(),
            );
            tokens.push(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)));
        }
    }
    are_nothing(server, &good, &tokens).await;
});

both!(
    j08_j15_no_header_member_but_three_is_taken,
    async |server| {
        let (good, thief) = thief(server).await;
        let stranger = Forger::with_own_key(&good);
        let jwk =
            json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(&stranger.public)});
        let members = json!({
            "jwk": jwk, "jku": "https://evil.example", "x5u": "https://evil.example", "x5c": ["MIIB"], "crit": ["exp"],
            "b64": false, "zip": "DEF", "enc": "A256GCM", "cty": "JWT", "nonce": "1", "": ""
        });
        let mut tokens = Vec::new();
        for (name, value) in members.as_object().unwrap() {
            tokens.push(thief.with_header(name, value.clone()));
            tokens.push(stranger.with_header(name, value.clone()));
            // The stranger's signature under the name of the key that signs.
            let mut header = thief.header();
            header[name] = value.clone();
            tokens.push(stranger.sign(header.to_string(), stranger.claims.to_string()));
        }
        for typ in ["JWT", "at+JWT", "application/at+jwt", "", "jwt"] {
            tokens.push(thief.with_header("typ", typ.into()));
        }
        are_nothing(server, &good, &tokens).await;
    }
);

both!(j11_j12_j13_a_kid_is_of_a_published_key, async |server| {
    let (good, thief) = thief(server).await;
    let stranger = Forger::with_own_key(&good);
    let kids = json!([
        "../../dev/null",
        "' OR 1=1--",
        "k".repeat(43),
        "k".repeat(2_000),
        "",
        "\u{0}".repeat(43),
        "\u{1f511}".repeat(11),
        format!("{}\n", "k".repeat(42)),
        7,
        null,
        true,
        ["k"],
        {},
        "\r\nevil.line=1",
        thief.kid.to_lowercase()
    ]);
    let mut tokens: Vec<String> = kids
        .as_array()
        .unwrap()
        .iter()
        .map(|kid| thief.with_header("kid", kid.clone()))
        .collect();
    let mut header = thief.header();
    header.as_object_mut().unwrap().remove("kid");
    tokens.push(thief.sign(header.to_string(), thief.claims.to_string()));
    tokens.push(stranger.with_claims(stranger.claims.to_string()));
    tokens.push(stranger.sign(thief.header().to_string(), stranger.claims.to_string()));
    // The prepared key is another key, however good.
    let prepared = Forger::with_stolen(server, State::Prepared, &good).await;
    tokens.push(prepared.sign(thief.header().to_string(), thief.claims.to_string()));
    are_nothing(server, &good, &tokens).await;
});

both!(
    j26_j27_j29_a_token_is_three_parts_that_belong_together,
    async |server| {
        let (good, thief) = thief(server).await;
        let other = server.admin().await.access_token;
        let parts: Vec<&str> = good.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            panic!("three parts")
        };
        let (other_signed, other_signature) = other.rsplit_once('.').unwrap();
        let json = json!({"payload": claims, "protected": header, "signature": signature});
        let tokens = [
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        "..".to_owned(),
        "....".to_owned(),
        format!("{good}.{signature}"),
        format!("{header}.{claims}.{signature}.{claims}.{signature}"),
        format!("{header}.{claims}.{other_signature}"),
        format!("{other_signed}.{signature}"),
        format!("{good}="),
        format!(" {good}"),
        format!("{good}\n"),
        json.to_string(),
        json!({"payload": claims, "signatures": [{"protected": header, "signature": signature}]}).to_string(),
    ];
        let (presentable, odd): (Vec<String>, Vec<String>) = tokens
            .into_iter()
            .partition(|token| !token.contains(['\n', ' ']));
        are_nothing(server, &other, &presentable).await;
        for token in odd {
            assert!(server.verdict(&other, &token).await.is_err());
        }
        drop(thief);
    }
);

both!(j30_no_bit_can_be_flipped, async |server| {
    let good = server.admin().await.access_token;
    let mut flipped = Vec::new();
    for place in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            flipped.extend(String::from_utf8(bytes));
        }
    }
    assert!(flipped.len() > 5_000);
    let mut client = server.tokens().await;
    for tokens in flipped.chunks(256) {
        let request = proto::BatchIntrospectTokensRequest {
            tokens: tokens.to_vec(),
            ..Default::default()
        };
        let told = client
            .batch_introspect_tokens(as_caller(&good, request))
            .await
            .unwrap()
            .into_inner();
        assert!(
            told.introspections
                .iter()
                .all(|told| told.active == Some(false))
        );
    }
});

both!(
    j31_tokens_end_with_the_key_that_signed_them,
    async |server| {
        let good = server.admin().await.access_token;
        let prepared = Forger::with_stolen(server, State::Prepared, &good).await;
        let token = prepared.with_claims(prepared.claims.to_string());
        let stranger = Forger::with_own_key(&good);
        let mut before = "prepared";
        for (state, active) in [("retiring", true), ("retired", false), ("revoked", false)] {
            assert_eq!(
                server.verdict(&good, &token).await.is_ok(),
                state != "revoked"
            );
            server
                .sql(&format!(
                    "UPDATE signing_keys SET state = '{state}' WHERE state = '{before}'"
                ))
                .await;
            // A token of an unknown key has the keys read again, at most once a second.
            server.clock.advance(Duration::from_secs(2));
            assert!(
                server
                    .verdict(&good, &stranger.with_claims(stranger.claims.to_string()))
                    .await
                    .is_err()
            );
            assert_eq!(
                server.verdict(&good, &token).await.is_ok(),
                active,
                "{state}"
            );
            assert_eq!(server.who(&token).await.is_ok(), active, "{state}");
            let fresh = prepared.with_claim("jti", Some(state.into()));
            assert_eq!(
                server.verdict(&good, &fresh).await.is_ok(),
                active,
                "{state}"
            );
            before = state;
        }
        refused(
            server.rotate(rotate_request(&token)).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        assert_eq!(server.revoke(&token).await, None);
    }
);

both!(j33_a_call_carries_one_bearer_token, async |server| {
    let good = server.admin().await.access_token;
    let mut client = server.tokens().await;
    let comma = format!("Bearer {good},{good}");
    let cases: [(Vec<String>, &str); 13] = [
        (vec![format!("Bearer {good}")], ""),
        (vec![format!("bearer {good}")], ""),
        (vec![format!("BEARER {good}")], ""),
        (vec![], "CREDENTIALS_MISSING"),
        (
            vec![format!("Bearer {good}"), format!("Bearer {good}")],
            "CREDENTIALS_INVALID",
        ),
        (vec![comma], "CREDENTIALS_INVALID"),
        (vec![format!("Bearer  {good}")], "CREDENTIALS_INVALID"),
        (vec![format!("Token {good}")], "CREDENTIALS_INVALID"),
        (vec![good.clone()], "CREDENTIALS_INVALID"),
        (vec!["Bearer".to_owned()], "CREDENTIALS_INVALID"),
        (vec!["Bearer ".to_owned()], "CREDENTIALS_INVALID"),
        (vec![String::new()], "CREDENTIALS_INVALID"),
        (
            vec![format!(
                "Basic {}",
                STANDARD.encode(format!("admin:{}", server.admin_password))
            )],
            "CREDENTIALS_INVALID",
        ),
    ];
    for (values, why) in cases {
        let mut request = tonic::Request::new(proto::GetCallerIdentityRequest {});
        for value in &values {
            request
                .metadata_mut()
                .append("authorization", value.parse().unwrap());
        }
        let answer = client.get_caller_identity(request).await;
        if why.is_empty() {
            answer.unwrap();
        } else {
            refused(answer, Code::Unauthenticated, why);
        }
    }
});

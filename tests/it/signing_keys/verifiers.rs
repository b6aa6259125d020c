//! Verifiers that keep a key set for as long as they may, while keys rotate under load: no good token is ever refused.
//!
//! A verifier here is somebody else: it fetches the set as a service would, and checks tokens with a JWT library by another
//! hand than the server's, over other cryptography.

use std::{collections::BTreeSet, time::Duration};

use jwt_compact::{
    Algorithm, AlgorithmExt as _, UntrustedToken,
    alg::{Ed25519, Es256},
    jwk::{JsonWebKey, JwkError},
};
use serde::Deserialize as _;
use serde_json::{Value, json};
use token_authority::{
    authority::signing_keys::rotation,
    clock::{Clock, Timestamp},
    proto::SigningAlgorithm,
};

use super::{expiry_of, kid_of};
use crate::support::{Engine, Server, TestDatabase, key};

/// For how long a set may be kept, as its `max_age` says.
const MAX_AGE: Duration = Duration::from_mins(5);
const ISSUER: &str = "http://localhost:8080";

/// Fetches a set and keeps it until it is as old as may be.
struct Verifier {
    fetched: Timestamp,
    keys: Vec<Value>,
}

impl Verifier {
    async fn new(server: &Server) -> Self {
        let set: Value = serde_json::from_str(&server.jwks().await).unwrap();
        Self {
            fetched: server.clock.now(),
            keys: set["keys"].as_array().unwrap().clone(),
        }
    }

    async fn verify(&mut self, server: &Server, token: &str) -> Result<(), String> {
        if server.clock.now().since(self.fetched) > MAX_AGE {
            *self = Self::new(server).await;
        }
        let token = UntrustedToken::new(token).map_err(|error| error.to_string())?;
        let kid = token.header().key_id.clone().ok_or("it names no key")?;
        let mut keys = self.keys.iter();
        let key = keys.find(|key| key["kid"] == *kid);
        let key = key.ok_or(format!("{kid} is not known"))?;
        let jwk = JsonWebKey::deserialize(key).map_err(|error| error.to_string())?;
        let now = server.clock.now();
        match key["alg"].as_str() {
            Some("EdDSA") => check(&Ed25519, &jwk, &token, now),
            Some("ES256") => check(&Es256, &jwk, &token, now),
            other => Err(format!("{other:?}")),
        }
    }
}

/// Checks signature and claims.
fn check<A: Algorithm>(
    algorithm: &A,
    jwk: &JsonWebKey<'_>,
    token: &UntrustedToken<'_>,
    now: Timestamp,
) -> Result<(), String>
where
    for<'k> A::VerifyingKey: TryFrom<&'k JsonWebKey<'k>, Error = JwkError>,
{
    let key = A::VerifyingKey::try_from(jwk).map_err(|error| error.to_string())?;
    let token = algorithm.validator::<Value>(&key).validate(token);
    let token = token.map_err(|error| error.to_string())?;
    let claims = token.claims();
    let addressed = claims.custom["iss"] == ISSUER && claims.custom["aud"] == json!([ISSUER]);
    let expiry = claims.expiration.ok_or("it does not expire")?;
    // The library's clock would be the machine's, and not the test's.
    let in_time = expiry.timestamp() > now.seconds();
    (addressed && in_time)
        .then_some(())
        .ok_or(format!("{:?}", claims.custom))
}

/// The algorithm that a token says it was signed with.
fn algorithm_of(token: &str) -> String {
    UntrustedToken::new(token).unwrap().algorithm().to_owned()
}

/// One token's words under another one's signature.
fn forged(words: &str, signature: &str) -> String {
    let (words, _) = words.rsplit_once('.').unwrap();
    let (_, signature) = signature.rsplit_once('.').unwrap();
    format!("{words}.{signature}")
}

/// Rotates keys every hour while tokens are issued and verified; the tokens that are good.
async fn rotate_under_load(
    server: &Server,
    api_key: &str,
    verifiers: &mut [Verifier],
) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for minute in 0..190 {
        server.clock.advance(Duration::from_mins(1));
        let rotated = rotation::rotate(&server.authority);
        let (rotated, one, other) =
            tokio::join!(rotated, server.exchange(api_key), server.exchange(api_key));
        rotated.unwrap();
        tokens.extend([one.access_token, other.access_token]);
        for (number, verifier) in verifiers.iter_mut().enumerate() {
            // What is new, and something from before.
            let newest = tokens.len() - 1 - number % 2;
            for place in [newest, tokens.len() / 2, minute] {
                let verdict = verifier.verify(server, &tokens[place]).await;
                verdict.unwrap_or_else(|why| panic!("minute {minute}, verifier {number}: {why}"));
            }
        }
    }
    tokens
}

async fn no_verifier_refuses_a_good_token(engine: Engine) {
    let Some(database) = TestDatabase::create(engine).await else {
        eprintln!("skipped: TOKEN_AUTHORITY_TEST_POSTGRES names no server");
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let clock = Clock::set_to(Clock::system().now());
    let server = Server::start_in(database, data, clock, |settings| {
        settings.signing_keys.rotation_period = Duration::from_hours(1);
    })
    .await;
    let admin = server.admin().await.access_token;
    let (_, api_key) = server.made_key(&admin, key(&[])).await;
    // Both algorithms take their turn.
    server
        .prepare(&admin, SigningAlgorithm::Es256)
        .await
        .unwrap();
    let mut verifiers = Vec::new();
    for _ in 0..6 {
        verifiers.push(Verifier::new(&server).await);
        server.clock.advance(Duration::from_secs(50));
    }
    let tokens = Box::pin(rotate_under_load(&server, &api_key, &mut verifiers)).await;
    // Two tokens of one minute may be of two keys, in any order.
    let kids: BTreeSet<String> = tokens.iter().map(|token| kid_of(token)).collect();
    assert_eq!(kids.len(), 4, "three rotations");
    let algorithms: BTreeSet<String> = tokens.iter().map(|token| algorithm_of(token)).collect();
    assert_eq!(algorithms, ["ES256", "EdDSA"].map(str::to_owned).into());
    // A verifier that takes everything would refuse no good token either.
    for pair in tokens.windows(2).step_by(20) {
        let forged = forged(&pair[0], &pair[1]);
        verifiers[0].verify(&server, &forged).await.unwrap_err();
    }

    // Whatever is not expired is good, to the last minute, here and there.
    let mut judged = 0;
    for _ in 0..27 {
        server.clock.advance(Duration::from_hours(1));
        server.rotate_keys().await;
        let now = server.clock.now().seconds();
        let alive = tokens.iter().filter(|token| expiry_of(token) > now);
        let caller = server.admin().await.access_token;
        for token in alive.step_by(17) {
            verifiers[0].verify(&server, token).await.unwrap();
            server.verdict(&caller, token).await.unwrap();
            judged += 1;
        }
    }
    assert!(judged > 400, "{judged}");
    server.rotate_keys().await;
    let jwks = server.jwks().await;
    assert!(kids.iter().all(|kid| !jwks.contains(kid)), "all are over");
    let mut late = Verifier::new(&server).await;
    assert!(late.verify(&server, &tokens[0]).await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    Box::pin(no_verifier_refuses_a_good_token(Engine::Sqlite)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    Box::pin(no_verifier_refuses_a_good_token(Engine::Postgres)).await;
}

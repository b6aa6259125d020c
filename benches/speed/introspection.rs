//! How fast tokens are introspected.
//!
//! An *empty call* is answered by the same transport with the same settings and without layers, by a handler that reads a
//! request and writes an answer of the same messages and does nothing in between; an *opaque* one does not even look into the
//! messages, and is told for comparison.
//!
//! What the bare signature check allows for a JWT that was never seen is 1 / (time of an empty call + time of the check), both
//! by all cores together; the check is `jsonwebtoken::crypto::verify` with a prepared key in a loop on every core.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, DecodingKey};
use prost::Message as _;
use token_authority::proto::{
    BatchIntrospectTokensRequest, BatchIntrospectTokensResponse, IntrospectTokenRequest,
    IntrospectTokenResponse, TokenIntrospection,
};
use tokio::runtime::Runtime;
use tonic::codegen::Bytes;

use crate::{
    empty,
    load::Load,
    report::{Contender, Table, measure},
    server::{Server, cores},
};

pub(crate) const SINGLE: &str = "/tokenauthority.v1.TokenService/IntrospectToken";
const BATCH: &str = "/tokenauthority.v1.TokenService/BatchIntrospectTokens";
/// Tokens in a batch.
const BATCHED: usize = 128;
/// Different tokens that are introspected again and again.
const TOKENS: usize = 1_024;
const API_KEYS: usize = 64;
/// Revocations in force meanwhile.
pub(crate) const REVOKED: usize = 1_000;
/// How long a turn is.
const WINDOW: Duration = Duration::from_secs(1);
/// JWTs of one turn that were never seen.
const UNSEEN: usize = 12_000;

/// Where it is measured.
pub(crate) struct Bench<'a> {
    pub(crate) server: &'a Server,
    pub(crate) client: &'a Runtime,
    pub(crate) empties: &'a Runtime,
}

impl Bench<'_> {
    /// P1. Gives how many JWTs a second.
    pub(crate) fn singles(&self, table: &mut Table) -> f64 {
        let Self {
            server,
            client,
            empties,
        } = *self;
        let tokens = requests(&server.new_tokens(TOKENS));
        let keys = requests(&server.new_api_keys(API_KEYS));
        let load = |address| Load::new(client, address, SINGLE, &server.caller, 64);
        let real = load(server.address);
        let answer = active(real.once(&tokens[0]));
        let key_answer = active(real.once(&keys[0]));
        let opaque = load(empty::serve_opaque(empties, &answer));
        let same = load(messages(empties, &answer));
        let same_for_keys = load(messages(empties, &key_answer));
        let measured = measure(vec![
            Contender::new("empty", || same.for_a_while(&tokens, WINDOW)),
            Contender::new("jwt", || real.for_a_while(&tokens, WINDOW)),
            Contender::new("opaque", || opaque.for_a_while(&tokens, WINDOW)),
            Contender::new("empty for keys", || {
                same_for_keys.for_a_while(&keys, WINDOW)
            }),
            Contender::new("key", || real.for_a_while(&keys, WINDOW)),
        ]);
        let sizes = format!("{} B, {} B", tokens[0].len(), answer.len());
        table.line("P1 request and answer", &sizes, "");
        let per_second = measured.per_second("jwt");
        table.figure("P1 opaque call", measured.per_second("opaque"), "calls/s");
        table.figure("P1 empty call", measured.per_second("empty"), "calls/s");
        table.figure("P1 IntrospectToken, JWT remembered", per_second, "calls/s");
        table.figure(
            "P1 IntrospectToken, API key remembered",
            measured.per_second("key"),
            "calls/s",
        );
        table.ratio(
            "P1 JWT remembered / empty call",
            measured.ratio("jwt", "empty"),
            0.85,
        );
        let of_keys = measured.ratio("key", "empty for keys");
        table.ratio("P1 API key remembered / empty call", of_keys, 0.85);
        let of_opaque = format!("{:.2}", measured.ratio("jwt", "opaque"));
        table.line("P1 JWT remembered / opaque call", &of_opaque, "");
        per_second
    }

    /// P2.
    pub(crate) fn batches(&self, tokens_per_second: f64, table: &mut Table) {
        let Self {
            server,
            client,
            empties,
        } = *self;
        let tokens = server.new_tokens(BATCHED * 8);
        let batches: Arc<[Bytes]> = tokens.chunks(BATCHED).map(batch).collect();
        let load = |address| Load::new(client, address, BATCH, &server.caller, 8);
        let real = load(server.address);
        let answer = real.once(&batches[0]);
        let decoded = BatchIntrospectTokensResponse::decode(answer.clone()).unwrap();
        assert!(
            decoded
                .introspections
                .iter()
                .all(TokenIntrospection::active)
        );
        let same = load(empty::serve_messages::<
            BatchIntrospectTokensRequest,
            BatchIntrospectTokensResponse,
        >(empties, &answer));
        let opaque = load(empty::serve_opaque(empties, &answer));
        let measured = measure(vec![
            Contender::new("empty", || same.for_a_while(&batches, WINDOW)),
            Contender::new("batch", || real.for_a_while(&batches, WINDOW)),
            Contender::new("opaque", || opaque.for_a_while(&batches, WINDOW)),
        ]);
        let per_second = measured.per_second("batch");
        let in_a_batch = f64::from(u32::try_from(BATCHED).unwrap());
        table.figure(
            "P2 opaque batch",
            measured.per_second("opaque"),
            "batches/s",
        );
        table.figure("P2 empty batch", measured.per_second("empty"), "batches/s");
        table.figure("P2 BatchIntrospectTokens of 128", per_second, "batches/s");
        table.figure("P2 tokens", per_second * in_a_batch, "tokens/s");
        table.ratio(
            "P2 batch / empty batch",
            measured.ratio("batch", "empty"),
            0.6,
        );
        let of_opaque = format!("{:.2}", measured.ratio("batch", "opaque"));
        table.line("P2 batch / opaque batch", &of_opaque, "");
        table.ratio(
            "P2 tokens/s / P1's",
            per_second * in_a_batch / tokens_per_second,
            20.0,
        );
    }

    /// P3.
    pub(crate) fn unseen(&self, table: &mut Table) {
        let Self {
            server,
            client,
            empties,
        } = *self;
        let known = requests(&server.new_tokens(TOKENS));
        let load = |address| Load::new(client, address, SINGLE, &server.caller, 64);
        let real = load(server.address);
        let answer = active(real.once(&known[0]));
        let same = load(messages(empties, &answer));
        let checked = server.new_tokens(TOKENS);
        let key = prepared_key(server);
        let measured = measure(vec![
            Contender::new("empty", || same.for_a_while(&known, WINDOW)),
            Contender::new("unseen", || {
                let tokens = requests(&server.new_tokens(UNSEEN));
                real.each_once(&tokens)
            }),
            Contender::new("check", || checks(&checked, &key)),
        ]);
        table.figure("P3 empty call", measured.per_second("empty"), "calls/s");
        table.figure(
            "P3 bare signature check",
            measured.per_second("check"),
            "checks/s",
        );
        let allowed = |values: &[f64]| 1.0 / (1.0 / values[0] + 1.0 / values[1]);
        let allows = measured.within_rounds(&["empty", "check"], allowed);
        table.figure("P3 what the bare check allows", allows, "calls/s");
        let per_second = measured.per_second("unseen");
        table.figure("P3 IntrospectToken, JWT never seen", per_second, "calls/s");
        let ratio = measured.within_rounds(&["empty", "check", "unseen"], |values| {
            values[2] / allowed(values)
        });
        table.ratio("P3 JWT never seen / what the bare check allows", ratio, 0.8);
    }
}

fn messages(empties: &Runtime, answer: &Bytes) -> SocketAddr {
    empty::serve_messages::<IntrospectTokenRequest, IntrospectTokenResponse>(empties, answer)
}

pub(crate) fn requests(tokens: &[String]) -> Arc<[Bytes]> {
    let request = |token: &String| IntrospectTokenRequest {
        token: token.clone(),
        ..Default::default()
    };
    tokens
        .iter()
        .map(|token| request(token).encode_to_vec().into())
        .collect()
}

fn batch(tokens: &[String]) -> Bytes {
    let request = BatchIntrospectTokensRequest {
        tokens: tokens.to_vec(),
        ..Default::default()
    };
    request.encode_to_vec().into()
}

/// The answer, which must be a good one, or nothing is measured.
pub(crate) fn active(answer: Bytes) -> Bytes {
    let decoded = IntrospectTokenResponse::decode(answer.clone()).unwrap();
    assert!(decoded.introspection.unwrap().active());
    answer
}

fn prepared_key(server: &Server) -> DecodingKey {
    let published = server.authority.keyring.published();
    let active = server.authority.keyring.active().unwrap();
    let key = published.keys.get(active.id().as_str()).unwrap();
    DecodingKey::from_ed_der(key.public_bytes())
}

/// Checks signatures on every core for a while. How many a second.
fn checks(tokens: &[String], key: &DecodingKey) -> f64 {
    let begun = Instant::now();
    let counted: u32 = thread::scope(|scope| {
        let check = || {
            let mut count = 0;
            for token in tokens.iter().cycle() {
                if begun.elapsed() >= WINDOW {
                    break;
                }
                let (message, signature) = token.rsplit_once('.').unwrap();
                let message = message.as_bytes();
                let good = jsonwebtoken::crypto::verify(signature, message, key, Algorithm::EdDSA);
                assert!(good.unwrap());
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(check)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    f64::from(counted) / begun.elapsed().as_secs_f64()
}

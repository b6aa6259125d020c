//! How fast users sign in, beside bare argon2id on all cores; and whether the time of a failure tells who exists.
//!
//! Both hash with the same parameters. The bare one does nothing else, and uses the same memory again and again; how it fares
//! with fresh memory for each hash, as the library takes it by itself, is told for comparison.

use std::{
    hint::black_box,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use prost::Message as _;
use token_authority::proto::{IssueTokenResponse, token_service_client::TokenServiceClient};
use tokio::runtime::Runtime;
use tonic::{Code, codegen::Bytes};

use crate::{
    load::Load,
    report::{Contender, Table, measure},
    server::{CLERK, PASSWORD, Server, cores, sign_in_request, signers},
};

pub(crate) const PATH: &str = "/tokenauthority.v1.TokenService/IssueToken";
/// How long a turn is.
const WINDOW: Duration = Duration::from_secs(3);
/// How many pairs of attempts are timed.
const PAIRS: u16 = 2_000;

/// P5.
pub(crate) fn sign_ins(server: &Server, client: &Runtime, table: &mut Table) {
    let message = |name: &str| Bytes::from(sign_in_request(name, PASSWORD).encode_to_vec());
    let load = Load::new(client, server.address, PATH, &server.caller, cores() * 4);
    let answer = IssueTokenResponse::decode(load.once(&message(CLERK))).unwrap();
    assert!(answer.token.is_some());
    let messages: Arc<[Bytes]> = signers().map(|name| message(&name)).collect();
    let measured = measure(vec![
        Contender::new("fresh", || hashes(false)),
        Contender::new("sign-in", || load.for_a_while(&messages, WINDOW)),
        Contender::new("reused", || hashes(true)),
    ]);
    table.figure(
        "P5 bare argon2id, memory fresh",
        measured.per_second("fresh"),
        "hashes/s",
    );
    table.figure(
        "P5 bare argon2id, memory reused",
        measured.per_second("reused"),
        "hashes/s",
    );
    table.figure(
        "P5 IssueToken with a password",
        measured.per_second("sign-in"),
        "calls/s",
    );
    table.ratio(
        "P5 sign-in / bare argon2id, memory reused",
        measured.ratio("sign-in", "reused"),
        0.9,
    );
    let of_fresh = format!("{:.2}", measured.ratio("sign-in", "fresh"));
    table.line("P5 sign-in / bare argon2id, memory fresh", &of_fresh, "");
}

/// Whether a wrong password can be told from an unknown name by the time that the answer takes: pairs of attempts, one of each
/// kind, each at a name that was not tried before.
pub(crate) fn alike(server: &Server, client: &Runtime, table: &mut Table) {
    let pairs = usize::from(PAIRS);
    let users = server.many_users("tried", pairs);
    let mut times = [Vec::with_capacity(pairs), Vec::with_capacity(pairs)];
    client.block_on(async {
        let uri = format!("http://{}", server.address);
        let mut tokens = TokenServiceClient::connect(uri).await.unwrap();
        for (number, user) in users.iter().enumerate() {
            let unknown = format!("nobody.{number}");
            let mut pair = [(0, user), (1, &unknown)];
            pair.rotate_left(number % 2);
            for (kind, name) in pair {
                let request = sign_in_request(name, "not the right one, by far");
                let begun = Instant::now();
                let status = tokens.issue_token(request).await.unwrap_err();
                times[kind].push(begun.elapsed());
                assert_eq!(status.code(), Code::Unauthenticated);
            }
        }
    });
    for times in &mut times {
        times.sort_unstable();
    }
    let [wrong, unknown] = &times;
    for (what, times) in [("wrong password", wrong), ("unknown name", unknown)] {
        let at = |share: usize| times[pairs * share / 100].as_secs_f64() * 1e3;
        let figures = format!("{:.2} / {:.2} / {:.2} ms", at(10), at(50), at(90));
        table.line(&format!("sign-in, {what}: p10 / p50 / p90"), &figures, "");
    }
    // Two samples of one distribution differ by more once in a hundred times (Kolmogorov and Smirnov).
    let most = 1.63 * (2.0 / f64::from(PAIRS)).sqrt();
    let apart = furthest_apart(wrong, unknown);
    let told = if apart <= most { "alike" } else { "APART" };
    table.line(
        &format!("sign-in, {PAIRS} pairs: distance of the distributions"),
        &format!("{apart:.3}"),
        &format!("<= {most:.3}  {told}"),
    );
}

/// The largest difference between the shares of two sorted samples of one size that are no more than some value.
fn furthest_apart(one: &[Duration], other: &[Duration]) -> f64 {
    let share = |of: &[Duration], most| of.partition_point(|time| *time <= most);
    let apart = one
        .iter()
        .chain(other)
        .map(|value| share(one, *value).abs_diff(share(other, *value)))
        .max();
    f64::from(u16::try_from(apart.unwrap_or_default()).unwrap()) / f64::from(PAIRS)
}

/// Hashes on every core for a while. How many a second.
fn hashes(reuse: bool) -> f64 {
    let begun = Instant::now();
    let hash = || {
        let params = Params::new(19_456, 2, 1, None).unwrap();
        let mut memory = vec![Block::default(); if reuse { params.block_count() } else { 0 }];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let (password, salt, mut out) = (PASSWORD.as_bytes(), [7; 16], [0; 32]);
        let mut count = 0;
        while begun.elapsed() < WINDOW {
            let done = if reuse {
                argon2.hash_password_into_with_memory(password, &salt, &mut out, &mut memory)
            } else {
                argon2.hash_password_into(password, &salt, &mut out)
            };
            done.unwrap();
            black_box(&out);
            count += 1;
        }
        count
    };
    let counted: u32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(hash)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    f64::from(counted) / begun.elapsed().as_secs_f64()
}

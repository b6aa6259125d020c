//! How fast users sign in, beside bare argon2id on all cores.
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
use token_authority::proto::IssueTokenResponse;
use tokio::runtime::Runtime;
use tonic::codegen::Bytes;

use crate::{
    load::Load,
    report::{Contender, Table, measure},
    server::{CLERK, PASSWORD, Server, cores, sign_in_request},
};

const PATH: &str = "/tokenauthority.v1.TokenService/IssueToken";
/// How long a turn is.
const WINDOW: Duration = Duration::from_secs(3);

/// P5.
pub(crate) fn sign_ins(server: &Server, client: &Runtime, table: &mut Table) {
    let message: Bytes = sign_in_request(CLERK, PASSWORD).encode_to_vec().into();
    let load = Load::new(client, server.address, PATH, &server.caller, cores() * 4);
    let answer = IssueTokenResponse::decode(load.once(&message)).unwrap();
    assert!(answer.token.is_some());
    let messages: Arc<[Bytes]> = [message].into();
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

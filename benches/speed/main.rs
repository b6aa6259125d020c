//! How fast the server is, as ratios in one run: `cargo bench --bench speed`, or `cargo bench --bench speed -- P1 P5` for some.
//! What depends on the database is measured on PostgreSQL, too, where `TOKEN_AUTHORITY_BENCH_POSTGRES` names a server, like
//! `postgres://user@host/database`, on which databases may be made.
//!
//! Client and servers share the machine's cores. The client sends prepared bytes with the same credential to all of them, over
//! as many connections and with as many calls at a time; only the server differs. What is compared is measured in turns within
//! the same run, and the ratio is the median over the rounds.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails should say so and end"
)]
#![expect(clippy::print_stdout, reason = "that is what it is for")]

mod crowds;
mod database;
mod empty;
mod fan_out;
mod flood;
mod introspection;
mod keys;
mod listings;
mod load;
mod many_revocations;
mod opaque;
#[path = "../process.rs"]
mod process;
mod reach;
mod report;
mod revocations;
mod server;
mod sign_in;
mod subscriber;

use crate::{
    database::Engine,
    report::Table,
    server::{Server, runtime},
};

fn main() {
    // cargo itself says `--bench`.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    let (server, client, empties) = (Server::start(), runtime("client"), runtime("empty"));
    let mut table = Table::default();
    let bench = introspection::Bench {
        server: &server,
        client: &client,
        empties: &empties,
    };
    server.revoke(server.new_tokens(introspection::REVOKED));
    if wanted("P1") || wanted("P2") {
        let tokens_per_second = bench.singles(&mut table);
        bench.batches(tokens_per_second, &mut table);
    }
    if wanted("P3") {
        bench.unseen(&mut table);
    }
    if wanted("P5") {
        sign_in::sign_ins(&server, &client, &mut table);
        sign_in::alike(&server, &client, &mut table);
    }
    if wanted("P5") || wanted("flood") {
        flood::flood(&server, &client, &mut table);
    }
    for engine in Engine::to_measure() {
        if wanted("P6") {
            revocations::revocations(engine, &client, &mut table);
        }
        if wanted("P10") {
            keys::unremembered(engine, &client, &mut table);
        }
        if wanted("P7") {
            reach::reach(engine, &client, &mut table);
        }
        if wanted("P8") {
            many_revocations::in_force(engine, &client, &mut table);
        }
        if wanted("P9") {
            for subscribers in [1_000, 10_000] {
                fan_out::fan_out(engine, subscribers, &client, &mut table);
            }
        }
        if wanted("listings") {
            listings::listings(engine, &client, &mut table);
        }
    }
    table.print();
    // The servers have nothing to lose.
    client.shutdown_background();
    empties.shutdown_background();
}

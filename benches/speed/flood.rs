//! What a flood of sign-ins does: to introspection, to those who are turned away, and to the memory.
//!
//! As many sign-ins as ten times what the server managed just before come every second, each with the right password of
//! another user, whether or not answers come. Remembered tokens are introspected at a modest rate all the while, and in turns
//! without the flood. Each of the two loads has a thread of its own that sends prepared bytes; they take their share of the
//! cores that the server has, too, and of the memory: it is that of the process. A call's time is counted from when it is sent.

use std::{
    cell::RefCell,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use prost::Message as _;
use token_authority::authority::sign_in::hashing::HashingSettings;
use tokio::runtime::{Builder, Runtime};
use tonic::{Code, codegen::Bytes};

use crate::{
    introspection::{SINGLE, active, requests},
    load::{Answered, Load},
    report::{Contender, Table, measure},
    server::{PASSWORD, Server, cores, sign_in_request, signers},
    sign_in::PATH,
};

/// How long a turn is.
const WINDOW: Duration = Duration::from_secs(3);
/// How many tokens are introspected a second.
const INTROSPECTED: f64 = 500.0;
const TOKENS: usize = 256;
/// How many sign in, more than within one turn.
const USERS: usize = 20_000;
/// How many times more sign-ins come than the server manages.
const TOO_MANY: f64 = 10.0;
/// What one that waits for its turn may take, in KiB.
const OF_ONE_WAITING: usize = 64;

/// P5, the second half.
pub(crate) fn flood(server: &Server, client: &Runtime, table: &mut Table) {
    let managed = managed(server, client);
    let (flooding, asking) = (one_thread("flooding"), one_thread("asking"));
    let flood = Load::new(&flooding, server.address, PATH, &server.caller, 1);
    let users = server.many_users("flooding", USERS);
    let sign_ins: Vec<Bytes> = users.iter().map(|name| sign_in(name)).collect();
    let mut next = sign_ins.iter().cloned().cycle();
    let introspection = Load::new(&asking, server.address, SINGLE, &server.caller, 1);
    let tokens = requests(&server.new_tokens(TOKENS));
    for token in &*tokens {
        active(introspection.once(token));
    }
    let introspect = || {
        let mut tokens = tokens.iter().cloned().cycle();
        let answers = introspection.steadily(&mut tokens, INTROSPECTED, WINDOW);
        assert!(answers.iter().all(|answer| answer.code == Code::Ok));
        answers
    };
    let [quiet, flooded, signed_in] = [const { RefCell::new(Vec::new()) }; 3];
    let during_the_flood = || {
        thread::scope(|scope| {
            let (flood, next) = (&flood, &mut next);
            let flooding = scope.spawn(move || flood.steadily(next, managed * TOO_MANY, WINDOW));
            let p99 = noted(introspect(), &flooded);
            signed_in.borrow_mut().extend(flooding.join().unwrap());
            p99
        })
    };
    let before = resident();
    let (measured, peak) = with_peak(|| {
        measure(vec![
            Contender::new("quiet", || noted(introspect(), &quiet)),
            Contender::new("flooded", during_the_flood),
        ])
    });
    table.figure("P5 sign-ins before the flood", managed, "calls/s");
    table.figure("P5 sign-ins in the flood", managed * TOO_MANY, "calls/s");
    line(table, "P5 introspection, quiet", quiet.into_inner());
    line(table, "P5 introspection, flooded", flooded.into_inner());
    let ratio = measured.ratio("flooded", "quiet");
    table.at_most("P5 introspection p99, flooded / quiet", ratio, 2.0, "");
    tell_answers(table, signed_in.into_inner());
    tell_memory(table, [before, peak, resident()]);
}

/// How many sign-ins a second there are where each waits for the one before.
fn managed(server: &Server, client: &Runtime) -> f64 {
    let load = Load::new(client, server.address, PATH, &server.caller, cores() * 4);
    let messages: Arc<[Bytes]> = signers().map(|name| sign_in(&name)).collect();
    load.for_a_while(&messages, WINDOW)
}

fn sign_in(name: &str) -> Bytes {
    sign_in_request(name, PASSWORD).encode_to_vec().into()
}

fn one_thread(name: &str) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all();
    builder.build().unwrap()
}

/// Keeps the answers, and gives the p99 of their times, in milliseconds.
fn noted(answers: Vec<Answered>, all: &RefCell<Vec<Answered>>) -> f64 {
    all.borrow_mut().extend(&answers);
    at(&sorted(answers), 99)
}

fn sorted(answers: Vec<Answered>) -> Vec<Duration> {
    let mut times: Vec<_> = answers.into_iter().map(|answer| answer.time).collect();
    times.sort_unstable();
    times
}

fn at(times: &[Duration], share: usize) -> f64 {
    times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3
}

/// p50, p99 and the longest. Gives the p99.
fn line(table: &mut Table, what: &str, answers: Vec<Answered>) -> f64 {
    let times = sorted(answers);
    if times.is_empty() {
        table.line(what, "none", "");
        return 0.0;
    }
    let figures = [50, 99, 100].map(|share| format!("{:.2}", at(&times, share)));
    let figures = format!("{} ms", figures.join(" / "));
    table.line(&format!("{what}: p50 / p99 / longest"), &figures, "");
    at(&times, 99)
}

fn tell_answers(table: &mut Table, answers: Vec<Answered>) {
    let all = answers.len();
    let (good, refused): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| answer.code == Code::Ok);
    assert!(
        refused
            .iter()
            .all(|answer| answer.code == Code::ResourceExhausted)
    );
    let counts = format!("{} / {}", good.len(), refused.len());
    table.line(
        &format!("P5 flood of {all}: signed in / RESOURCE_EXHAUSTED"),
        &counts,
        "",
    );
    line(table, "P5 flood, signed in", good);
    let p99 = line(table, "P5 flood, refused", refused);
    table.at_most("P5 flood, refused: p99", p99, 100.0, "ms");
}

fn tell_memory(table: &mut Table, kib: [usize; 3]) {
    let hashing = HashingSettings::default();
    let memory = usize::try_from(hashing.memory_kib).unwrap() * hashing.concurrent;
    let most = memory + hashing.queue * OF_ONE_WAITING;
    let mib = |kib: usize| f64::from(u32::try_from(kib).unwrap()) / 1024.0;
    let [before, peak, after] = kib.map(mib);
    let figures = format!("{before:.0} / {peak:.0} / {after:.0} MiB");
    table.line("P5 flood, memory: before / peak / after", &figures, "");
    table.at_most(
        "P5 flood, memory: peak beyond before",
        peak - before,
        mib(most).round(),
        "MiB",
    );
}

/// Runs something, and says how much memory was resident at most meanwhile, in KiB.
fn with_peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = 0;
            while !over.load(Ordering::Relaxed) {
                peak = resident().max(peak);
                thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        let done = run();
        over.store(true, Ordering::Relaxed);
        (done, watching.join().unwrap())
    })
}

/// `VmRSS` of this process, in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

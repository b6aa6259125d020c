//! What an idle server takes, and how long it takes to be ready on an existing SQLite file: `cargo bench --bench idle`.
//!
//! The binary is started as a user starts it. Ready is when `/readyz` says so for the first time, counted from before the
//! process exists; memory is `VmRSS` two seconds later, the binary's own pages included.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails should say so and end"
)]
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const STARTS: usize = 11;
const TARGET_READY: Duration = Duration::from_millis(200);
const TARGET_MIB: f64 = 25.0;

fn main() {
    let data = tempfile::tempdir().unwrap();
    // The first start makes the file.
    let (first, _) = start(data.path());
    let mut runs: Vec<_> = (0..STARTS).map(|_| start(data.path())).collect();
    runs.sort_by_key(|(ready, _)| *ready);
    let (fastest, median, slowest) = (runs[0].0, runs[STARTS / 2].0, runs[STARTS - 1].0);
    let most = runs.iter().map(|(_, mib)| *mib).fold(0.0, f64::max);
    let met = |good| if good { "met" } else { "MISSED" };
    println!("P11 first start, making file and keys: ready after {first:?}");
    println!(
        "P11 ready on an existing file, {STARTS} starts: median {median:?}, {fastest:?} to {slowest:?}; target {TARGET_READY:?} {}",
        met(median <= TARGET_READY)
    );
    println!(
        "P11 idle memory, the most of them: {most:.1} MiB; target {TARGET_MIB} MiB {}",
        met(most <= TARGET_MIB)
    );
}

/// Starts a server, and ends it. When it was ready, and how many MiB it had then.
fn start(data: &Path) -> (Duration, f64) {
    let ops = free_address();
    let begun = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_token-authority"))
        .arg("serve")
        .arg("--data-dir")
        .arg(data)
        .env("TOKEN_AUTHORITY_GRPC_LISTEN", "127.0.0.1:0")
        .env("TOKEN_AUTHORITY_HTTP_LISTEN", "127.0.0.1:0")
        .env("TOKEN_AUTHORITY_OPS_LISTEN", ops.to_string())
        .env("TOKEN_AUTHORITY_SHUTDOWN_PAUSE", "0s")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !is_ready(ops) {
        assert!(server.try_wait().unwrap().is_none(), "the server ended");
        thread::sleep(Duration::from_millis(1));
    }
    let ready = begun.elapsed();
    thread::sleep(Duration::from_secs(2));
    let mib = resident_mib(&server);
    let end = Command::new("kill").arg(server.id().to_string()).status();
    assert!(end.unwrap().success());
    assert!(server.wait().unwrap().success());
    (ready, mib)
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn is_ready(ops: SocketAddr) -> bool {
    let asked = TcpStream::connect(ops).and_then(|mut stream| {
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    asked.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn resident_mib(server: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

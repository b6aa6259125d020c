//! The binary as a process of its own, as a user starts it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running server.
pub(crate) struct Process {
    child: Child,
    /// Where it serves gRPC.
    pub(crate) grpc: SocketAddr,
    /// When `/readyz` said so for the first time, counted from before the process existed.
    pub(crate) ready: Duration,
}

impl Process {
    /// Starts a server, and waits until it is ready. It is over the SQLite file in `data`, or over PostgreSQL where a URL says
    /// so, here or in the environment.
    pub(crate) fn start(data: &Path, database_url: Option<&str>) -> Self {
        let (grpc, ops) = (free_address(), free_address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(data)
            .env("TOKEN_AUTHORITY_GRPC_LISTEN", grpc.to_string())
            .env("TOKEN_AUTHORITY_HTTP_LISTEN", "127.0.0.1:0")
            .env("TOKEN_AUTHORITY_OPS_LISTEN", ops.to_string())
            .env("TOKEN_AUTHORITY_SHUTDOWN_PAUSE", "0s")
            // It is not a setting of the server's.
            .env_remove("TOKEN_AUTHORITY_BENCH_POSTGRES")
            .stderr(Stdio::null());
        if let Some(url) = database_url {
            command.env("TOKEN_AUTHORITY_DATABASE_URL", url);
        }
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        while !is_ready(ops) {
            assert!(child.try_wait().unwrap().is_none(), "the server ended");
            thread::sleep(Duration::from_millis(1));
        }
        Self {
            child,
            grpc,
            ready: begun.elapsed(),
        }
    }

    /// Ends it in good order.
    pub(crate) fn end(mut self) {
        let told = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        assert!(told.unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    /// `VmRSS`: the binary's own pages included.
    pub(crate) fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024.0
    }

    /// The processor time that it has taken.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&self.child.id().to_string())
    }
}

/// The processor time that a process has taken: user and system time of all its threads, of `/proc/…/stat`, in hundredths of a
/// second.
pub(crate) fn processor_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
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

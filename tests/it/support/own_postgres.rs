//! A PostgreSQL server of a test's own: to be stopped and started, and to be taken over from by a standby.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::chown, process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::TestDatabase;

/// Whose PostgreSQL is on machines that have it: it refuses to run as root.
const USER: &str = "postgres";

/// See the module. Stopped when dropped.
#[derive(Debug)]
pub(crate) struct OwnPostgres {
    programs: Programs,
    folder: TempDir,
    port: u16,
}

/// The programs of PostgreSQL, and as whom they run where the test runs as root.
#[derive(Debug, Clone)]
struct Programs {
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

impl OwnPostgres {
    /// Makes one that is as durable as it comes, and starts it; none where `TOKEN_AUTHORITY_TEST_POSTGRES_BIN` names no folder
    /// of its programs.
    pub(crate) fn start() -> Option<Self> {
        let server = Self::anywhere(Programs::find()?);
        let options = [
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--pgdata",
        ];
        server
            .programs
            .run("initdb", &[&options[..], &[&server.data()]].concat());
        server.start_again();
        Some(server)
    }

    /// Starts a standby that is sent the log by way of a port of this machine.
    pub(crate) fn standby(&self, port: u16) -> Self {
        let standby = Self::anywhere(self.programs.clone());
        let source = format!("host=127.0.0.1 port={port} user=postgres");
        let options = [
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "--dbname",
            &source,
            "--pgdata",
            &standby.data(),
        ];
        standby.programs.run("pg_basebackup", &options);
        standby.start_again();
        standby
    }

    /// Ends every process of it where it is, as a crash does.
    pub(crate) fn crash(&self) {
        let options = ["stop", "-w", "-s", "-m", "immediate", "-D", &self.data()];
        self.programs.run("pg_ctl", &options);
    }

    /// Starts it after it ended, and waits until it takes connections.
    pub(crate) fn start_again(&self) {
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200",
            self.port
        );
        let (data, log) = (self.data(), self.folder.path().join("log"));
        let log = log.display().to_string();
        let options = [
            "start", "-w", "-s", "-D", &data, "-l", &log, "-o", &settings,
        ];
        self.programs.run("pg_ctl", &options);
    }

    /// Makes a primary of a standby, and waits until it is one.
    pub(crate) fn promote(&self) {
        let options = ["promote", "-w", "-s", "-D", &self.data()];
        self.programs.run("pg_ctl", &options);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its only database.
    pub(crate) fn database(&self) -> TestDatabase {
        TestDatabase::at(format!("postgres://postgres@{}/postgres", self.address()))
    }

    fn anywhere(programs: Programs) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = programs.user {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        Self {
            programs,
            folder,
            port: free_port(),
        }
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if self.folder.path().join("data/postmaster.pid").exists() {
            self.crash();
        }
    }
}

impl Programs {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests have no configuration but this"
    )]
    fn find() -> Option<Self> {
        let folder = std::env::var_os("TOKEN_AUTHORITY_TEST_POSTGRES_BIN")?;
        Some(Self {
            folder: folder.into(),
            user: geteuid().is_root().then(ids_of_user),
        })
    }

    /// Runs one to its end, which must be a good one.
    fn run(&self, program: &str, options: &[&str]) {
        let mut command = Command::new(self.folder.join(program));
        command.args(options).current_dir("/").stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        // Others of the test go on meanwhile.
        let ended = tokio::task::block_in_place(|| command.output().unwrap());
        assert!(ended.status.success(), "{program} {options:?}: {ended:?}");
    }
}

/// The user's and the group's.
fn ids_of_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let mut lines = users.lines().map(|line| line.split(':'));
    let mut fields = lines
        .find_map(|mut fields| (fields.next() == Some(USER)).then_some(fields))
        .expect("a user by whom PostgreSQL runs")
        .skip(1)
        .map(|id| id.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

/// A port that is still free when PostgreSQL starts again: not one of those that connections are given.
fn free_port() -> u16 {
    loop {
        let drawn = u16::from_be_bytes(token_authority::random::bytes().unwrap());
        let port = 10_000 + drawn % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

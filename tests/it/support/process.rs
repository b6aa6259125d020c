//! The server as a process of its own, to be killed.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use token_authority::proto::{
    api_key_service_client::ApiKeyServiceClient,
    revocation_service_client::RevocationServiceClient, token_service_client::TokenServiceClient,
};
use tonic::transport::Channel;

use super::{Engine, STARTS_WITHIN, TestDatabase};

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Mutex<Child>,
    /// From its start until it said where it listens.
    pub(crate) started_in: Duration,
    grpc: String,
}

impl Process {
    /// Starts a server, and waits until it says where it listens. What it said instead where it ends.
    pub(crate) fn start(database: &TestDatabase, data: &Path) -> Result<Self, String> {
        Self::start_with(database, data, &[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(
        database: &TestDatabase,
        data: &Path,
        environment: &[(&str, PathBuf)],
    ) -> Result<Self, String> {
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
        command
            .args(["serve", "--data-dir"])
            .arg(data)
            .env_clear()
            .env("TOKEN_AUTHORITY_GRPC_LISTEN", "127.0.0.1:0")
            .env("TOKEN_AUTHORITY_HTTP_LISTEN", "off")
            .env("TOKEN_AUTHORITY_OPS_LISTEN", "off")
            .env("TOKEN_AUTHORITY_LOG_FORMAT", "json")
            .env("TOKEN_AUTHORITY_ARGON2_MAX_WAIT", "30s")
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(url) = database.url() {
            command.env("TOKEN_AUTHORITY_DATABASE_URL", url);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            if let Some(grpc) = listening(&line) {
                // What else it says is read, so that it never waits for a reader.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self {
                    child: Mutex::new(child),
                    started_in: begun.elapsed(),
                    grpc,
                });
            }
            said.push_str(&line);
            said.push('\n');
        }
        said.push_str(&child.wait().unwrap().to_string());
        Err(said)
    }

    /// The same, and again where PostgreSQL is too busy to let it in.
    pub(crate) async fn start_at_last(
        database: &TestDatabase,
        data: &Path,
        environment: &[(&'static str, PathBuf)],
    ) -> Self {
        let end = Instant::now() + STARTS_WITHIN;
        loop {
            let (database, data) = (database.shared(), data.to_owned());
            let (engine, environment) = (database.engine(), environment.to_vec());
            let starting = tokio::task::spawn_blocking(move || {
                Self::start_with(&database, &data, &environment)
            });
            match starting.await.unwrap() {
                Ok(process) => return process,
                Err(said) => {
                    let is_busy = engine == Engine::Postgres && is_unavailable(&said);
                    assert!(is_busy && Instant::now() < end, "it ends: {said}");
                }
            }
        }
    }

    /// Ends it as the kernel does when memory runs out: nothing of it gets to do anything more.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What the kernel knows it by.
    pub(crate) fn id(&self) -> u32 {
        self.child().id()
    }

    /// Asks it to end.
    pub(crate) fn end(&self) {
        self.signal(Signal::TERM);
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    /// Stops it where it is, as a debugger or a machine that is moved does.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on as if nothing had been.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child().id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn connect(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// Connects when it is first asked, and again where the connection was lost.
    pub(crate) fn connect_lazily(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc))
            .unwrap()
            .connect_lazy()
    }

    pub(crate) async fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.connect().await)
    }

    pub(crate) async fn api_keys(&self) -> ApiKeyServiceClient<Channel> {
        ApiKeyServiceClient::new(self.connect().await)
    }

    pub(crate) async fn revocations(&self) -> RevocationServiceClient<Channel> {
        RevocationServiceClient::new(self.connect().await)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already where it was killed.
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Whether a server ended since PostgreSQL was not available, by its exit code.
fn is_unavailable(said: &str) -> bool {
    said.ends_with("exit status: 5")
}

/// Where gRPC is served, if that is what a line says.
fn listening(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let found = ["/listen.grpc", "/fields/listen.grpc"]
        .into_iter()
        .find_map(|path| line.pointer(path))?;
    found.as_str().map(str::to_owned)
}

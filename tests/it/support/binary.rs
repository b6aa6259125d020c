//! The real binary, as a process of a test's own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};
use tempfile::TempDir;
use token_authority::proto::{self, token_service_client::TokenServiceClient};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{as_caller, password_request};

/// Longer than a process takes to start or to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server that runs in a process of its own; killed when dropped.
pub(crate) struct Binary {
    child: Option<Child>,
    log: Arc<Mutex<String>>,
    logging: Option<JoinHandle<()>>,
    /// Where gRPC is served.
    pub(crate) grpc: SocketAddr,
    /// Where HTTP is served.
    pub(crate) http: SocketAddr,
    /// Where metrics and probes are served.
    pub(crate) ops: SocketAddr,
    /// Its data directory.
    pub(crate) data: TempDir,
    /// Its certificate and the authority's as PEM, where it speaks TLS.
    certificate: Option<String>,
}

/// A run of the binary with these arguments and no other variables than these.
pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
    command.args(arguments).env_clear();
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(arguments, variables).output().unwrap()
}

/// `serve` on free ports, out of this data directory.
pub(crate) fn serve(data: &Path, variables: &[(&str, &str)]) -> Command {
    let mut serve = command(&["serve"], &[("TOKEN_AUTHORITY_SHUTDOWN_PAUSE", "0s")]);
    for listener in ["GRPC", "HTTP", "OPS"] {
        serve.env(format!("TOKEN_AUTHORITY_{listener}_LISTEN"), "127.0.0.1:0");
    }
    serve.env("TOKEN_AUTHORITY_DATA_DIR", data);
    // A slow machine is no test's concern.
    serve.env("TOKEN_AUTHORITY_ARGON2_MAX_WAIT", "30s");
    serve.envs(variables.iter().copied());
    serve
}

impl Binary {
    /// Starts a server with these variables, and waits until it serves.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        Self::start_in(data, variables).await
    }

    /// Starts a server in a data directory that may hold one already, and waits until it serves.
    pub(crate) async fn start_in(data: TempDir, variables: &[(&str, &str)]) -> Self {
        let mut serve = serve(data.path(), variables);
        let certificate = variables
            .iter()
            .find(|(name, _)| *name == "TOKEN_AUTHORITY_TLS_CERTIFICATE_FILE")
            .map(|(_, path)| std::fs::read_to_string(path).unwrap());
        let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (announce, announced) = oneshot::channel();
        let kept = Arc::clone(&log);
        let logging = std::thread::spawn(move || keep(stderr, &kept, announce));
        let listening = timeout(PATIENCE, announced).await.expect("it listens");
        let Ok([grpc, http, ops]) = listening else {
            panic!("it did not start: {}", log.lock().unwrap());
        };
        let server = Self {
            child: Some(child),
            log,
            logging: Some(logging),
            grpc,
            http,
            ops,
            data,
            certificate,
        };
        timeout(PATIENCE, server.serving())
            .await
            .expect("it serves");
        server
    }

    async fn serving(&self) {
        let mut health = HealthClient::new(self.connect().await);
        let watched = health.watch(HealthCheckRequest::default()).await.unwrap();
        let mut states = watched.into_inner();
        while states.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        let Some(certificate) = &self.certificate else {
            let endpoint = Channel::from_shared(format!("http://{}", self.grpc));
            return endpoint.unwrap().connect().await.unwrap();
        };
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate));
        let endpoint = Channel::from_shared(format!("https://{}", self.grpc)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// The first password of `admin`.
    pub(crate) fn admin_password(&self) -> String {
        let path = self.data.path().join("bootstrap-password");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// A JWT of `admin`.
    pub(crate) async fn admin_token(&self) -> String {
        let request = password_request("admin", &self.admin_password(), "");
        let mut tokens = TokenServiceClient::new(self.connect().await);
        let answer = tokens.issue_token(request).await.unwrap().into_inner();
        answer.token.unwrap().access_token
    }

    /// Says that the next 100 calls of a new client succeed.
    pub(crate) async fn survives(&self, token: &str) {
        survives(self.connect().await, token).await;
    }

    /// How much memory it has, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let resident = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = resident.unwrap().split_ascii_whitespace().nth(1).unwrap();
        kilobytes.parse::<usize>().unwrap() * 1024
    }

    /// How much processor time it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        // Linux tells everybody hundredths of a second, whatever it counts by itself.
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let (_, behind_the_name) = stat.rsplit_once(')').unwrap();
        // `utime` and `stime` are the 14th and the 15th field; the first one here is the 3rd.
        let ticks = behind_the_name.split_ascii_whitespace().skip(11).take(2);
        TICK * ticks.map(|ticks| ticks.parse::<u32>().unwrap()).sum()
    }

    /// Leaves it so many file descriptors beside those that it has.
    pub(crate) fn leave_descriptors(&self, spare: u64) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let limit = Rlimit {
            current: Some(open.count() as u64 + spare),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        let id = Pid::from_child(self.child.as_ref().unwrap());
        prlimit(Some(id), Resource::Nofile, limit).unwrap();
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(id, Signal::TERM).unwrap();
    }

    /// Waits until its log has this text.
    pub(crate) async fn says(&self, text: &str) {
        let saying = async {
            while !self.log.lock().unwrap().contains(text) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, saying).await.expect("it says so");
    }

    /// Waits until the process has ended; what it said, and its data directory.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String, TempDir) {
        let mut child = self.child.take().unwrap();
        let logging = self.logging.take().unwrap();
        let waiting = tokio::task::spawn_blocking(move || {
            let status = child.wait().unwrap();
            logging.join().unwrap();
            status
        });
        let status = timeout(PATIENCE, waiting).await.expect("it ends").unwrap();
        let log = self.log.lock().unwrap().clone();
        let data = std::mem::replace(&mut self.data, tempfile::tempdir().unwrap());
        (status, log, data)
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            let _gone = child.wait();
        }
    }
}

/// Says that the next 100 calls on a connection succeed.
pub(crate) async fn survives(channel: Channel, token: &str) {
    serves(channel, token).await.unwrap();
}

/// Whether the next 100 calls on a connection succeed; the first failure where they do not.
pub(crate) async fn serves(channel: Channel, token: &str) -> Result<(), Status> {
    let mut tokens = TokenServiceClient::new(channel);
    for _ in 0..100 {
        let request = proto::IntrospectTokenRequest {
            token: token.to_owned(),
            ..Default::default()
        };
        let answer = tokens.introspect_token(as_caller(token, request)).await?;
        let told = answer.into_inner().introspection.unwrap();
        assert_eq!(told.active, Some(true));
    }
    Ok(())
}

/// Lets this process, and those that it starts, have as many descriptors as it may.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

fn keep(stderr: ChildStderr, log: &Mutex<String>, announce: oneshot::Sender<[SocketAddr; 3]>) {
    let mut announce = Some(announce);
    let mut lines = BufReader::new(stderr);
    loop {
        let mut line = String::new();
        if lines.by_ref().read_line(&mut line).unwrap() == 0 {
            return;
        }
        if let Some(addresses) = listening(&line)
            && let Some(announce) = announce.take()
        {
            let _nobody_waits = announce.send(addresses);
        }
        log.lock().unwrap().push_str(&line);
    }
}

fn listening(line: &str) -> Option<[SocketAddr; 3]> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| line.get(name)?.as_str()?.parse().ok();
    Some([
        address("listen.grpc")?,
        address("listen.http")?,
        address("listen.ops")?,
    ])
}

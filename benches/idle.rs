//! What an idle server takes, and how long it takes to be ready on an existing SQLite file: `cargo bench --bench idle`.
//!
//! The binary is started as a user starts it. Ready is when `/readyz` says so for the first time, counted from before the
//! process exists; memory is `VmRSS` two seconds later, the binary's own pages included. Then a thousand streams that nothing
//! happens on are opened, and the processor time counted that the server takes for their heartbeats. Like any server, this one
//! is over PostgreSQL where `TOKEN_AUTHORITY_DATABASE_URL` says so.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails should say so and end"
)]
#![expect(clippy::print_stdout, reason = "that is what it is for")]

mod process;

use std::{path::Path, thread, time::Duration};

use token_authority::proto::{
    self, issue_token_request::Credential, revocation_service_client::RevocationServiceClient,
    token_service_client::TokenServiceClient, watch_revocations_response::Message,
};
use tonic::{
    Request, Streaming,
    transport::{Channel, Endpoint},
};

use crate::process::Process;

const STARTS: usize = 11;
const STREAMS: usize = 1000;
const STREAMS_PER_CONNECTION: usize = 100;
const WATCHED: Duration = Duration::from_secs(20);
const TARGET_READY: Duration = Duration::from_millis(200);
const TARGET_MIB: f64 = 25.0;

fn main() {
    let data = tempfile::tempdir().unwrap();
    // The first start makes the file.
    let (first, _) = start_and_end(data.path());
    let mut runs: Vec<_> = (0..STARTS).map(|_| start_and_end(data.path())).collect();
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
    let (alone, watched) = watch(data.path());
    println!(
        "processor time of {WATCHED:?}: {alone:?} without a stream, {watched:?} with {STREAMS} idle ones"
    );
}

/// Starts a server, and ends it. When it was ready, and how many MiB it had then.
fn start_and_end(data: &Path) -> (Duration, f64) {
    let server = Process::start(data, None);
    thread::sleep(Duration::from_secs(2));
    let figures = (server.ready, server.resident_mib());
    server.end();
    figures
}

/// The processor time that a server takes without a stream, and with many.
fn watch(data: &Path) -> (Duration, Duration) {
    let server = Process::start(data, None);
    let alone = processor_time_over(&server, WATCHED);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = format!("http://{}", server.grpc);
    let password = std::fs::read_to_string(data.join("bootstrap-password")).unwrap();
    let streams = runtime.block_on(open_streams(&address, password.trim()));
    for mut stream in streams {
        runtime.spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
    }
    let watched = processor_time_over(&server, WATCHED);
    drop(runtime);
    server.end();
    (alone, watched)
}

/// Streams that have caught up.
async fn open_streams(
    address: &str,
    password: &str,
) -> Vec<Streaming<proto::WatchRevocationsResponse>> {
    let connect = async || {
        let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
        endpoint.connect().await.unwrap()
    };
    let token = sign_in(connect().await, password).await;
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS / STREAMS_PER_CONNECTION {
        let mut client = RevocationServiceClient::new(connect().await);
        for _ in 0..STREAMS_PER_CONNECTION {
            let mut request = Request::new(proto::WatchRevocationsRequest::default());
            let header = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", header);
            let opened = client.watch_revocations(request).await;
            let mut stream = opened.unwrap().into_inner();
            let caught_up = |message: &_| matches!(message, Some(Message::CaughtUp(_)));
            while !caught_up(&stream.message().await.unwrap().unwrap().message) {}
            streams.push(stream);
        }
    }
    streams
}

async fn sign_in(channel: Channel, password: &str) -> String {
    let credential = proto::PasswordCredential {
        username: "admin".to_owned(),
        password: password.to_owned(),
    };
    let request = proto::IssueTokenRequest {
        credential: Some(Credential::Password(credential)),
        ..Default::default()
    };
    let issued = TokenServiceClient::new(channel).issue_token(request).await;
    issued.unwrap().into_inner().token.unwrap().access_token
}

/// How much of the processors a server takes in a while.
fn processor_time_over(server: &Process, span: Duration) -> Duration {
    let before = server.processor_time();
    thread::sleep(span);
    server.processor_time().saturating_sub(before)
}

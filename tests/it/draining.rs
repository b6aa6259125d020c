//! How a process ends at SIGTERM: streams are told, calls are finished, and whoever says nothing holds nobody up.

use std::time::{Duration, Instant};

use prost::Message as _;
use token_authority::proto::{
    self, revocation_service_client::RevocationServiceClient,
    signing_key_service_client::SigningKeyServiceClient,
    watch_revocations_response::Message as Told,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{Code, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    as_caller,
    binary::{Binary, serves},
    reason,
    wire::{
        Connection, DATA, END_HEADERS, END_STREAM, HEADERS, NO_FLAG, call_fields, frame, message,
    },
};

const INTROSPECT: &str = "/tokenauthority.v1.TokenService/IntrospectToken";

async fn watch(channel: Channel, token: &str) -> Streaming<proto::WatchRevocationsResponse> {
    let request = as_caller(token, proto::WatchRevocationsRequest::default());
    let mut client = RevocationServiceClient::new(channel);
    client
        .watch_revocations(request)
        .await
        .unwrap()
        .into_inner()
}

/// Reads a stream to its end; whether it was told that it is closing, and how long to stay away.
async fn told_to_go(mut stream: Streaming<proto::WatchRevocationsResponse>) -> bool {
    let mut closing = false;
    loop {
        match stream.message().await {
            Ok(Some(message)) => closing |= matches!(message.message, Some(Told::Closing(_))),
            Ok(None) => return closing,
            Err(status) => panic!("{status:?}"),
        }
    }
}

/// An introspection of which half has been sent.
struct HalfSent {
    connection: Connection,
    rest: Vec<u8>,
}

impl HalfSent {
    async fn begin(server: &Binary, token: &str) -> Self {
        let mut connection = Connection::open(server.grpc).await;
        let credential = format!("Bearer {token}");
        let block = call_fields(INTROSPECT, &[("authorization", &credential)]);
        let request = proto::IntrospectTokenRequest {
            token: token.to_owned(),
            ..Default::default()
        };
        let message = message(&request);
        let (first, rest) = message.split_at(message.len() / 2);
        let begin = frame(HEADERS, END_HEADERS, 1, &block);
        connection.send(&begin).await;
        connection.send(&frame(DATA, NO_FLAG, 1, first)).await;
        connection.settle().await;
        Self {
            connection,
            rest: rest.to_vec(),
        }
    }

    async fn finish(mut self) -> proto::IntrospectTokenResponse {
        let end = frame(DATA, END_STREAM, 1, &self.rest);
        self.connection.send(&end).await;
        let data = self.connection.next_of(DATA).await;
        proto::IntrospectTokenResponse::decode(&data.payload[5..]).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_sigterm_streams_are_told_calls_are_finished_and_nobody_is_waited_for() {
    let server = Binary::start(&[]).await;
    let token = server.admin_token().await;
    let mut silent = TcpStream::connect(server.grpc).await.unwrap();
    let idle = Connection::open(server.grpc).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = watch(server.connect().await, &token).await;
        stream.message().await.unwrap().unwrap();
        streams.push(stream);
    }
    let mut keys = SigningKeyServiceClient::new(server.connect().await);
    let request = proto::WatchJwksRequest::default();
    let mut keys = keys.watch_jwks(request).await.unwrap().into_inner();
    keys.message().await.unwrap().unwrap();
    let half_sent = HalfSent::begin(&server, &token).await;

    let asked = Instant::now();
    server.terminate();
    for stream in streams {
        assert!(told_to_go(stream).await);
    }
    while let Ok(Some(_)) = keys.message().await {}
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    let answer = half_sent.finish().await.introspection.unwrap();
    assert_eq!(answer.active, Some(true));
    let (status, log, _data) = server.ended().await;
    assert!(status.success(), "{status}: {log}");
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        log.contains("\"ended\"") && !log.contains("the time is up"),
        "{log}"
    );
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_never_ends_is_cut_when_the_time_is_up() {
    let limits = [
        ("TOKEN_AUTHORITY_SHUTDOWN_TIMEOUT", "1s"),
        ("TOKEN_AUTHORITY_LIMITS_REQUEST_TIMEOUT", "10m"),
    ];
    let server = Binary::start(&limits).await;
    let token = server.admin_token().await;
    let half_sent = HalfSent::begin(&server, &token).await;
    let asked = Instant::now();
    server.terminate();
    let (status, log, _data) = server.ended().await;
    assert!(status.success(), "{status}: {log}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert!(log.contains("the time is up"), "{log}");
    drop(half_sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_it_at_once() {
    let limits = [
        ("TOKEN_AUTHORITY_SHUTDOWN_TIMEOUT", "10m"),
        ("TOKEN_AUTHORITY_LIMITS_REQUEST_TIMEOUT", "10m"),
    ];
    let server = Binary::start(&limits).await;
    let token = server.admin_token().await;
    let half_sent = HalfSent::begin(&server, &token).await;
    let stream = watch(server.connect().await, &token).await;
    server.terminate();
    assert!(told_to_go(stream).await);
    let insisted = Instant::now();
    server.terminate();
    let (_, log, _data) = server.ended().await;
    assert!(insisted.elapsed() < Duration::from_secs(5), "{log}");
    assert!(log.contains("ending at once"), "{log}");
    drop(half_sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_so_before_anything_is_closed() {
    // On a busy machine the pause may be over before all calls are made.
    for _ in 0..3 {
        if serves_while_health_says_no().await {
            return;
        }
    }
    panic!("three times nobody was served to the end in a pause");
}

/// False where a call came after the pause.
async fn serves_while_health_says_no() -> bool {
    const PAUSE: Duration = Duration::from_secs(3);
    let pause = [("TOKEN_AUTHORITY_SHUTDOWN_PAUSE", "3s")];
    let server = Binary::start(&pause).await;
    let token = server.admin_token().await;
    let channel = server.connect().await;
    let mut watched = Vec::new();
    for service in ["", "tokenauthority.v1.TokenService"] {
        let service = service.to_owned();
        let mut health = HealthClient::new(channel.clone());
        let states = health.watch(HealthCheckRequest { service }).await.unwrap();
        let mut states = states.into_inner();
        let now = states.message().await.unwrap().unwrap().status();
        assert_eq!(now, ServingStatus::Serving);
        watched.push(states);
    }
    let asked = Instant::now();
    server.terminate();
    for states in &mut watched {
        let now = states.message().await.unwrap().unwrap().status();
        assert_eq!(now, ServingStatus::NotServing);
    }
    // Clients that have not noticed yet, and new ones, are still served.
    let new = Channel::from_shared(format!("http://{}", server.grpc)).unwrap();
    if let Err(status) = serves(new.connect_lazy(), &token).await {
        assert!(asked.elapsed() >= PAUSE, "{status:?}");
        return false;
    }
    for mut states in watched {
        let status = states.message().await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::Unavailable, "DRAINING".to_owned())
        );
    }
    let (status, log, _data) = server.ended().await;
    assert!(status.success(), "{log}");
    true
}

mod gates;

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use ::http::{HeaderMap, Request, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::Bytes,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;
use tower::Service;

use self::gates::Gates;
use super::*;
use crate::proto::{GetServerInfoRequest, system_service_client::SystemServiceClient};

/// Longer than anything here takes; a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    ops: SocketAddr,
    gates: Gates,
    ready: watch::Sender<bool>,
    shutdown: Shutdown,
    served: JoinHandle<Result<()>>,
}

async fn running(change: impl FnOnce(&mut Settings)) -> Running {
    let mut settings = Settings::default();
    for listen in [
        &mut settings.grpc.listen,
        &mut settings.http.listen,
        &mut settings.ops.listen,
    ] {
        *listen = Listen::loopback(0);
    }
    settings.shutdown.pause = Duration::ZERO;
    settings.shutdown.timeout = PATIENCE * 3;
    change(&mut settings);
    crate::telemetry::metrics::start();
    let listeners = Listeners::bind(&settings).await.unwrap();
    let (address, ops) = (
        listeners.grpc_address().unwrap(),
        listeners.ops_address().unwrap(),
    );
    let (life, gates, shutdown) = (Life::default(), Gates::default(), Shutdown::new());
    let ready = life.ready.clone();
    let services = Services {
        grpc: Routes::default(),
        authentication: gates.clone(),
        jwks: watch::channel(None).1,
    };
    let told = shutdown.clone();
    #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
    let served =
        tokio::spawn(async move { serve(&settings, listeners, told, life, services).await });
    Running {
        address,
        ops,
        gates,
        ready,
        shutdown,
        served,
    }
}

impl Running {
    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn ended(self) {
        let served = timeout(PATIENCE, self.served).await;
        served.expect("it ends by itself").unwrap().unwrap();
    }
}

async fn call(channel: &Channel, test: &'static str) -> Result<HeaderMap, Status> {
    let mut request = tonic::Request::new(GetServerInfoRequest {});
    request
        .metadata_mut()
        .insert("x-test", test.parse().unwrap());
    let mut client = SystemServiceClient::new(channel.clone());
    let response = client.get_server_info(request).await?;
    Ok(response.metadata().clone().into_headers())
}

fn begin(channel: &Channel, test: &'static str) -> JoinHandle<Result<HeaderMap, Status>> {
    let channel = channel.clone();
    #[expect(clippy::disallowed_methods, reason = "the test awaits or aborts it")]
    tokio::spawn(async move { call(&channel, test).await })
}

async fn pass(gate: &Semaphore) {
    timeout(PATIENCE, gate.acquire())
        .await
        .unwrap()
        .unwrap()
        .forget();
}

fn reason_of(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut response))
        .await
        .unwrap()
        .unwrap();
    response
}

#[tokio::test]
async fn health_and_readiness_follow_the_server() {
    let server = running(|_| ()).await;
    let mut health = HealthClient::new(server.channel().await);
    let service = "tokenauthority.v1.TokenService".to_owned();
    let request = HealthCheckRequest { service };
    let status = health.check(request.clone()).await.unwrap();
    assert_eq!(status.get_ref().status(), ServingStatus::NotServing);
    assert!(get(server.ops, "/readyz").await.starts_with("HTTP/1.1 503"));

    let mut watched = health.watch(request).await.unwrap().into_inner();
    assert_eq!(
        watched.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    server.ready.send_replace(true);
    let now = timeout(PATIENCE, watched.message()).await.unwrap();
    assert_eq!(now.unwrap().unwrap().status(), ServingStatus::Serving);
    assert!(get(server.ops, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get(server.ops, "/livez").await.starts_with("HTTP/1.1 200"));
    let metrics = get(server.ops, "/metrics").await;
    assert!(
        metrics.contains("# HELP token_authority_calls_total"),
        "{metrics}"
    );
    server.shutdown.ask();
    server.ended().await;
}

#[tokio::test]
async fn reflection_shows_comments_and_error_details() {
    let server = running(|_| ()).await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    for (symbol, part) in [
        ("tokenauthority.v1.TokenService", "revocation stream"),
        ("google.rpc.ErrorInfo", "domain"),
        ("grpc.health.v1.Health", "Check"),
        (
            "grpc.reflection.v1.ServerReflection",
            "ServerReflectionInfo",
        ),
    ] {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(symbol.to_owned())),
        };
        let requests = tokio_stream::iter([request]);
        let mut answers = client
            .server_reflection_info(requests)
            .await
            .unwrap()
            .into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
            panic!("{symbol}: {answer:?}");
        };
        let text = String::from_utf8_lossy(&files.file_descriptor_proto[0]);
        assert!(text.contains(part), "{symbol}");
    }
    server.shutdown.ask();
    server.ended().await;
}

#[tokio::test]
async fn idle_connections_and_open_streams_do_not_hold_up_the_end() {
    let server = running(|_| ()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let channel = server.channel().await;
    let requests = tokio_stream::pending::<ServerReflectionRequest>();
    let mut stream = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(requests)
        .await
        .unwrap()
        .into_inner();
    let work = begin(&channel, "wait");
    pass(&server.gates.begun).await;

    server.shutdown.ask();
    let status = timeout(PATIENCE, stream.message())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::Unavailable, "DRAINING".to_owned())
    );
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert!(!server.served.is_finished());
    server.gates.released.add_permits(1);
    work.await.unwrap().unwrap();
    server.ended().await;
}

#[tokio::test]
async fn what_is_left_is_cut_at_a_second_wish_and_at_the_end_of_the_time() {
    for insist in [true, false] {
        let server = running(|settings| {
            if !insist {
                settings.shutdown.timeout = Duration::from_millis(50);
            }
        })
        .await;
        let channel = server.channel().await;
        let work = begin(&channel, "wait");
        pass(&server.gates.begun).await;
        server.shutdown.ask();
        if insist {
            server.shutdown.insist();
        }
        server.ended().await;
        assert!(work.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_connection_that_never_speaks_is_closed_and_http1_is_answered() {
    let server = running(|settings| {
        settings.limits.first_byte_timeout = Duration::from_millis(50);
    })
    .await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"PRI * HTTP").await.unwrap();
    for stream in [&mut silent, &mut slow] {
        let read = timeout(PATIENCE, stream.read(&mut [0])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    assert!(get(server.address, "/").await.starts_with("HTTP/1.1 505"));
    server.shutdown.ask();
    server.ended().await;
}

#[tokio::test]
async fn a_call_too_many_is_turned_away_and_told_when_to_come_back() {
    let server = running(|settings| settings.limits.in_flight = 1).await;
    let first = begin(&server.channel().await, "wait");
    pass(&server.gates.begun).await;
    let second = server.channel().await;
    let status = call(&second, "wait").await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::ResourceExhausted, "OVERLOADED".to_owned())
    );
    assert!(status.get_error_details().retry_info().is_some());

    server.gates.released.add_permits(2);
    first.await.unwrap().unwrap();
    call(&second, "wait").await.unwrap();
    server.shutdown.ask();
    server.ended().await;
}

#[tokio::test]
async fn a_deadline_is_answered_while_the_call_goes_on() {
    let server =
        running(|settings| settings.limits.request_timeout = Duration::from_millis(50)).await;
    let channel = server.channel().await;
    let status = call(&channel, "wait").await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned())
    );
    server.gates.released.add_permits(1);
    pass(&server.gates.finished).await;
    server.shutdown.ask();
    server.ended().await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    let server = running(|_| ()).await;
    let work = begin(&server.channel().await, "wait");
    pass(&server.gates.begun).await;
    work.abort();
    assert!(work.await.unwrap_err().is_cancelled());
    server.shutdown.ask();
    server.gates.released.add_permits(1);
    pass(&server.gates.finished).await;
    server.ended().await;
}

#[tokio::test]
async fn a_panic_is_answered_and_harms_no_other_call() {
    let server = running(|_| ()).await;
    let channel = server.channel().await;
    let status = call(&channel, "panic").await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::Internal, "INTERNAL".to_owned())
    );
    assert!(!status.message().contains("asked to"));
    assert!(status.metadata().contains_key("x-request-id"));
    server.gates.released.add_permits(1);
    call(&channel, "wait").await.unwrap();
    server.shutdown.ask();
    server.ended().await;
}

#[tokio::test]
async fn every_answer_bears_the_request_id() {
    let server = running(|_| ()).await;
    let channel = server.channel().await;
    let mut request = tonic::Request::new(GetServerInfoRequest {});
    let metadata = request.metadata_mut();
    metadata.insert("x-request-id", "mine-1".parse().unwrap());
    metadata.insert("x-test", "fail".parse().unwrap());
    let mut client = SystemServiceClient::new(channel);
    let status = client.get_server_info(request).await.unwrap_err();
    assert_eq!(status.metadata().get("x-request-id").unwrap(), "mine-1");
    assert_eq!(status.message(), "the database cannot be reached");
    server.shutdown.ask();
    server.ended().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_the_clients_mistake() {
    #[derive(Clone)]
    struct Undecodable;
    impl Service<Request<Body>> for Undecodable {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::ready(Ok(Status::internal("failed to decode").into_http()))
        }
    }
    let settings = LayerSettings {
        in_flight: 1,
        request_timeout: PATIENCE,
        calls: TaskTracker::new(),
        draining: CancellationToken::new(),
    };
    let path = "/tokenauthority.v1.SystemService/GetServerInfo";
    let request = Request::post(path).header("content-type", "application/grpc");
    let request = request.body(Body::empty()).unwrap();
    let mut layered = grpc::layers::around(Undecodable, &settings);
    let Ok(response) = layered.call(request).await;
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::InvalidArgument, "FIELD_INVALID".to_owned())
    );
}

#[tokio::test]
async fn a_request_that_trickles_in_has_no_handler_that_waits_for_it() {
    let server =
        running(|settings| settings.limits.request_timeout = Duration::from_millis(50)).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the server")]
    tokio::spawn(connection);
    let request = Request::post("http://x/tokenauthority.v1.SystemService/GetServerInfo")
        .header("content-type", "application/grpc")
        .header("x-test", "read")
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(Bytes::from(vec![0; 128 * 1024]), false)
        .unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
    assert_eq!(server.gates.begun.available_permits(), 0);
    drop((client, body));
    server.shutdown.ask();
    server.ended().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_its_setting_and_what_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut settings = Settings::default();
    settings.grpc.listen = Listen::At(address);
    let error = Listeners::bind(&settings).await.unwrap_err();
    let told = format!("grpc.listen: cannot listen at {address}: ");
    assert!(error.message().starts_with(&told), "{error}");
    let remedy = "; TOKEN_AUTHORITY_GRPC_LISTEN sets another address";
    assert!(error.message().ends_with(remedy), "{error}");
}

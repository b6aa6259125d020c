//! Connections and calls that are not as gRPC wants them get a defined answer, and harm nobody else.

use std::time::Duration;

use h2::client::SendRequest;
use token_authority::proto;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tonic::codegen::{
    Bytes,
    http::{HeaderMap, HeaderValue, Request, StatusCode},
};

use crate::support::{
    Engine, Server,
    binary::survives,
    run_on,
    wire::{
        Connection, END_HEADERS, ENHANCE_YOUR_CALM, HEADERS, REFUSED_STREAM, RST_STREAM,
        call_fields, flood, frame, message,
    },
};

const INTROSPECT: &str = "/tokenauthority.v1.TokenService/IntrospectToken";
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of a call by hand.
#[derive(Debug)]
struct Answer {
    http: StatusCode,
    code: String,
    reason: String,
}

pub(crate) type Client = SendRequest<Bytes>;

/// A connection of its own.
pub(crate) async fn connect(server: &Server) -> Client {
    let stream = TcpStream::connect(server.grpc).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    TaskTracker::new().spawn(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

/// A call with an admin's credential.
pub(crate) fn introspection(token: &str) -> Request<()> {
    let request = Request::post(format!("http://localhost{INTROSPECT}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"));
    request.body(()).unwrap()
}

fn about(token: &str) -> Vec<u8> {
    message(&proto::IntrospectTokenRequest {
        token: token.to_owned(),
        ..Default::default()
    })
}

async fn send(client: &mut Client, request: Request<()>, body: Vec<u8>) -> Answer {
    let (http, told) = exchange(client, request, body).await;
    answer(http, &told)
}

/// Makes a call by hand; the HTTP status, and what the answer's head and trailers tell.
pub(crate) async fn exchange(
    client: &mut Client,
    request: Request<()>,
    body: Vec<u8>,
) -> (StatusCode, HeaderMap) {
    let (response, mut sending) = client.send_request(request, false).unwrap();
    sending.send_data(body.into(), true).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    let (head, mut body) = response.into_parts();
    let mut told = head.headers;
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    if let Some(trailers) = body.trailers().await.unwrap() {
        told.extend(trailers);
    }
    (head.status, told)
}

fn answer(http: StatusCode, told: &HeaderMap) -> Answer {
    let status = tonic::Status::from_header_map(told);
    let code = status.as_ref().map(|status| format!("{:?}", status.code()));
    Answer {
        http,
        code: code.unwrap_or_default(),
        reason: status
            .as_ref()
            .map(crate::support::reason)
            .unwrap_or_default(),
    }
}

/// A request with one more header.
pub(crate) fn with(request: Request<()>, name: &'static str, value: &[u8]) -> Request<()> {
    let mut request = request;
    let value = HeaderValue::from_bytes(value).unwrap();
    request.headers_mut().insert(name, value);
    request
}

/// Sends each request, compares code and reason, and says that the server survives.
async fn answered(cases: impl AsyncFnOnce(&str) -> Vec<Case>) {
    run_on(Engine::Sqlite, async |server| {
        let token = server.admin().await.access_token;
        for (name, request, body, code, reason) in cases(&token).await {
            let mut client = connect(server).await;
            let answer = send(&mut client, request, body).await;
            let told = (answer.code.as_str(), answer.reason.as_str());
            assert_eq!(told, (code, reason), "{name}: {answer:?}");
        }
        survives(server.connect().await, &token).await;
    })
    .await;
}

type Case = (
    &'static str,
    Request<()>,
    Vec<u8>,
    &'static str,
    &'static str,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_is_not_taken() {
    answered(async |token| {
        let mut flagged = about(token);
        flagged[0] = 1;
        let mut unknown = about(token);
        unknown[0] = 7;
        // 64 MiB of zeros as gzip makes 64 KiB of it; this is how such a message begins.
        let bomb = [&[1, 0, 1, 0, 0, 0x1f, 0x8b, 8][..], &[0; 65_533]].concat();
        let compressed = || with(introspection(token), "grpc-encoding", b"gzip");
        vec![
            (
                "gzip",
                compressed(),
                flagged.clone(),
                "Unimplemented",
                "UNIMPLEMENTED",
            ),
            ("bomb", compressed(), bomb, "Unimplemented", "UNIMPLEMENTED"),
            (
                "flag",
                introspection(token),
                flagged,
                "Internal",
                "INTERNAL",
            ),
            (
                "unknown flag",
                introspection(token),
                unknown,
                "Internal",
                "INTERNAL",
            ),
        ]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_grpc_does_not_allow_is_refused() {
    answered(async |token| {
        let mut many = introspection(token);
        for _ in 0..300 {
            many.headers_mut()
                .append("x", HeaderValue::from_static("y"));
        }
        let text = with(introspection(token), "x-name", "Zo\u{eb}".as_bytes());
        let binary = with(introspection(token), "x-trace-bin", b"!not base64!");
        let good = with(introspection(token), "x-trace-bin", b"AAEC");
        let body = || about(token);
        vec![
            ("300 keys", many, body(), "InvalidArgument", "FIELD_INVALID"),
            (
                "non-ASCII",
                text,
                body(),
                "InvalidArgument",
                "FIELD_INVALID",
            ),
            ("base64", binary, body(), "InvalidArgument", "FIELD_INVALID"),
            ("good", good, body(), "Ok", ""),
        ]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_cannot_be_read_are_the_clients_mistake() {
    let nested = |depth: usize| {
        // A google.protobuf.Value in a Value: field 6 (list) of field 1 (values), over and over.
        (0..depth).fold(Vec::new(), |inner: Vec<u8>, _| field(1, &inner))
    };
    answered(async |token| {
        let framed = |body: &[u8]| {
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            [&[0][..], &length, body].concat()
        };
        let good = &about(token)[5..];
        let unknown = [good, &field(1000, b"from the future"), &[0xc8, 0x3e, 1]].concat();
        let duplicate = [&field(1, b"another")[..], good].concat();
        let deep = [good, &field(1000, &nested(101))].concat();
        let invalid = ("InvalidArgument", "FIELD_INVALID");
        [
            ("unknown fields", unknown, ("Ok", "")),
            ("a scalar twice", duplicate, ("Ok", "")),
            ("depth in an unknown field", deep, ("Ok", "")),
            ("wrong wire type", vec![8, 1], invalid),
            ("cut off", vec![10, 200, 1, b'x'], invalid),
            ("not UTF-8", field(1, b"\xff\xfe"), invalid),
            ("groups without an end", vec![0x0b; 200], invalid),
            ("field number 0", vec![0, 0], invalid),
        ]
        .into_iter()
        .map(|(name, body, (code, reason))| {
            (name, introspection(token), framed(&body), code, reason)
        })
        .collect()
    })
    .await;
}

/// A field of bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    prost::encoding::encode_key(
        number,
        prost::encoding::WireType::LengthDelimited,
        &mut encoded,
    );
    prost::encoding::encode_varint(bytes.len() as u64, &mut encoded);
    encoded.extend_from_slice(bytes);
    encoded
}

/// 64 KiB of submessages that are two bytes each, and messages over the limits of their service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_too_much_are_refused() {
    run_on(Engine::Sqlite, async |server| {
        let token = server.admin().await.access_token;
        let mut client = connect(server).await;
        let revoke = "RevocationService/CreateRevocation";
        for (method, size, number) in [
            (revoke, 32 * 1024, 1),
            (revoke, 32 * 1024, 3),
            (revoke, 32 * 1024, 7),
            (revoke, 40 * 1024, 1),
            ("RoleService/CreateRole", 32 * 1024, 1),
            ("TokenService/BatchIntrospectTokens", 32 * 1024, 1),
            ("RevocationService/WatchRevocations", 32 * 1024, 3),
            ("RevocationService/ListRevocations", 32 * 1024, 1),
        ] {
            let path = format!("http://localhost/tokenauthority.v1.{method}");
            let body = field(number, &[]).repeat(size);
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            let mut request = introspection(&token);
            *request.uri_mut() = path.parse().unwrap();
            let framed = [&[0][..], &length, &body].concat();
            let answer = send(&mut client, request, framed).await;
            assert_eq!(
                answer.code, "InvalidArgument",
                "{method} {size}: {answer:?}"
            );
        }
        let huge = introspection(&token);
        let four_mebibytes = message(&proto::IntrospectTokenRequest {
            token: "x".repeat(4 * 1024 * 1024),
            ..Default::default()
        });
        let head = four_mebibytes[..1024].to_vec();
        let answer = send(&mut client, huge, head).await;
        assert_eq!(answer.code, "InvalidArgument", "{answer:?}");
        survives(server.connect().await, &token).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_none_get_a_defined_answer() {
    run_on(Engine::Sqlite, async |server| {
        let token = server.admin().await.access_token;
        let mut client = connect(server).await;
        for (path, code) in [
            ("/tokenauthority.v1.TokenService/Nothing", "Unimplemented"),
            (
                "/tokenauthority.v1.Nothing/IntrospectToken",
                "Unimplemented",
            ),
            ("/", "Unimplemented"),
            ("//", "Unimplemented"),
            ("/../../etc/passwd", "Unimplemented"),
            (
                "/tokenauthority.v1.TokenService/IntrospectToken/",
                "Unimplemented",
            ),
            (
                "/TOKENAUTHORITY.V1.TOKENSERVICE/INTROSPECTTOKEN",
                "Unimplemented",
            ),
        ] {
            let mut request = introspection(&token);
            *request.uri_mut() = format!("http://localhost{path}").parse().unwrap();
            let answer = send(&mut client, request, about(&token)).await;
            assert_eq!(answer.code, code, "{path}: {answer:?}");
            assert_eq!(answer.reason, "UNIMPLEMENTED", "{path}: {answer:?}");
        }
        for kind in ["text/html", "application/json", ""] {
            let request = with(introspection(&token), "content-type", kind.as_bytes());
            let answer = send(&mut client, request, about(&token)).await;
            assert_eq!(answer.http, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        }
        survives(server.connect().await, &token).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_on_the_grpc_port_are_told_or_closed() {
    run_on(Engine::Sqlite, async |server| {
        let token = server.admin().await.access_token;
        let http1 = format!("POST {INTROSPECT} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
        for (bytes, beginning) in [
            (http1.as_bytes(), &b"HTTP/1.1 505 "[..]),
            (&hello, b""),
            (b"SSH-2.0-OpenSSH_9.9\r\n", b""),
            (b"\0\0\0\0\0\0\0\0", b""),
        ] {
            let mut stream = TcpStream::connect(server.grpc).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut answer = Vec::new();
            let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
            // A connection may also be reset, since not all that was sent has been read.
            let _ended = read.expect("it is closed");
            assert!(answer.starts_with(beginning), "{answer:?}");
        }
        survives(server.connect().await, &token).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_129th_stream_of_a_connection_is_refused() {
    run_on(Engine::Sqlite, async |server| {
        let token = server.admin().await.access_token;
        let mut connection = Connection::open(server.grpc).await;
        let credential = format!("Bearer {token}");
        let block = call_fields(INTROSPECT, &[("authorization", &credential)]);
        let refused = async |connection: &mut Connection, streams: std::ops::Range<u32>| {
            for number in streams {
                let begin = frame(HEADERS, END_HEADERS, 2 * number + 1, &block);
                connection.send(&begin).await;
            }
            let frames = connection.settle().await;
            let resets = frames.iter().filter(|frame| frame.kind == RST_STREAM);
            let resets = resets.map(|reset| (reset.stream, reset.code()));
            resets.collect::<Vec<_>>()
        };
        assert_eq!(refused(&mut connection, 0..128).await, []);
        assert_eq!(
            refused(&mut connection, 128..129).await,
            [(257, REFUSED_STREAM)]
        );
        // Whoever goes on is cut long before ten thousand.
        let begin = |number: u32| frame(HEADERS, END_HEADERS, 2 * number + 1, &block);
        let outcome = flood(server.grpc, (0..10_000).map(begin)).await;
        assert!(outcome.closed, "{outcome:?}");
        assert_eq!(outcome.goaway, Some(ENHANCE_YOUR_CALM));
        assert!(outcome.answered < 2_000, "{outcome:?}");
        survives(server.connect().await, &token).await;
    })
    .await;
}

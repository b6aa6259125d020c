//! The public keys, the same wherever they are asked for, and what operators' tools see.

use std::{io, net::SocketAddr};

use token_authority::proto;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tonic::Code;

use crate::support::{Engine, binary::Binary, reason, run_on};

/// Fetches a path by HTTP/1.1: head and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_keys_are_the_same_wherever_they_are_asked_for() {
    run_on(Engine::Sqlite, async |server| {
        let mut keys = server.signing_keys().await;
        let by_call = keys.get_jwks(proto::GetJwksRequest {}).await;
        let by_call = by_call.unwrap().into_inner().jwks_json;
        let stream = keys.watch_jwks(proto::WatchJwksRequest {}).await;
        let first = stream.unwrap().into_inner().message().await.unwrap();
        let by_stream = first.unwrap().jwks.unwrap().jwks_json;
        let (head, by_http) = get(server.http, "/.well-known/jwks.json").await;
        assert_eq!(by_call, by_stream);
        assert_eq!(by_call, by_http);
        assert!(head.contains("content-type: application/json"), "{head}");
        let set: serde_json::Value = serde_json::from_str(&by_call).unwrap();
        let keys = set["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2, "one signs, one is prepared");
        for key in keys {
            assert!(key.get("d").is_none(), "nothing private: {key}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_33rd_stream_of_an_address_is_refused() {
    run_on(Engine::Sqlite, async |server| {
        let mut keys = server.signing_keys().await;
        let mut open = Vec::new();
        for _ in 0..32 {
            let stream = keys.watch_jwks(proto::WatchJwksRequest {}).await;
            let mut stream = stream.unwrap().into_inner();
            stream.message().await.unwrap().unwrap();
            open.push(stream);
        }
        let mut others = server.signing_keys().await;
        let refused = others.watch_jwks(proto::WatchJwksRequest {}).await;
        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason(&status), "TOO_MANY_STREAMS");
    })
    .await;
}

/// Connects from another address of this machine.
async fn connect_from(from: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_shut_others_out_of_the_operators_port() {
    let silence = ("TOKEN_AUTHORITY_LIMITS_FIRST_BYTE_TIMEOUT", "60s");
    let server = Binary::start(&[silence]).await;
    let answer = async |mut stream: TcpStream| {
        let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(connect_from([127, 0, 0, 2], server.ops).await.unwrap());
    }
    // Closed at any time before or after it has asked: an end without a word, or a reset.
    let told = match connect_from([127, 0, 0, 2], server.ops).await {
        Ok(one_more) => answer(one_more).await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    assert_eq!(told, "", "the 65th of an address");
    let other = connect_from([127, 0, 0, 3], server.ops).await.unwrap();
    assert!(answer(other).await.unwrap().starts_with("HTTP/1.1 200 "));
    let first = held.swap_remove(0);
    assert!(answer(first).await.unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_life_readiness_and_metrics() {
    let server = Binary::start(&[]).await;
    let token = server.admin_token().await;
    server.survives(&token).await;
    let (livez, _) = get(server.ops, "/livez").await;
    assert!(livez.starts_with("HTTP/1.1 200 "), "{livez}");
    let (readyz, _) = get(server.ops, "/readyz").await;
    assert!(readyz.starts_with("HTTP/1.1 200 "), "{readyz}");
    let (head, metrics) = get(server.ops, "/metrics").await;
    assert!(head.contains("content-type: text/plain"), "{head}");
    let introspections = metrics.lines().find(|line| {
        line.starts_with("token_authority_calls_total{")
            && line.contains("TokenService/IntrospectToken")
            && line.contains("code=\"OK\"")
    });
    let counted = introspections.unwrap().rsplit(' ').next().unwrap();
    assert_eq!(counted, "100");
    for state in ["used", "idle"] {
        let name = format!("token_authority_database_connections{{state=\"{state}\"}} ");
        let told = metrics.lines().find_map(|line| line.strip_prefix(&name));
        assert!(told.is_some(), "{state}: {metrics}");
    }
}

//! Handshakes that never end, and clients that speak something else.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Ca, Folder, PATIENCE, begin_http2};
use crate::support::{
    Engine,
    binary::{Binary, raise_descriptor_limit},
    run_on,
};

const STALLED: usize = 5_000;
const QUICK: (&str, &str) = ("TOKEN_AUTHORITY_LIMITS_FIRST_BYTE_TIMEOUT", "500ms");
const ALERT: u8 = 0x15;
const HANDSHAKE: u8 = 0x16;
const PROTOCOL_VERSION: u8 = 70;
const UNEXPECTED_MESSAGE: u8 = 10;
const DECODE_ERROR: u8 = 50;

/// A `ClientHello` (RFC 5246 section 7.4.1.2) of a version, good but for that.
fn client_hello(minor: u8) -> Vec<u8> {
    padded_hello(minor, 0)
}

/// The same with so many bytes of padding (RFC 7685).
fn padded_hello(minor: u8, padding: usize) -> Vec<u8> {
    let mut extensions = Vec::new();
    // Signature algorithms, groups and point formats.
    extensions.extend([0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1]);
    extensions.extend([0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17]);
    extensions.extend([0, 11, 0, 2, 1, 0]);
    extensions.extend([0, 21]);
    extensions.extend(with_length(&vec![0; padding]));
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    hello.extend(with_length(&extensions));
    let message = [&[1, 0], &*with_length(&hello)].concat();
    [&[0x16, 3, 1], &*with_length(&message)].concat()
}

/// Behind their number, in two bytes.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

async fn everything(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
    // It may also be reset, since not all that was sent has been read.
    let _ended = read.expect("it is closed");
    heard
}

/// Says something that is not over, and hears the first record of the answer, for which the server waits for no deadline.
async fn beginning(address: SocketAddr, said: &[u8]) -> (TcpStream, [u8; 7]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(said).await.unwrap();
    let mut heard = [0; 7];
    let read = timeout(Duration::from_secs(4), stream.read_exact(&mut heard)).await;
    read.expect("it is answered").expect("a record");
    (stream, heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_stall_are_cut_while_others_are_served() {
    raise_descriptor_limit();
    let ca = Ca::new("authority");
    let files = Folder::with(&ca.for_server());
    let (certificate, key) = (files.text("certificate"), files.text("key"));
    let server = Binary::start(&[
        QUICK,
        ("TOKEN_AUTHORITY_TLS_CERTIFICATE_FILE", &certificate),
        ("TOKEN_AUTHORITY_TLS_KEY_FILE", &key),
    ])
    .await;
    let token = server.admin_token().await;
    let half = &client_hello(3)[..30];
    for address in [server.grpc, server.http] {
        let mut stalled = Vec::with_capacity(STALLED);
        for _ in 0..STALLED {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(half).await.unwrap();
            stalled.push(stream);
        }
        server.survives(&token).await;
        // Nothing but that limit ends half a greeting.
        for stream in &mut stalled {
            assert!(everything(stream).await.is_empty());
        }
    }
    // One that sends a byte now and then has no more time: all of them would take 50 seconds.
    let mut slow = TcpStream::connect(server.grpc).await.unwrap();
    let cut = timeout(PATIENCE, async {
        for byte in padded_hello(3, 1000) {
            sleep(Duration::from_millis(50)).await;
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
        }
        panic!("it is cut before the last byte");
    });
    cut.await.expect("it is cut");
    server.survives(&token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_and_old_versions_are_answered_by_an_alert() {
    let ca = Ca::new("authority");
    let server = Folder::with(&ca.for_server()).serve().await;
    let http2 = begin_http2();
    let (tls_1_0, tls_1_1, ssl_3) = (client_hello(1), client_hello(2), client_hello(0));
    for address in [server.grpc, server.http] {
        for (said, alerts) in [
            (
                &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
                &[UNEXPECTED_MESSAGE, DECODE_ERROR][..],
            ),
            (&http2, &[UNEXPECTED_MESSAGE, DECODE_ERROR]),
            (
                b"SSH-2.0-OpenSSH_9.9\r\n",
                &[UNEXPECTED_MESSAGE, DECODE_ERROR],
            ),
            (&tls_1_1, &[PROTOCOL_VERSION]),
            (&tls_1_0, &[PROTOCOL_VERSION]),
            (&ssl_3, &[PROTOCOL_VERSION]),
        ] {
            let (mut stream, heard) = beginning(address, said).await;
            assert_eq!(heard[0], ALERT, "{heard:?}");
            assert!(alerts.contains(&heard[6]), "{heard:?}");
            assert!(everything(&mut stream).await.is_empty());
        }
        let (_, heard) = beginning(address, &client_hello(3)).await;
        assert_eq!(heard[0], HANDSHAKE, "{heard:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_a_plaintext_port_is_told_or_closed() {
    run_on(Engine::Sqlite, async |server| {
        let hello = client_hello(3);
        for (address, beginning) in [(server.grpc, &b""[..]), (server.http, b"HTTP/1.1 400 ")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            let heard = everything(&mut stream).await;
            assert!(heard.starts_with(beginning), "{heard:?}");
        }
    })
    .await;
}

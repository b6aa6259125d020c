//! Clients that say nothing, or say it too slowly, are cut, and nobody else waits for them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use token_authority::proto;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::support::{
    binary::{Binary, raise_descriptor_limit, survives},
    wire::{
        CANCEL, Connection, DATA, END_HEADERS, END_STREAM, FRAME_MAX, HEADERS, NO_FLAG, PREFACE,
        RST_STREAM, SETTINGS, call_fields, frame, message,
    },
};

const IDLE: usize = 5_000;
const INTROSPECT: &str = "/tokenauthority.v1.TokenService/IntrospectToken";
const QUICK: &[(&str, &str)] = &[("TOKEN_AUTHORITY_LIMITS_FIRST_BYTE_TIMEOUT", "500ms")];
/// How often a slow client sends a byte.
const PACE: Duration = Duration::from_millis(50);
/// Longer than a machine takes, however busy, for what is due after half a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Keepalive notices a client that does not speak in whole frames after 40 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_silent_connections_are_closed_while_others_are_served() {
    raise_descriptor_limit();
    let server = Binary::start(QUICK).await;
    let token = server.admin_token().await;
    let mut silent = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        silent.push(TcpStream::connect(server.grpc).await.unwrap());
    }
    server.survives(&token).await;
    // Nothing but that limit closes a connection that has said nothing.
    for stream in &mut silent {
        let read = timeout(PATIENCE, stream.read(&mut [0])).await;
        let read = read.expect("it is closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    server.survives(&token).await;
}

/// The machine has no more file descriptors to give: the server rests rather than spins, and comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g08_a_server_without_descriptors_rests_and_recovers() {
    const SPARE: u64 = 8;
    let watched_for = Duration::from_secs(3);
    let patient = ("TOKEN_AUTHORITY_LIMITS_FIRST_BYTE_TIMEOUT", "10m");
    let server = Binary::start(&[patient]).await;
    let token = server.admin_token().await;
    let known = server.connect().await;
    survives(known.clone(), &token).await;
    server.leave_descriptors(SPARE);
    let mut silent = Vec::new();
    for _ in 0..10 * SPARE {
        silent.push(connect(server.grpc).await);
    }
    server.says("no connection can be accepted").await;
    let (begun, before) = (Instant::now(), server.processor_time());
    sleep(watched_for).await;
    let (took, used) = (
        begun.elapsed(),
        server.processor_time().saturating_sub(before),
    );
    println!("without descriptors: {used:.0?} of processor time in {took:.0?}");
    assert!(used < took / 2, "{used:?} of {took:?}");
    // Who is connected is served meanwhile.
    survives(known, &token).await;
    drop(silent);
    server.survives(&token).await;
    server.admin_token().await;
}

/// Sends the bytes one by one until the connection ends.
async fn trickle(mut stream: TcpStream, bytes: Vec<u8>, pace: Duration, patience: Duration) {
    let mut pace = interval(pace);
    // Who was held up does not send at once what is due since.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut bytes = bytes.into_iter();
    let cut = timeout(patience, async {
        let mut answer = [0; 1024];
        loop {
            tokio::select! {
                read = stream.read(&mut answer) => {
                    if matches!(read, Ok(0) | Err(_)) {
                        return;
                    }
                }
                _ = pace.tick() => {
                    let byte = bytes.next().expect("it is cut before the last byte");
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    cut.await.expect("it is cut");
}

/// How long a connection lasts on which the bytes trickle in.
async fn lasts(address: SocketAddr, bytes: &[u8], pace: Duration) -> Duration {
    // The server may count from the moment at which it is connected.
    let begun = Instant::now();
    trickle(connect(address).await, bytes.to_vec(), pace, PATIENCE).await;
    begun.elapsed()
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beginnings_that_trickle_in_are_cut() {
    let server = Binary::start(QUICK).await;
    let token = server.admin_token().await;
    let http = format!(
        "GET /.well-known/jwks.json HTTP/1.1\r\nx: {}",
        "x".repeat(5_000)
    );
    // So that its few bytes are not all sent before a server that is late cuts them.
    let slowest = 8 * PACE;
    let cut = tokio::join!(
        lasts(server.grpc, PREFACE, slowest),
        lasts(server.http, http.as_bytes(), PACE),
        lasts(server.ops, http.as_bytes(), PACE),
        server.survives(&token),
    );
    let at_least = Duration::from_millis(400);
    assert!(
        cut.0 >= at_least && cut.1 >= at_least && cut.2 >= at_least,
        "{cut:?}"
    );
    server.survives(&token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_the_one_that_was_set() {
    let (usual, quick) = tokio::join!(Binary::start(&[]), Binary::start(QUICK));
    let mut first = connect(usual.grpc).await;
    let mut second = connect(quick.grpc).await;
    tokio::select! {
        biased;
        _ = second.read_u8() => {}
        _ = first.read_u8() => panic!("both have the same limit"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_trickle_in_are_cut() {
    let server = Binary::start(QUICK).await;
    let token = server.admin_token().await;
    let mut stream = connect(server.grpc).await;
    stream.write_all(PREFACE).await.unwrap();
    let settings = frame(SETTINGS, NO_FLAG, 0, &[]);
    stream.write_all(&settings).await.unwrap();
    let block = call_fields(INTROSPECT, &[("x-long", &"x".repeat(FRAME_MAX / 2))]);
    let headers = frame(HEADERS, END_HEADERS, 1, &block);
    trickle(stream, headers, PACE, KEEP_ALIVE).await;
    server.survives(&token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_in_is_answered_when_its_time_is_up() {
    let server = Binary::start(&[]).await;
    let token = server.admin_token().await;
    server.terminate();
    let (ended, log, data) = server.ended().await;
    assert!(ended.success(), "{log}");
    // A sign-in may take longer.
    let limit = ("TOKEN_AUTHORITY_LIMITS_REQUEST_TIMEOUT", "1s");
    let server = Binary::start_in(data, &[limit]).await;
    let mut connection = Connection::open(server.grpc).await;
    let credential = format!("Bearer {token}");
    let block = call_fields(INTROSPECT, &[("authorization", &credential)]);
    let begin = frame(HEADERS, END_HEADERS, 1, &block);
    let message = [&[0, 0, 0, 4, 0][..], &[0; 1024]].concat();
    connection.send(&begin).await;
    let bytes = message.iter().map(|&byte| frame(DATA, NO_FLAG, 1, &[byte]));
    let answer = connection.trickle_until(HEADERS, bytes, PACE).await;
    assert_eq!(answer.stream, 1);
    server.survives(&token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_take_no_answer_keep_nobody_out() {
    let server = Binary::start(&[("TOKEN_AUTHORITY_LIMITS_IN_FLIGHT", "64")]).await;
    let token = server.admin_token().await;
    let mut connection = Connection::open(server.grpc).await;
    // INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2): not a byte of any response's body may be sent.
    let no_window = frame(SETTINGS, NO_FLAG, 0, &[0, 4, 0, 0, 0, 0]);
    connection.send(&no_window).await;
    let block = call_fields("/tokenauthority.v1.TokenService/RevokeToken", &[]);
    let nothing = message(&proto::RevokeTokenRequest {
        token: "nothing".to_owned(),
        wait: None,
    });
    for stream in (1..).step_by(2).take(100) {
        let begin = frame(HEADERS, END_HEADERS, stream, &block);
        connection.send(&begin).await;
        let request = frame(DATA, END_STREAM, stream, &nothing);
        connection.send(&request).await;
    }
    for _ in 0..100 {
        connection.next_of(HEADERS).await;
    }
    server.survives(&token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_announced_and_never_sent_keep_nobody_out() {
    let server = Binary::start(&[("TOKEN_AUTHORITY_LIMITS_IN_FLIGHT", "64")]).await;
    let token = server.admin_token().await;
    let mut connection = Connection::open(server.grpc).await;
    let block = call_fields(INTROSPECT, &[]);
    for stream in (1..).step_by(2).take(100) {
        let begin = frame(HEADERS, END_HEADERS, stream, &block);
        connection.send(&begin).await;
        // Half of them send a part.
        if stream % 4 == 1 {
            let part = [0; 1024];
            connection.send(&frame(DATA, NO_FLAG, stream, &part)).await;
        }
    }
    connection.settle().await;
    server.survives(&token).await;
    // They are still open: each would be answered, were it sent.
    let nothing = message(&proto::IntrospectTokenRequest::default());
    connection.send(&frame(DATA, END_STREAM, 3, &nothing)).await;
    assert_eq!(connection.next_of(HEADERS).await.stream, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_few_streams_of_health_and_reflection() {
    const PER_CONNECTION: u32 = 4;
    let server = Binary::start(&[]).await;
    let token = server.admin_token().await;
    let mut connection = Connection::open(server.grpc).await;
    let health = call_fields("/grpc.health.v1.Health/Watch", &[]);
    let all_of_them = [0; 5];
    let begin = async |connection: &mut Connection, stream| {
        let begin = frame(HEADERS, END_HEADERS, stream, &health);
        connection.send(&begin).await;
        connection
            .send(&frame(DATA, END_STREAM, stream, &all_of_them))
            .await;
        connection.next_of(HEADERS).await
    };
    for number in 0..PER_CONNECTION {
        let head = begin(&mut connection, 2 * number + 1).await;
        assert_eq!(head.flags & END_STREAM, 0, "stream {number} has begun");
    }
    let refused = begin(&mut connection, 101).await;
    assert_ne!(refused.flags & END_STREAM, 0, "it is over");
    // One that its client gives up makes room, once its task has noticed.
    let reset = frame(RST_STREAM, NO_FLAG, 1, &CANCEL.to_be_bytes());
    connection.send(&reset).await;
    let room = async {
        let mut stream = 103;
        while begin(&mut connection, stream).await.flags & END_STREAM != 0 {
            stream += 2;
        }
    };
    let room = timeout(PATIENCE, room).await;
    room.expect("there is room again");
    // Others have as many.
    let mut another = Connection::open(server.grpc).await;
    let head = begin(&mut another, 1).await;
    assert_eq!(head.flags & END_STREAM, 0, "another connection's");
    server.survives(&token).await;
}

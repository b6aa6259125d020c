//! Subscribers that do not read: they hold up nobody, and lose nothing.

use std::time::{Duration, Instant};

use token_authority::proto::{
    self, RevocationEvent, WatchRevocationsResponse,
    revocation_service_client::RevocationServiceClient, revocation_subject::Subject,
    watch_revocations_response::Message,
};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::support::{as_caller, binary::Binary, events_of, reason, revocation_of, spawn};

/// Entries of five messages, of which not all fit into what a connection and a stream hold.
pub(crate) const ENTRIES: usize = 2400;
const REVOKERS: usize = 8;
/// HTTP/2's own.
const WINDOW: u32 = 65_535;
const TALKATIVE: (&str, &str) = (
    "TOKEN_AUTHORITY_LOG_FILTER",
    "info,token_authority::authority::revocations=debug",
);
/// So long that whoever waits for it shows.
const LONG_END: (&str, &str) = ("TOKEN_AUTHORITY_SHUTDOWN_TIMEOUT", "2m");

/// Fills the log.
async fn revoke_many(server: &Binary, token: &str) {
    let channel = server.connect().await;
    let revoking: Vec<_> = (0..REVOKERS)
        .map(|revoker| {
            let mut revocations = RevocationServiceClient::new(channel.clone());
            let token = token.to_owned();
            spawn(async move {
                for number in 0..ENTRIES / REVOKERS {
                    let id = format!("{revoker}-{number}-{}", "x".repeat(100));
                    let request = as_caller(&token, revocation_of(Subject::TokenId(id), ""));
                    revocations.create_revocation(request).await.unwrap();
                }
            })
        })
        .collect();
    for revoking in revoking {
        revoking.await.unwrap();
    }
}

async fn watch(
    channel: Channel,
    token: &str,
    start_cursor: &str,
) -> Streaming<WatchRevocationsResponse> {
    let request = proto::WatchRevocationsRequest {
        start_cursor: start_cursor.to_owned(),
        ..Default::default()
    };
    let mut client = RevocationServiceClient::new(channel);
    let opened = client.watch_revocations(as_caller(token, request)).await;
    opened.unwrap().into_inner()
}

/// A stream over a full log that is not read yet.
pub(crate) async fn unread(server: &Binary, token: &str) -> Streaming<WatchRevocationsResponse> {
    revoke_many(server, token).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap();
    let endpoint = endpoint
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    watch(endpoint.connect().await.unwrap(), token, "").await
}

/// What a stream says up to its end.
async fn read_to_end(
    mut stream: Streaming<WatchRevocationsResponse>,
) -> (Vec<WatchRevocationsResponse>, Option<Status>) {
    let mut messages = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(status) => return (messages, Some(status)),
        }
    }
}

/// Goes on after the last of some messages, and says that nothing was lost and nothing told twice.
async fn resumes_without_loss(
    server: &Binary,
    token: &str,
    mut messages: Vec<WatchRevocationsResponse>,
) {
    let before = events_of(&messages).len();
    assert!(before < ENTRIES, "it was ended before it had all");
    let cursor = messages.last().unwrap().cursor.clone();
    let mut stream = watch(server.connect().await, token, &cursor).await;
    let caught_up =
        |message: &WatchRevocationsResponse| matches!(message.message, Some(Message::CaughtUp(_)));
    while !messages.last().is_some_and(caught_up) {
        messages.push(stream.message().await.unwrap().unwrap());
    }
    let events: Vec<RevocationEvent> = events_of(&messages);
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    let dense: Vec<u64> = (positions[0]..).take(ENTRIES).collect();
    assert_eq!(positions, dense);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_does_not_read_for_30_seconds_is_ended_and_resumes_without_loss() {
    let server = Binary::start(&[TALKATIVE]).await;
    let token = server.admin_token().await;
    let stream = unread(&server, &token).await;
    server.says("revocation_stream.failed").await;
    let (messages, status) = read_to_end(stream).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status), "SUBSCRIBER_TOO_SLOW");
    resumes_without_loss(&server, &token, messages).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_never_reads_does_not_hold_up_the_end() {
    let server = Binary::start(&[LONG_END]).await;
    let token = server.admin_token().await;
    let stream = unread(&server, &token).await;
    let asked = Instant::now();
    server.terminate();
    let (status, log, _data) = server.ended().await;
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("the time is up"), "{log}");
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_lags_at_the_end_is_told_and_resumes_without_loss() {
    let server = Binary::start(&[LONG_END]).await;
    let token = server.admin_token().await;
    let stream = unread(&server, &token).await;
    server.terminate();
    server.says("\"ending\"").await;
    let (messages, status) = read_to_end(stream).await;
    assert!(status.is_none(), "{status:?}");
    let last = messages.last().unwrap().message.as_ref();
    assert!(matches!(last, Some(Message::Closing(_))), "{last:?}");
    let (_, _, data) = server.ended().await;
    let next = Binary::start_in(data, &[]).await;
    resumes_without_loss(&next, &token, messages).await;
}

//! Floods of HTTP/2 frames: each is cut or taken, the next calls succeed, and memory does not stay behind.

use std::iter::repeat_n;

use crate::support::{
    binary::Binary,
    wire::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FRAME_MAX, HEADERS,
        NO_FLAG, Outcome, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, call_fields,
        fields, flood, frame,
    },
};

const INTROSPECT: &str = "/tokenauthority.v1.TokenService/IntrospectToken";
/// How many frames are given to the kernel at a time.
const CHUNK: usize = 100;
/// What allocators and caches may keep of a flood, beside a tenth of what was there.
const SLACK: usize = 4 * 1024 * 1024;

/// Floods a server of its own until it is warm and then again, and says that it survives.
async fn survived(chunks: impl Fn() -> Vec<Vec<u8>>, check: impl Fn(&Outcome)) {
    let server = Binary::start(&[]).await;
    let token = server.admin_token().await;
    let once = async || {
        check(&flood(server.grpc, chunks()).await);
        server.survives(&token).await;
    };
    once().await;
    let warm = server.memory();
    for _ in 0..3 {
        once().await;
    }
    let now = server.memory();
    assert!(
        now <= warm + warm / 10 + SLACK,
        "memory grew from {warm} to {now} bytes"
    );
    server.terminate();
    let (status, log, _data) = server.ended().await;
    assert!(status.success(), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

fn is_told_to_calm_down(outcome: &Outcome) {
    assert!(outcome.closed, "{outcome:?}");
    assert_eq!(outcome.goaway, Some(ENHANCE_YOUR_CALM), "{outcome:?}");
}

fn is_taken(outcome: &Outcome) {
    assert!(outcome.sent && !outcome.closed, "{outcome:?}");
    assert_eq!(outcome.goaway, None, "{outcome:?}");
}

/// A hundred thousand of a frame, in chunks.
fn many(frame: &[u8]) -> Vec<Vec<u8>> {
    repeat_n(frame.repeat(CHUNK), 100_000 / CHUNK).collect()
}

/// Streams that are begun and reset at once, each as its two frames.
fn begun_and_reset(count: u32) -> Vec<Vec<u8>> {
    let block = call_fields(INTROSPECT, &[]);
    let pair = |number| {
        let stream = 2 * number + 1;
        let begin = frame(HEADERS, END_HEADERS, stream, &block);
        let reset = frame(RST_STREAM, NO_FLAG, stream, &CANCEL.to_be_bytes());
        [begin, reset].concat()
    };
    (0..count).map(pair).collect()
}

#[tokio::test]
async fn a_client_that_begins_and_resets_streams_is_told_to_calm_down() {
    let pairs = begun_and_reset(100_000);
    let chunks = || pairs.chunks(CHUNK).map(<[_]>::concat).collect();
    survived(chunks, is_told_to_calm_down).await;
}

/// What a server finds that was stopped for longer than its clients had patience.
#[tokio::test]
async fn a_client_that_has_given_up_all_its_calls_is_heard_on() {
    let calls = begun_and_reset(128).concat();
    survived(|| vec![calls.clone()], is_taken).await;
}

#[tokio::test]
async fn headers_without_an_end_are_cut() {
    let begin = frame(HEADERS, NO_FLAG, 1, &call_fields(INTROSPECT, &[]));
    let part = "x".repeat(FRAME_MAX / 2);
    let more = frame(CONTINUATION, NO_FLAG, 1, &fields([("x-part", part)]));
    let chunks = || {
        let endless = repeat_n(more.clone(), 16_384);
        std::iter::once(begin.clone()).chain(endless).collect()
    };
    survived(chunks, |outcome| {
        assert!(outcome.closed && !outcome.sent, "{outcome:?}");
    })
    .await;
}

#[tokio::test]
async fn headers_of_no_length_without_an_end_are_cut() {
    let begin = frame(HEADERS, NO_FLAG, 1, &call_fields(INTROSPECT, &[]));
    let more = frame(CONTINUATION, NO_FLAG, 1, &[]);
    let chunks = || {
        let mut chunks = many(&more);
        chunks.insert(0, begin.clone());
        chunks
    };
    survived(chunks, |outcome| assert!(outcome.closed, "{outcome:?}")).await;
}

/// Header blocks that are too large: a mebibyte in one field, and ten thousand fields.
#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let one = call_fields(INTROSPECT, &[("x-large", &"x".repeat(1024 * 1024))]);
    let fields: Vec<(&str, &str)> = repeat_n(("x", "y"), 10_000).collect();
    let many = call_fields(INTROSPECT, &fields);
    for block in [one, many] {
        let chunks = || in_frames(&block);
        survived(chunks, |outcome| {
            assert!(outcome.closed || outcome.answered > 0, "{outcome:?}");
        })
        .await;
    }
}

/// A block as one HEADERS frame and as many CONTINUATIONs as it takes.
fn in_frames(block: &[u8]) -> Vec<Vec<u8>> {
    let last = block.len().div_ceil(FRAME_MAX) - 1;
    let parts = block.chunks(FRAME_MAX).enumerate();
    parts
        .map(|(number, part)| {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let end = if number == last { END_HEADERS } else { NO_FLAG };
            let stream = if number == 0 { END_STREAM } else { NO_FLAG };
            frame(kind, end | stream, 1, part)
        })
        .collect()
}

#[tokio::test]
async fn empty_and_padded_data_is_cut() {
    let begin = frame(HEADERS, END_HEADERS, 1, &call_fields(INTROSPECT, &[]));
    let empty = frame(DATA, NO_FLAG, 1, &[]);
    let mut padding = vec![0; 256];
    padding[0] = 255;
    let padded = frame(DATA, PADDED, 1, &padding);
    for data in [empty, padded] {
        let chunks = || {
            let mut chunks = many(&data);
            chunks.insert(0, begin.clone());
            chunks
        };
        survived(chunks, |outcome| assert!(outcome.closed, "{outcome:?}")).await;
    }
}

#[tokio::test]
async fn frames_about_the_connection_cost_nothing() {
    let setting = [0, 3, 0, 0, 0, 100];
    let floods = [
        frame(PING, NO_FLAG, 0, b"pingping"),
        frame(SETTINGS, NO_FLAG, 0, &setting),
        frame(WINDOW_UPDATE, NO_FLAG, 0, &1_u32.to_be_bytes()),
        frame(PRIORITY, NO_FLAG, 1, &[0, 0, 0, 0, 16]),
    ];
    for flooded in floods {
        survived(|| many(&flooded), is_taken).await;
    }
}

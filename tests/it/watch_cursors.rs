//! From where a stream may go on, and what it says where it may not.

use std::time::Duration;

use token_authority::{
    clock::Clock,
    domain::revocation::Position,
    log::cursor::{Coverage, EntryMark},
    proto::{WatchRevocationsRequest, revocation_subject::Subject},
};
use tonic::{Code, Status};

use crate::support::{Engine, Server, TestDatabase, Watching, both, events_of, reason, span};

/// A cursor of a stream over `spaces` that has caught up.
async fn cursor_of(server: &Server, caller: &str, spaces: &[&str]) -> String {
    let request = WatchRevocationsRequest {
        spaces: named(spaces),
        ..Default::default()
    };
    let mut watching = Watching::open(server, caller, request).await.unwrap();
    let messages = watching.until_caught_up().await;
    messages.last().unwrap().cursor.clone()
}

async fn refusal(server: &Server, caller: &str, cursor: &str, spaces: &[&str]) -> Status {
    let request = WatchRevocationsRequest {
        start_cursor: cursor.to_owned(),
        spaces: named(spaces),
        ..Default::default()
    };
    Watching::open(server, caller, request)
        .await
        .expect_err("a refusal")
}

fn named(spaces: &[&str]) -> Vec<String> {
    spaces.iter().map(|&space| space.to_owned()).collect()
}

fn token(number: usize) -> Subject {
    Subject::TokenId(format!("token-{number}"))
}

both!(a_cursor_that_was_never_given_is_invalid, async |server| {
    let admin = server.admin().await.access_token;
    let good = cursor_of(server, &admin, &[]).await;
    let mut cases = vec!["x".to_owned(), "x".repeat(1000), format!("{good}A")];
    for place in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        cases.push(String::from_utf8(bytes).unwrap());
    }
    let last = cases.len() - 1;
    for (number, cursor) in cases.into_iter().enumerate() {
        // The last character carries bits that are no part of the cursor: there, another spelling is refused, too.
        let status = refusal(server, &admin, &cursor, &[]).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{number} of {last}");
        assert_eq!(reason(&status), "CURSOR_INVALID", "{number} of {last}");
    }
});

both!(a_cursor_and_live_only_exclude_each_other, async |server| {
    let admin = server.admin().await.access_token;
    let request = WatchRevocationsRequest {
        start_cursor: cursor_of(server, &admin, &[]).await,
        live_only: true,
        ..Default::default()
    };
    let status = Watching::open(server, &admin, request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status), "FIELD_INVALID");
});

both!(
    heartbeats_come_every_second_to_every_minute,
    async |server| {
        let admin = server.admin().await.access_token;
        for (interval, good) in [(0, false), (1, true), (60, true), (61, false), (-1, false)] {
            let request = WatchRevocationsRequest {
                heartbeat_interval: span(interval),
                ..Default::default()
            };
            let opened = Watching::open(server, &admin, request).await;
            assert_eq!(opened.is_ok(), good, "{interval} s");
        }
    }
);

both!(a_cursor_of_another_stream_is_filtered, async |server| {
    let admin = server.admin().await.access_token;
    server.space("acme").await;
    let revoked = server
        .revoke_by_reference(&admin, token(1), "acme")
        .await
        .unwrap();
    let place = revoked.effect.unwrap().cursor;
    let of_all = cursor_of(server, &admin, &[]).await;
    let of_acme = cursor_of(server, &admin, &["acme"]).await;
    for (what, cursor, spaces) in [
        ("of every space, for one", &of_all, &["acme"][..]),
        ("of one space, for every one", &of_acme, &[]),
        ("of one space, for two", &of_acme, &["acme", "system"]),
        ("of an effect", &place, &[]),
        ("of an effect, for one space", &place, &["acme"]),
    ] {
        let status = refusal(server, &admin, cursor, spaces).await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{what}");
        assert_eq!(reason(&status), "CURSOR_FILTER", "{what}");
    }
});

both!(a_cursor_ahead_of_the_log_is_refused, async |server| {
    let admin = server.admin().await.access_token;
    let head = server.authority.log.catch_up().await.unwrap().position;
    let ahead = server.authority.log.cursor(
        Position(head.0 + 1),
        EntryMark::default(),
        Coverage::of(None),
    );
    let status = refusal(server, &admin, &ahead, &[]).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "CURSOR_AHEAD");
});

both!(
    a_cursor_at_an_entry_that_is_no_more_is_foreign,
    async |server| {
        let admin = server.admin().await.access_token;
        for number in 0..3 {
            server
                .revoke_by_reference(&admin, token(number), "")
                .await
                .unwrap();
        }
        let head = server.authority.log.catch_up().await.unwrap().position;
        let other = EntryMark(*b"anotherr");
        let cursor = server
            .authority
            .log
            .cursor(Position(head.0 - 1), other, Coverage::of(None));
        let status = refusal(server, &admin, &cursor, &[]).await;
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(reason(&status), "CURSOR_FOREIGN");
    }
);

both!(a_cursor_of_another_log_is_foreign, async |server| {
    let admin = server.admin().await.access_token;
    let cursor = cursor_of(server, &admin, &[]).await;
    // The same master key over another database: the cursor is authentic, the log is not the one.
    let data = tempfile::tempdir().unwrap();
    std::fs::copy(
        server.data.path().join("master-key"),
        data.path().join("master-key"),
    )
    .unwrap();
    let database = TestDatabase::create(Engine::Sqlite).await.unwrap();
    let other = Server::start_in(database, data, Clock::system(), |_| {}).await;
    let admin = other.admin().await.access_token;
    let status = refusal(&other, &admin, &cursor, &[]).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "CURSOR_FOREIGN");
    other.stop().await;
});

both!(
    a_cursor_from_before_what_is_forgotten_is_expired,
    async |server| {
        let admin = server.admin().await.access_token;
        server
            .revoke_by_reference(&admin, token(0), "")
            .await
            .unwrap();
        let old = cursor_of(server, &admin, &[]).await;
        for number in 1..4 {
            server
                .revoke_by_reference(&admin, token(number), "")
                .await
                .unwrap();
        }
        server.clock.advance(Duration::from_hours(49));
        let admin = server.admin().await.access_token;
        server
            .revoke_by_reference(&admin, token(4), "")
            .await
            .unwrap();
        let kept = cursor_of(server, &admin, &[]).await;
        forget(server).await;

        let status = refusal(server, &admin, &old, &[]).await;
        assert_eq!(status.code(), Code::OutOfRange);
        assert_eq!(reason(&status), "CURSOR_EXPIRED");

        // The newest entry is never forgotten: whoever has seen it goes on.
        let new = server
            .revoke_by_reference(&admin, token(5), "")
            .await
            .unwrap();
        let mut watching = Watching::after(server, &admin, &kept).await;
        let position = new.effect.unwrap().position;
        let events = events_of(&watching.until_position(position).await);
        assert_eq!(events, [new.event.unwrap()]);
    }
);

both!(what_is_forgotten_in_time_is_not_sent, async |server| {
    let admin = server.admin().await.access_token;
    server
        .revoke_by_reference(&admin, token(0), "")
        .await
        .unwrap();
    server.clock.advance(Duration::from_hours(26));
    let admin = server.admin().await.access_token;
    let new = server
        .revoke_by_reference(&admin, token(1), "")
        .await
        .unwrap();
    let told = async || {
        let mut watching = Watching::after(server, &admin, "").await;
        events_of(&watching.until_caught_up().await)
    };
    assert_eq!(told().await.len(), 2, "the clock may be wrong");
    let believed = Some(server.clock.now());
    server.authority.log.forget(believed).await.unwrap();
    assert_eq!(told().await, [new.event.unwrap()]);
});

both!(a_live_stream_begins_with_what_comes_next, async |server| {
    let admin = server.admin().await.access_token;
    server
        .revoke_by_reference(&admin, token(0), "")
        .await
        .unwrap();
    let request = WatchRevocationsRequest {
        live_only: true,
        ..Default::default()
    };
    let mut watching = Watching::open(server, &admin, request).await.unwrap();
    assert!(events_of(&watching.until_caught_up().await).is_empty());
    let new = server
        .revoke_by_reference(&admin, token(1), "")
        .await
        .unwrap();
    let messages = watching.until_position(new.effect.unwrap().position).await;
    assert_eq!(events_of(&messages), [new.event.unwrap()]);
});

/// Forgets what the server would forget by itself within a minute.
async fn forget(server: &Server) {
    let log = &server.authority.log;
    let floor = log.floor().await.unwrap();
    log.forget(Some(server.clock.now())).await.unwrap();
    assert!(log.floor().await.unwrap() > floor);
}

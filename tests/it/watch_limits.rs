//! How many streams there may be, how long one lives, and that many of them do not crowd out calls.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _};
use token_authority::proto::{
    IntrospectTokenResponse, WatchRevocationsRequest, WatchRevocationsResponse,
    watch_revocations_response::Message,
};
use tonic::{Code, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::support::{
    Engine, PASSWORD, Server, TestDatabase, Watching, as_caller, both, eventually,
    introspect_request, postgres, reason, spawn,
};

const STREAMS_PER_USER: usize = 1024;
const STREAMS_PER_CONNECTION: usize = 128;

async fn as_many_as_a_user_may_open(
    server: &Server,
    caller: &str,
) -> Vec<Streaming<WatchRevocationsResponse>> {
    let mut streams = Vec::with_capacity(STREAMS_PER_USER);
    for _ in 0..STREAMS_PER_USER / STREAMS_PER_CONNECTION {
        let mut revocations = server.revocations().await;
        for _ in 0..STREAMS_PER_CONNECTION {
            let request = as_caller(caller, WatchRevocationsRequest::default());
            let opened = revocations.watch_revocations(request).await.unwrap();
            streams.push(opened.into_inner());
        }
    }
    streams
}

both!(one_stream_too_many_of_a_user_is_refused, async |server| {
    let admin = server.admin().await.access_token;
    let acme = server.space("acme").await;
    let ann = server.user(&acme, "ann").await;
    server.assign(&acme, &ann, "introspector").await;
    let ann = server.sign_in("ann", PASSWORD, "").await.access_token;
    let again = server.admin().await.access_token;
    let mut streams = as_many_as_a_user_may_open(server, &admin).await;

    for caller in [&admin, &again] {
        let request = WatchRevocationsRequest::default();
        let refused = Watching::open(server, caller, request).await;
        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason(&status), "TOO_MANY_STREAMS");
        assert!(status.get_details_retry_info().is_some());
    }
    let mut other = Watching::after(server, &ann, "").await;
    other.until_caught_up().await;

    drop(streams.pop());
    eventually("the seat is free again", async || {
        let request = WatchRevocationsRequest::default();
        Watching::open(server, &admin, request).await.is_ok()
    })
    .await;
});

both!(a_stream_lives_for_about_half_an_hour, async |server| {
    let admin = server.admin().await.access_token;
    let mut watching = Watching::after(server, &admin, "").await;
    watching.until_caught_up().await;
    server.clock.advance(Duration::from_mins(26));
    let now = server.clock.now().seconds();
    let read_now = |message: &Message| matches!(message, Message::Heartbeat(beat) if beat.read_time.unwrap().seconds >= now);
    watching.until(read_now).await;
    server.clock.advance(Duration::from_mins(8));
    assert!(watching.closes().await);
    let mut next = Watching::after(server, &admin, "").await;
    next.until_caught_up().await;
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_that_begin_leave_connections_to_calls() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    let acme = server.space("acme").await;
    let ann = server.user(&acme, "ann").await;
    // Who cannot read the log may answer for no longer than a lease lasts: a machine may be too slow for that once or twice.
    for _ in 0..3 {
        // One that is not remembered yet, so that a connection is needed.
        let key = server.api_key(&admin, &acme, &ann, &[]).await.api_key_token;
        match introspect_while_many_begin(&server, &admin, &key).await {
            Ok(told) => {
                assert!(told.into_inner().introspection.unwrap().active());
                server.stop().await;
                return;
            }
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        let log = &server.authority.log;
        eventually("it may answer again", async || log.is_current()).await;
    }
    panic!("while many streams begin there is no connection for a call");
}

/// Streams that begin ask from where on they can be told.
async fn introspect_while_many_begin(
    server: &Server,
    admin: &str,
    key: &str,
) -> Result<Response<IntrospectTokenResponse>, Status> {
    let mut tokens = server.tokens().await;
    // Whoever reads the log now stays where it is.
    let mut locking = postgres(&server.database).await.unwrap();
    let mut lock = locking.begin().await.unwrap();
    let sql = "LOCK TABLE revocation_log IN ACCESS EXCLUSIVE MODE";
    lock.execute(sql).await.unwrap();
    let reading: Vec<_> = (0..100)
        .map(|_| {
            let log = server.authority.log.clone();
            spawn(async move { log.floor().await })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'revocation_log'::regclass \
        AND NOT granted";
    eventually("they wait", async || {
        let waiting: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&mut *lock)
            .await
            .unwrap();
        waiting >= 2
    })
    .await;
    let request = as_caller(admin, introspect_request(key));
    let answer = tokens.introspect_token(request).await;
    for reading in &reading {
        reading.abort();
    }
    lock.rollback().await.unwrap();
    answer
}

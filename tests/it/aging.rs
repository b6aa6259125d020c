//! A connection that has reached its age is asked to go, and a subscriber on it misses nothing.

use std::time::Duration;

use prost::Message as _;
use token_authority::{
    clock::Clock,
    proto::{self, revocation_subject::Subject, watch_revocations_response::Message as Told},
};
use tonic::{Response, Status};

use crate::support::{
    Engine, Server, TestDatabase, as_caller, never_sent, password_request,
    wire::{
        Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, call_fields, frame, message,
    },
};

const WATCH: &str = "/tokenauthority.v1.RevocationService/WatchRevocations";

/// How many connections may be asked to go before anything is called on them.
const TOO_LATE: usize = 10;

/// A subscriber by hand, who sees the frames of the connection, too.
struct Subscriber {
    connection: Connection,
    unread: Vec<u8>,
    goaways: usize,
    cursor: String,
}

impl Subscriber {
    /// A connection that is asked to go still takes this: the server waits for the answer to a PING, which nobody gives it here.
    async fn begin(server: &Server, token: &str, cursor: &str) -> Self {
        let mut connection = Connection::open(server.grpc).await;
        let credential = format!("Bearer {token}");
        let block = call_fields(WATCH, &[("authorization", &credential)]);
        let begin = frame(HEADERS, END_HEADERS, 1, &block);
        let request = message(&proto::WatchRevocationsRequest {
            start_cursor: cursor.to_owned(),
            ..Default::default()
        });
        connection.send(&begin).await;
        let request = frame(DATA, END_STREAM, 1, &request);
        connection.send(&request).await;
        Self {
            connection,
            unread: Vec::new(),
            goaways: 0,
            cursor: cursor.to_owned(),
        }
    }

    async fn frame(&mut self) {
        let frame = self.connection.next().await.expect("the stream goes on");
        match frame.kind {
            GOAWAY => self.goaways += 1,
            DATA => self.unread.extend(frame.payload),
            _ => {}
        }
    }

    /// Reads until the connection is asked to go.
    async fn asked_to_go(&mut self) {
        while self.goaways == 0 {
            self.frame().await;
        }
    }

    /// The positions of the next entries.
    async fn entries(&mut self) -> Vec<u64> {
        loop {
            let Some(told) = self.message() else {
                self.frame().await;
                continue;
            };
            if let Some(Told::Batch(batch)) = told.message {
                return batch.events.iter().map(|event| event.position).collect();
            }
        }
    }

    fn message(&mut self) -> Option<proto::WatchRevocationsResponse> {
        let length = self.unread.get(1..5)?;
        let length = u32::from_be_bytes(length.try_into().unwrap());
        let end = 5 + usize::try_from(length).unwrap();
        if self.unread.len() < end {
            return None;
        }
        let encoded: Vec<u8> = self.unread.drain(..end).skip(5).collect();
        let told = proto::WatchRevocationsResponse::decode(encoded.as_slice()).unwrap();
        self.cursor = told.cursor.clone();
        Some(told)
    }
}

/// Calls on a new connection, and on another one where it was asked to go before.
async fn called<T>(mut call: impl AsyncFnMut() -> Result<Response<T>, Status>) -> T {
    for _ in 0..TOO_LATE {
        match call().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) => assert!(never_sent(&status), "{status:?}"),
        }
    }
    panic!("no connection is there for as long as it takes to call");
}

/// A JWT of `admin`.
async fn admin(server: &Server) -> String {
    let issued = called(async || {
        let request = password_request("admin", &server.admin_password, "");
        server.tokens().await.issue_token(request).await
    });
    issued.await.token.unwrap().access_token
}

/// Revokes a session that nobody has; where its entry is.
async fn revoke(server: &Server, token: &str, session: &str) -> u64 {
    let subject = proto::RevocationSubject {
        subject: Some(Subject::SessionId(session.to_owned())),
    };
    let request = proto::CreateRevocationRequest {
        subject: Some(subject),
        ..Default::default()
    };
    let created = called(async || {
        let request = as_caller(token, request.clone());
        server.revocations().await.create_revocation(request).await
    });
    created.await.event.unwrap().position
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_on_an_old_connection_is_asked_to_go_and_resumes_without_a_gap() {
    let database = TestDatabase::create(Engine::Sqlite).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_in(database, data, Clock::system(), |settings| {
        settings.limits.connection_age = Duration::from_millis(300);
    })
    .await;
    let token = admin(&server).await;
    let mut sessions = (0..).map(|number| format!("{number:022}"));
    let mut session = || sessions.next().unwrap();

    let first = revoke(&server, &token, &session()).await;
    let mut old = Subscriber::begin(&server, &token, "").await;
    assert_eq!(old.entries().await, [first]);
    old.asked_to_go().await;
    // The stream goes on while its client gets ready to leave.
    let second = revoke(&server, &token, &session()).await;
    assert_eq!(old.entries().await, [second]);
    let third = revoke(&server, &token, &session()).await;
    let mut new = Subscriber::begin(&server, &token, &old.cursor).await;
    drop(old);
    assert_eq!(new.entries().await, [third]);
    let fourth = revoke(&server, &token, &session()).await;
    assert_eq!(new.entries().await, [fourth]);
    drop(new);
    server.stop().await;
}

//! Answers that are asked for and not read take a bounded part of memory, and none of what others need.

use std::{net::Ipv4Addr, time::Duration};

use h2::{RecvStream, client::SendRequest};
use token_authority::proto;
use tokio::{
    net::TcpSocket,
    time::{Instant, sleep},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::codegen::{
    Bytes,
    http::{Request, Response},
};

use crate::support::{Engine, Server, binary::survives, key, reason, run_on, wire::message};

const ME: &str = "/tokenauthority.v1.TokenService/GetCallerIdentity";
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PATIENCE: Duration = Duration::from_secs(20);

/// A client whose answers are read by nobody.
struct Sleeper {
    client: SendRequest<Bytes>,
    _connection: AbortOnDropHandle<()>,
}

impl Sleeper {
    async fn connect(server: &Server, from: Ipv4Addr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect(server.grpc).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = async move { drop(connection.await) };
        Self {
            client: client.ready().await.unwrap(),
            _connection: AbortOnDropHandle::new(TaskTracker::new().spawn(connection)),
        }
    }

    /// Who it is, by a credential that may do much: the head of the answer, and the body that is not read.
    async fn ask(&mut self, token: &str) -> Response<RecvStream> {
        let request = Request::post(format!("http://localhost{ME}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"));
        let request = request.body(()).unwrap();
        let (response, mut sending) = self.client.send_request(request, false).unwrap();
        let message = message(&proto::GetCallerIdentityRequest {});
        sending.send_data(message.into(), true).unwrap();
        response.await.unwrap()
    }
}

/// Why a call was refused; none where it was answered.
fn refusal(answer: &Response<RecvStream>) -> Option<String> {
    let status = tonic::Status::from_header_map(answer.headers())?;
    Some(format!("{:?} {}", status.code(), reason(&status)))
}

/// A key that may do so much that an answer about it takes 264 KiB.
async fn wide_key(server: &Server) -> String {
    let tenant = server.tenant("acme").await;
    let (_, api_key) = server.made_key(&tenant.alice_token, key(&[])).await;
    for role in 0..8 {
        let permissions: Vec<_> = (0..256)
            .map(|number| format!("{role:064}{number:064}"))
            .collect();
        let permissions: Vec<_> = permissions.iter().map(String::as_str).collect();
        let role = format!("wide-{role}");
        server.role(&tenant.space, &role, &permissions).await;
        server.assign(&tenant.space, &tenant.alice, &role).await;
    }
    api_key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_take_64_mebibytes_of_an_address_at_most() {
    run_on(Engine::Sqlite, async |server| {
        let api_key = wide_key(server).await;
        let admin = server.admin().await.access_token;
        let mut held = Vec::new();
        let mut refused = None;
        while refused.is_none() && held.len() < 4 {
            let mut sleeper = Sleeper::connect(server, HERE).await;
            let mut answers = Vec::new();
            while answers.len() < 100 && refused.is_none() {
                let answer = sleeper.ask(&api_key).await;
                refused = refusal(&answer);
                answers.push(answer);
            }
            held.push((sleeper, answers));
        }
        assert_eq!(refused.as_deref(), Some("ResourceExhausted OVERLOADED"));
        let count: usize = held.iter().map(|(_, answers)| answers.len()).sum();
        assert!((240..=256).contains(&count), "{count} answers of 264 KiB");

        // What is small goes on, and what others ask for.
        survives(server.connect().await, &admin).await;
        let other = Sleeper::connect(server, ELSEWHERE)
            .await
            .ask(&api_key)
            .await;
        assert_eq!(refusal(&other), None);

        // Whoever is gone needs no room.
        drop(held);
        let by = Instant::now() + PATIENCE;
        while let Some(told) = refusal(&Sleeper::connect(server, HERE).await.ask(&api_key).await) {
            assert!(Instant::now() < by, "{told}");
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

//! Calls a server with prepared bytes, from tasks that each send one call after the other, or at a fixed rate. The client is the same whatever is
//! called, and neither writes nor reads messages: what differs is the server's work.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::{Bytes, http::uri::PathAndQuery},
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::opaque::Opaque;

/// How many connections a load comes over.
const CONNECTIONS: usize = 4;

/// Messages for one method of one server.
pub(crate) struct Load<'r> {
    runtime: &'r Runtime,
    caller: Arc<Caller>,
    /// Calls at a time.
    tasks: usize,
}

struct Caller {
    channels: Vec<Channel>,
    path: PathAndQuery,
    credential: MetadataValue<Ascii>,
}

/// What came of a call, and how long after it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) code: Code,
    pub(crate) time: Duration,
}

impl<'r> Load<'r> {
    pub(crate) fn new(
        runtime: &'r Runtime,
        address: SocketAddr,
        path: &'static str,
        token: &str,
        tasks: usize,
    ) -> Self {
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let connect = async {
            let mut channels = Vec::new();
            for _ in 0..CONNECTIONS {
                channels.push(endpoint.connect().await.unwrap());
            }
            channels
        };
        let caller = Arc::new(Caller {
            channels: runtime.block_on(connect),
            path: PathAndQuery::from_static(path),
            credential: format!("Bearer {token}").parse().unwrap(),
        });
        Self {
            runtime,
            caller,
            tasks,
        }
    }

    /// One call, and its answer.
    pub(crate) fn once(&self, message: &Bytes) -> Bytes {
        let message = message.clone();
        self.runtime.block_on(self.caller.call(0, message)).unwrap()
    }

    /// Sends the messages in a circle for as long as `window`. How many answers came a second.
    pub(crate) fn for_a_while(&self, messages: &Arc<[Bytes]>, window: Duration) -> f64 {
        let over = Arc::new(AtomicBool::new(false));
        self.run(messages, &over, usize::MAX, Some(window))
    }

    /// Sends every message once. How many answers came a second.
    pub(crate) fn each_once(&self, messages: &Arc<[Bytes]>) -> f64 {
        let over = Arc::new(AtomicBool::new(false));
        self.run(messages, &over, messages.len(), None)
    }

    /// Sends `per_second` messages a second for as long as `window`, whether or not answers come, and waits for all of them.
    pub(crate) fn steadily(
        &self,
        messages: &mut impl Iterator<Item = Bytes>,
        per_second: f64,
        window: Duration,
    ) -> Vec<Answered> {
        self.runtime.block_on(async {
            let begun = Instant::now();
            let mut calls = tokio::task::JoinSet::new();
            for (number, message) in (0_u32..).zip(messages) {
                let due = Duration::from_secs_f64(f64::from(number) / per_second);
                if due >= window {
                    break;
                }
                // A timer is as late as a millisecond: what has become due meanwhile is sent at once.
                tokio::time::sleep_until((begun + due).into()).await;
                let caller = Arc::clone(&self.caller);
                calls.spawn(async move {
                    let sent = Instant::now();
                    let answer = caller.call(number as usize, message).await;
                    Answered {
                        code: answer.map_or_else(|status| status.code(), |_| Code::Ok),
                        time: sent.elapsed(),
                    }
                });
            }
            calls.join_all().await
        })
    }

    fn run(
        &self,
        messages: &Arc<[Bytes]>,
        over: &Arc<AtomicBool>,
        count: usize,
        window: Option<Duration>,
    ) -> f64 {
        let next = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let answers = self.runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0..self.tasks {
                let (caller, messages) = (Arc::clone(&self.caller), Arc::clone(messages));
                let (next, over) = (Arc::clone(&next), Arc::clone(over));
                tasks.spawn(async move {
                    let mut answers = 0;
                    while !over.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            break;
                        }
                        let message = messages[index % messages.len()].clone();
                        caller.call(task, message).await.unwrap();
                        answers += 1;
                    }
                    answers
                });
            }
            if let Some(window) = window {
                tokio::time::sleep(window).await;
                over.store(true, Ordering::Relaxed);
            }
            tasks.join_all().await.into_iter().sum::<u32>()
        });
        f64::from(answers) / begun.elapsed().as_secs_f64()
    }
}

impl Caller {
    async fn call(&self, task: usize, message: Bytes) -> Result<Bytes, Status> {
        let channel = self.channels[task % CONNECTIONS].clone();
        let mut client = Grpc::new(channel);
        client
            .ready()
            .await
            .map_err(|e| Status::from_error(e.into()))?;
        let mut request = Request::new(message);
        let credential = self.credential.clone();
        request.metadata_mut().insert("authorization", credential);
        let answer = client.unary(request, self.path.clone(), Opaque).await?;
        Ok(answer.into_inner())
    }
}

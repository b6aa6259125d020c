//! HTTP/2 for gRPC: one connection, from its first byte to its last.
//!
//! hyper is served directly rather than through tonic's `Server`, which answers a client's deadline with CANCELLED and drops
//! the handler, spawns connections that nobody can await or cut, and waits for one that never spoke.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::codegen::{Bytes, StdError};
use tower::Service;

use crate::{
    connections::{Accepted, ClientAddress, Ending, Seats, Stream, accept::accept, tls::Acceptor},
    grpc::methods::{Method, Shape},
    random,
    telemetry::metrics as names,
};

mod held;
mod replayed;

use self::{
    held::{Held, Holding},
    replayed::Replayed,
};

/// Header lists beyond this are refused.
const HEADER_LIST_MAX: u32 = 16 * 1024;
/// How often a silent connection is asked whether it still lives, and how long it may take to say so.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// How many streams a client may make us reset before its connection ends (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 1024;
/// How long an idle connection may take to say goodbye, and to take what was sent last.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long readers of streams may take for the last word when the server ends.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What every HTTP/2 connection begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// For whoever speaks HTTP/1 here.
const WRONG_VERSION: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\n\
    connection: close\r\ncontent-length: 32\r\n\r\nthis port speaks gRPC by HTTP/2\n";

/// What connections go by.
#[derive(Debug, Clone, Copy)]
pub struct TransportSettings {
    /// Streams on one connection.
    pub streams_max: u32,
    /// How long a new connection may take for its first 24 bytes.
    pub first_byte_timeout: Duration,
    /// When a client is asked to connect anew; a tenth more or less for each, so that not all come at once.
    pub connection_age: Duration,
}

/// Serves `calls` on every connection of `listener`, until `ending` says otherwise.
pub async fn serve<S, B>(
    listener: TcpListener,
    acceptor: Acceptor,
    calls: S,
    settings: TransportSettings,
    seats: Seats<IpAddr>,
    ending: Ending,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    S: Send + Sync + 'static,
    S::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    let shared = ending.clone();
    accept(listener, acceptor, seats, ending, move |accepted| {
        connection(accepted, calls.clone(), settings, shared.clone())
    })
    .await;
}

async fn connection<S, B>(accepted: Accepted, calls: S, settings: TransportSettings, ending: Ending)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    S: Send + Sync + 'static,
    S::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    let Accepted {
        mut stream,
        peer,
        seat: _seat,
    } = accepted;
    // Whoever has connected may be about to call, and is told to go in a way that says that nothing was done.
    let patience = settings.first_byte_timeout;
    let begun = tokio::select! {
        begun = first_bytes(&mut stream, patience) => begun,
        () = after(&ending.draining, GOODBYE) => return,
    };
    let preface = match begun {
        Ok(preface) => preface,
        Err(error) => {
            metrics::counter!(names::CONNECTIONS_REFUSED, "reason" => "silent").increment(1);
            return tracing::debug!(client.address = %peer, error.cause = %error, "connection closed");
        }
    };
    if is_http1(&preface) {
        return answer_http1(stream, settings.first_byte_timeout).await;
    }
    let open = Open::default();
    let service = CallsOf {
        calls,
        client: ClientAddress::new(peer),
        open: open.clone(),
    };
    let mut io = Replayed::new(preface, stream);
    match answer_calls(&mut io, service, open, settings, &ending).await {
        Some(Ok(())) => hear_out(io).await,
        Some(Err(error)) => {
            tracing::debug!(client.address = %peer, error.cause = %error, "connection failed");
        }
        None => {}
    }
}

/// Answers calls until the client leaves, or is asked to and has; none where it says nothing to that.
async fn answer_calls<S, B>(
    io: &mut Replayed,
    service: CallsOf<S>,
    open: Open,
    settings: TransportSettings,
    ending: &Ending,
) -> Option<hyper::Result<()>>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    S: Send + Sync + 'static,
    S::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    let serving = builder(settings, &ending.tasks).serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(serving);
    let aged = sleep(with_jitter(settings.connection_age));
    tokio::select! {
        ended = &mut connection => return Some(ended),
        () = aged => {}
        () = ending.draining.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = &mut connection => Some(ended),
        () = open.none_left(&ending.draining) => None,
    }
}

/// Reads what the client had sent before it knew that nothing more is read here: the reset that follows otherwise may take with
/// it what was answered last.
async fn hear_out(mut io: Replayed) {
    let _late_or_gone = timeout(GOODBYE, tokio::io::copy(&mut io, &mut tokio::io::sink())).await;
}

/// The first 24 bytes, or what there is of them where they already differ from HTTP/2's. `TIMED_OUT` where they take too long.
async fn first_bytes(stream: &mut Stream, patience: Duration) -> io::Result<Vec<u8>> {
    let by = Instant::now() + patience;
    let mut bytes = Vec::with_capacity(PREFACE.len());
    while bytes.len() < PREFACE.len() && PREFACE.starts_with(&bytes) {
        let rest = (PREFACE.len() - bytes.len()) as u64;
        let read = timeout_at(by, (&mut *stream).take(rest).read_buf(&mut bytes)).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes)
}

fn is_http1(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [
        b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"PATC", b"DELE",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Says what is spoken here. What the client has sent must be read, or the reset that follows would take the answer with it.
async fn answer_http1(mut stream: Stream, patience: Duration) {
    let _late_or_gone = timeout(patience, async {
        stream.write_all(WRONG_VERSION).await?;
        stream.shutdown().await?;
        let mut request = (&mut stream).take(u64::from(HEADER_LIST_MAX));
        tokio::io::copy(&mut request, &mut tokio::io::sink()).await
    })
    .await;
}

fn builder(settings: TransportSettings, tasks: &TaskTracker) -> http2::Builder<Tracked> {
    // A server that did not run for a while finds calls that were begun and given up meanwhile: as many as a client may have is no
    // flood (CVE-2023-44487), and the rest of its calls must not end with them.
    let given_up = usize::try_from(settings.streams_max).unwrap_or(usize::MAX);
    let mut builder = http2::Builder::new(Tracked(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(settings.streams_max)
        .max_pending_accept_reset_streams(given_up)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1);
    builder
}

fn with_jitter(age: Duration) -> Duration {
    let [drawn] = random::bytes::<1>().unwrap_or([128]);
    age.mul_f64(0.9 + f64::from(drawn) / 1_280.0)
}

/// Runs the calls of a connection where the server can wait for them.
#[derive(Debug, Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.spawn(call);
    }
}

/// What is open on a connection, each as a clone.
#[derive(Debug, Clone, Default)]
struct Open {
    unary: Arc<()>,
    streams: Arc<()>,
}

impl Open {
    fn of(&self, path: &str) -> &Arc<()> {
        match Method::at(path).shape() {
            Shape::Unary => &self.unary,
            Shape::ServerStream | Shape::ClientStream => &self.streams,
        }
    }

    /// Ends when no call has been open for a while: a client that has gone to sleep must not hold up the end. When the server
    /// ends, streams hold it up no longer than their last word takes to those who read.
    async fn none_left(&self, draining: &CancellationToken) {
        let nothing_but_streams = async {
            after(draining, LAST_WORD).await;
            idle([&self.unary]).await;
        };
        tokio::select! {
            () = idle([&self.unary, &self.streams]) => {}
            () = nothing_but_streams => {}
        }
    }
}

/// Ends so long after the server has begun to end.
async fn after(draining: &CancellationToken, duration: Duration) {
    draining.cancelled().await;
    sleep(duration).await;
}

async fn idle<const N: usize>(kinds: [&Arc<()>; N]) {
    loop {
        sleep(GOODBYE).await;
        // One is the connection's task's, one its service's.
        if kinds.iter().all(|open| Arc::strong_count(open) <= 2) {
            return;
        }
    }
}

/// The calls of one connection.
#[derive(Debug)]
struct CallsOf<S> {
    calls: S,
    client: ClientAddress,
    open: Open,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for CallsOf<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Unpin,
{
    type Response = Response<Held<B>>;
    type Error = Infallible;
    type Future = Holding<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.client);
        let open = Arc::clone(self.open.of(request.uri().path()));
        // The layers are always ready, as their folder promises.
        Holding::new(self.calls.clone().call(request), open)
    }
}

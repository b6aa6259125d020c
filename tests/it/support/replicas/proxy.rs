//! What stands between one replica and PostgreSQL, or between two of the latter: it passes everything on, late, one way only, or not at all.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How it is on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// What is sent is there only after a while.
    Slow(Duration),
    /// The same, but only for what reads the log: the lease is renewed meanwhile.
    SlowTail(Duration),
    /// Nothing passes; what is sent waits.
    Silent,
    /// PostgreSQL hears the replica, and the replica nothing.
    Deaf,
    /// Every connection is cut, and so is every new one.
    Cut,
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    postgres: watch::Sender<SocketAddr>,
    weather: watch::Sender<Weather>,
    end: CancellationToken,
}

impl Proxy {
    pub(crate) async fn before(postgres: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (postgres, weather) = (
            watch::Sender::new(postgres),
            watch::Sender::new(Weather::Fair),
        );
        let end = CancellationToken::new();
        let accepting = accept(
            listener,
            postgres.subscribe(),
            weather.subscribe(),
            end.clone(),
        );
        let tasks = TaskTracker::new();
        tasks.spawn(end.clone().run_until_cancelled_owned(accepting));
        Self {
            port,
            postgres,
            weather,
            end,
        }
    }

    /// From now on new connections end up there.
    pub(crate) fn lead_to(&self, postgres: SocketAddr) {
        self.postgres.send_replace(postgres);
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    postgres: watch::Receiver<SocketAddr>,
    weather: watch::Receiver<Weather>,
    end: CancellationToken,
) {
    let tasks = TaskTracker::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let passing = pass(client, *postgres.borrow(), weather.clone());
        tasks.spawn(end.clone().run_until_cancelled_owned(passing));
    }
}

/// Passes everything on until one side ends, or the weather cuts it.
async fn pass(client: TcpStream, postgres: SocketAddr, weather: watch::Receiver<Weather>) {
    if *weather.borrow() == Weather::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(postgres).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let mut cut = weather.clone();
    let is_tail = AtomicBool::new(false);
    let way = |held_in| Way {
        weather: weather.clone(),
        held_in,
        is_tail: &is_tail,
    };
    let there = way(&[Weather::Silent]);
    let back = way(&[Weather::Silent, Weather::Deaf]);
    tokio::select! {
        () = there.pump(from_client, to_server) => {}
        () = back.pump(from_server, to_client) => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

/// One direction of a connection.
struct Way<'a> {
    weather: watch::Receiver<Weather>,
    held_in: &'static [Weather],
    /// Whether the replica reads the log through it.
    is_tail: &'a AtomicBool,
}

impl Way<'_> {
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else {
                return;
            };
            if says_tail(&buffer[..read]) {
                self.is_tail.store(true, Ordering::Relaxed);
            }
            if let Some(delay) = self.delay() {
                tokio::time::sleep(delay).await;
            }
            let passes = self
                .weather
                .wait_for(|weather| !self.held_in.contains(weather));
            if passes.await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }

    fn delay(&self) -> Option<Duration> {
        match *self.weather.borrow() {
            Weather::Slow(delay) => Some(delay),
            Weather::SlowTail(delay) if self.is_tail.load(Ordering::Relaxed) => Some(delay),
            Weather::SlowTail(_)
            | Weather::Fair
            | Weather::Silent
            | Weather::Deaf
            | Weather::Cut => None,
        }
    }
}

/// Whether it is how the connection that reads the log introduces itself.
fn says_tail(sent: &[u8]) -> bool {
    const NAME: &[u8] = b"token-authority tail\0";
    sent.windows(NAME.len()).any(|part| part == NAME)
}

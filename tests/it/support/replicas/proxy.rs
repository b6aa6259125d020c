//! What stands between one replica and PostgreSQL, or between two of the latter: it passes everything on, late, one way only, or
//! not at all.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What is late is late together: a slow way is one of long delays, not one that little fits through.
const BUFFER: usize = 1024 * 1024;

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

/// What is held up of one connection alone, whatever the weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Snag {
    Nothing,
    /// What the replica sends to renew its lease.
    Renewals,
    /// What it is answered when they are committed.
    AnswersToRenewals,
    /// What its sequencer sends, for so long.
    Steps(Duration),
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    postgres: watch::Sender<SocketAddr>,
    weather: watch::Sender<Weather>,
    snag: watch::Sender<Snag>,
    /// How often a snag has held something up.
    held_up: watch::Sender<u64>,
    end: CancellationToken,
}

impl Proxy {
    pub(crate) async fn before(postgres: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self {
            port,
            postgres: watch::Sender::new(postgres),
            weather: watch::Sender::new(Weather::Fair),
            snag: watch::Sender::new(Snag::Nothing),
            held_up: watch::Sender::new(0),
            end: CancellationToken::new(),
        };
        let passage = Passage {
            weather: proxy.weather.subscribe(),
            snag: proxy.snag.subscribe(),
            held_up: proxy.held_up.clone(),
        };
        let postgres = proxy.postgres.subscribe();
        let accepting = accept(listener, postgres, passage, proxy.end.clone());
        let tasks = TaskTracker::new();
        tasks.spawn(proxy.end.clone().run_until_cancelled_owned(accepting));
        proxy
    }

    /// From now on new connections end up there.
    pub(crate) fn lead_to(&self, postgres: SocketAddr) {
        self.postgres.send_replace(postgres);
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Holds something up, and returns when that has come about, or does not within `patience`.
    pub(crate) async fn hold_up(&self, snag: Snag, patience: Duration) -> bool {
        let before = *self.held_up.borrow();
        let mut held_up = self.held_up.subscribe();
        self.snag.send_replace(snag);
        let waiting = held_up.wait_for(|count| *count > before);
        tokio::time::timeout(patience, waiting).await.is_ok()
    }

    /// Nothing is held up any more, but by the weather.
    pub(crate) fn let_go(&self) {
        self.snag.send_replace(Snag::Nothing);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// What every connection goes by.
#[derive(Clone)]
struct Passage {
    weather: watch::Receiver<Weather>,
    snag: watch::Receiver<Snag>,
    held_up: watch::Sender<u64>,
}

async fn accept(
    listener: TcpListener,
    postgres: watch::Receiver<SocketAddr>,
    passage: Passage,
    end: CancellationToken,
) {
    let tasks = TaskTracker::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let passing = pass(client, *postgres.borrow(), passage.clone());
        tasks.spawn(end.clone().run_until_cancelled_owned(passing));
    }
}

/// Passes everything on until one side ends, or the weather cuts it.
async fn pass(client: TcpStream, postgres: SocketAddr, passage: Passage) {
    if *passage.weather.borrow() == Weather::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(postgres).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let mut cut = passage.weather.clone();
    let purpose = OnceLock::new();
    let way = |towards| Way {
        passage: passage.clone(),
        towards,
        purpose: &purpose,
    };
    tokio::select! {
        () = way(Towards::Postgres).pump(from_client, to_server) => {}
        () = way(Towards::Replica).pump(from_server, to_client) => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Towards {
    Postgres,
    Replica,
}

/// What the replica has a connection for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Tail,
    Lease,
    Sequencer,
    Other,
}

/// One direction of a connection.
struct Way<'a> {
    passage: Passage,
    towards: Towards,
    purpose: &'a OnceLock<Purpose>,
}

impl Way<'_> {
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; BUFFER];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else {
                return;
            };
            let sent = &buffer[..read];
            if self.towards == Towards::Postgres
                && self.purpose.get().is_none()
                && let Some(purpose) = told_purpose(sent)
            {
                let _ = self.purpose.set(purpose);
            }
            if let Some(delay) = self.delay() {
                tokio::time::sleep(delay).await;
            }
            self.get_past_snag(sent).await;
            let towards = self.towards;
            let weather = &mut self.passage.weather;
            let passes = weather.wait_for(|weather| !is_held_by(*weather, towards));
            if passes.await.is_err() || to.write_all(sent).await.is_err() {
                return;
            }
        }
    }

    fn purpose(&self) -> Purpose {
        self.purpose.get().copied().unwrap_or(Purpose::Other)
    }

    fn delay(&self) -> Option<Duration> {
        match *self.passage.weather.borrow() {
            Weather::Slow(delay) => Some(delay),
            Weather::SlowTail(delay) if self.purpose() == Purpose::Tail => Some(delay),
            Weather::SlowTail(_)
            | Weather::Fair
            | Weather::Silent
            | Weather::Deaf
            | Weather::Cut => None,
        }
    }

    async fn get_past_snag(&mut self, sent: &[u8]) {
        let snag = *self.passage.snag.borrow();
        let held = match snag {
            Snag::Nothing => false,
            Snag::Renewals => self.purpose() == Purpose::Lease && self.towards == Towards::Postgres,
            Snag::AnswersToRenewals => {
                self.purpose() == Purpose::Lease
                    && self.towards == Towards::Replica
                    && position(sent, COMMIT).is_some()
            }
            Snag::Steps(_) => {
                self.purpose() == Purpose::Sequencer && self.towards == Towards::Postgres
            }
        };
        if !held {
            return;
        }
        self.passage.held_up.send_modify(|count| *count += 1);
        match snag {
            Snag::Steps(duration) => tokio::time::sleep(duration).await,
            Snag::Nothing | Snag::Renewals | Snag::AnswersToRenewals => {
                let _ = self.passage.snag.wait_for(|other| *other != snag).await;
            }
        }
    }
}

fn is_held_by(weather: Weather, towards: Towards) -> bool {
    match weather {
        Weather::Silent => true,
        Weather::Deaf => towards == Towards::Replica,
        Weather::Fair | Weather::Slow(_) | Weather::SlowTail(_) | Weather::Cut => false,
    }
}

/// As it is answered.
const COMMIT: &[u8] = b"COMMIT\0";

/// What a connection is for, where it introduces itself.
fn told_purpose(sent: &[u8]) -> Option<Purpose> {
    const INTRODUCTION: &[u8] = b"application_name\0";
    let begins = position(sent, INTRODUCTION)? + INTRODUCTION.len();
    let name = sent[begins..].split(|byte| *byte == 0).next()?;
    Some(match name {
        b"token-authority tail" => Purpose::Tail,
        b"token-authority lease" => Purpose::Lease,
        b"token-authority sequencer" => Purpose::Sequencer,
        _ => Purpose::Other,
    })
}

fn position(sent: &[u8], wanted: &[u8]) -> Option<usize> {
    sent.windows(wanted.len()).position(|part| part == wanted)
}

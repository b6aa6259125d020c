//! What stands between one replica and PostgreSQL: it passes everything on, late, one way only, or not at all.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How it is on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    Fair,
    /// What is sent is there only after a while.
    Slow(Duration),
    /// Nothing passes; what is sent waits.
    Silent,
    /// PostgreSQL hears the replica, and the replica nothing.
    Deaf,
    /// Every connection is cut, and so is every new one.
    Cut,
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) port: u16,
    weather: watch::Sender<Weather>,
    end: CancellationToken,
}

impl Proxy {
    pub(super) async fn before(postgres: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (weather, end) = (watch::Sender::new(Weather::Fair), CancellationToken::new());
        let accepting = accept(listener, postgres, weather.subscribe(), end.clone());
        let tasks = TaskTracker::new();
        tasks.spawn(end.clone().run_until_cancelled_owned(accepting));
        Self { port, weather, end }
    }

    pub(super) fn set(&self, weather: Weather) {
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
    postgres: SocketAddr,
    weather: watch::Receiver<Weather>,
    end: CancellationToken,
) {
    let tasks = TaskTracker::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let passing = pass(client, postgres, weather.clone());
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
    tokio::select! {
        () = pump(from_client, to_server, weather.clone(), &[Weather::Silent]) => {}
        () = pump(from_server, to_client, weather, &[Weather::Silent, Weather::Deaf]) => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    held_in: &[Weather],
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let now = *weather.borrow();
        if let Weather::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        let passes = weather.wait_for(|weather| !held_in.contains(weather));
        if passes.await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

//! How a server is told to end: politely once, and a second time when that takes too long.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::{Error, Result};

/// The wish that a server end. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    insisted: CancellationToken,
    /// Listens for signals for as long as the process lives; nobody waits for it.
    listening: TaskTracker,
}

impl Shutdown {
    /// Nobody wishes it yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The wish of whoever sends SIGTERM or SIGINT; a second one insists. INTERNAL where the process may not listen.
    pub fn on_signals() -> Result<Self> {
        let unheard = |error| Error::internal("signals cannot be heard").because(error);
        let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
        let shutdown = Self::new();
        let heard = shutdown.clone();
        shutdown.listening.spawn(async move {
            for wish in [Self::ask, Self::insist] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = heard.insisted.cancelled() => return,
                }
                wish(&heard);
            }
        });
        Ok(shutdown)
    }

    /// Asks for an end that harms no call.
    pub fn ask(&self) {
        self.asked.cancel();
    }

    /// Asks for an end at once.
    pub fn insist(&self) {
        self.asked.cancel();
        self.insisted.cancel();
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Waits until somebody insists.
    pub async fn insisted(&self) {
        self.insisted.cancelled().await;
    }
}

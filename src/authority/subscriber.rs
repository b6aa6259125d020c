//! How a subscriber is told: one message at a time, with patience, and with a last word for which there is always room.

use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit, Receiver};

use crate::error::{Error, Reason, Result};

/// How long a reader may take none.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where messages are sent for a subscriber.
#[derive(Debug)]
pub struct Subscriber<T>(mpsc::Sender<T>);

/// What opens a stream: where its messages are sent and where its last word, and where both are read.
pub type Opened<T> = (Subscriber<T>, OwnedPermit<T>, Receiver<T>);

impl<T> Subscriber<T> {
    /// Room for a message on its way, and for the last word.
    pub fn open() -> Result<Opened<T>> {
        let (sender, receiver) = mpsc::channel(2);
        let last_word = sender.clone().try_reserve_owned().map_err(|_| closed())?;
        Ok((Self(sender), last_word, receiver))
    }

    /// Hands a message over. `SUBSCRIBER_TOO_SLOW` where none is taken; INTERNAL where the reader has gone.
    pub async fn tell(&self, message: T) -> Result<()> {
        match tokio::time::timeout(PATIENCE, self.0.send(message)).await {
            Ok(told) => told.map_err(|_| closed()),
            Err(_) => Err(Error::new(
                Reason::SubscriberTooSlow,
                "the subscriber fell behind",
            )),
        }
    }

    /// Waits until the reader has gone.
    pub fn gone(&self) -> impl Future<Output = ()> + use<T> {
        let sender = self.0.clone();
        async move { sender.closed().await }
    }
}

fn closed() -> Error {
    Error::internal("the stream is closed")
}

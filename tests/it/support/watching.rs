//! A subscriber of the revocation stream.

use std::time::Duration;

use token_authority::proto::{
    RevocationEvent, WatchRevocationsRequest, WatchRevocationsResponse,
    revocation_service_client::RevocationServiceClient, watch_revocations_response::Message,
};
use tonic::{Status, Streaming, transport::Channel};

use super::{Server, as_caller};

/// Longer than any message takes to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open stream.
#[derive(Debug)]
pub(crate) struct Watching(Streaming<WatchRevocationsResponse>);

impl Watching {
    /// Opens one, on a connection of its own.
    pub(crate) async fn open(
        server: &Server,
        caller: &str,
        request: WatchRevocationsRequest,
    ) -> Result<Self, Status> {
        Self::open_on(server.connect().await, caller, request).await
    }

    /// Opens one on a connection that is there.
    pub(crate) async fn open_on(
        channel: Channel,
        caller: &str,
        request: WatchRevocationsRequest,
    ) -> Result<Self, Status> {
        let mut revocations = RevocationServiceClient::new(channel);
        let opened = revocations
            .watch_revocations(as_caller(caller, request))
            .await?;
        Ok(Self(opened.into_inner()))
    }

    /// Opens one after a cursor; from the oldest entry where that is empty.
    pub(crate) async fn after(server: &Server, caller: &str, cursor: &str) -> Self {
        let request = WatchRevocationsRequest {
            start_cursor: cursor.to_owned(),
            heartbeat_interval: span(1),
            ..Default::default()
        };
        Self::open(server, caller, request).await.unwrap()
    }

    /// The next message; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchRevocationsResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.0.message())
            .await
            .expect("a message or the end")
    }

    /// The next message, which there must be.
    pub(crate) async fn message(&mut self) -> WatchRevocationsResponse {
        self.next().await.unwrap().expect("a message")
    }

    /// Every message up to one that `last` knows.
    pub(crate) async fn until(
        &mut self,
        last: impl Fn(&Message) -> bool,
    ) -> Vec<WatchRevocationsResponse> {
        let mut messages = Vec::new();
        loop {
            let message = self.message().await;
            let done = last(message.message.as_ref().expect("a kind that is known"));
            messages.push(message);
            if done {
                return messages;
            }
        }
    }

    /// Every message up to the one that says that the past is over.
    pub(crate) async fn until_caught_up(&mut self) -> Vec<WatchRevocationsResponse> {
        self.until(|message| matches!(message, Message::CaughtUp(_)))
            .await
    }

    /// Every message up to a batch with an entry at `position` or beyond.
    pub(crate) async fn until_position(&mut self, position: u64) -> Vec<WatchRevocationsResponse> {
        let mut messages = Vec::new();
        while messages
            .last()
            .is_none_or(|last: &WatchRevocationsResponse| last.position < position)
        {
            messages.push(self.message().await);
        }
        messages
    }

    /// Reads to the end of the stream, and says whether its last message was that the server closes it.
    pub(crate) async fn closes(&mut self) -> bool {
        let reading = async {
            let mut closing = false;
            while let Some(message) = self.0.message().await.unwrap() {
                closing = matches!(message.message, Some(Message::Closing(_)));
            }
            closing
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("the end of the stream")
    }
}

/// The entries in some messages.
pub(crate) fn events_of(messages: &[WatchRevocationsResponse]) -> Vec<RevocationEvent> {
    messages
        .iter()
        .filter_map(|message| match &message.message {
            Some(Message::Batch(batch)) => Some(batch.events.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// A duration as requests carry it.
pub(crate) fn span(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

//! `SigningKeyService`: so far, the public keys by which everyone can verify tokens.

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, async_trait};

use super::{convert, layers::CallContext};
use crate::{
    authority::{Authority, keyring::MAX_AGE},
    connections::Seats,
    error::{Error, Reason, Result},
    proto::{self, signing_key_service_server::SigningKeyService},
    telemetry::metrics as names,
};

/// Streams at a time, as the contract says.
const STREAMS: usize = 1024;
const STREAMS_PER_ADDRESS: usize = 32;
/// How long a reader may take none.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    authority: Arc<Authority>,
    draining: CancellationToken,
    tasks: TaskTracker,
    streams: Seats<Option<IpAddr>>,
}

impl SigningKeys {
    /// Serves the keys of `authority`; streams run on `tasks` and end when `draining` is cancelled.
    pub fn new(authority: Arc<Authority>, draining: CancellationToken, tasks: TaskTracker) -> Self {
        let gauge = metrics::gauge!(names::STREAMS, "method" => "WatchJwks");
        Self {
            authority,
            draining,
            tasks,
            streams: Seats::new(STREAMS, STREAMS_PER_ADDRESS, gauge),
        }
    }

    fn jwks(&self) -> proto::GetJwksResponse {
        proto::GetJwksResponse {
            jwks_json: self.authority.keyring.published().jwks_json.to_string(),
            max_age: Some(convert::duration(MAX_AGE)),
        }
    }
}

type JwksStream = Pin<Box<dyn Stream<Item = Result<proto::WatchJwksResponse, Status>> + Send>>;

#[async_trait]
impl SigningKeyService for SigningKeys {
    async fn get_jwks(
        &self,
        _: Request<proto::GetJwksRequest>,
    ) -> Result<Response<proto::GetJwksResponse>, Status> {
        Ok(Response::new(self.jwks()))
    }

    type WatchJwksStream = JwksStream;

    async fn watch_jwks(
        &self,
        request: Request<proto::WatchJwksRequest>,
    ) -> Result<Response<JwksStream>, Status> {
        let context = CallContext::of(request.extensions());
        let seat = self
            .streams
            .take(context.map(|context| context.client.network()));
        let seat = seat.map_err(|_full| {
            Error::new(
                Reason::TooManyStreams,
                "too many streams of the public keys",
            )
            .retry_after(MAX_AGE)
        })?;
        // One place for a message on its way, one for the last word, which is kept free for it.
        let (sender, receiver) = mpsc::channel(2);
        let last_word = sender.clone().reserve_owned().await;
        let last_word =
            last_word.map_err(|error| Error::internal("the stream is closed").because(error))?;
        let service = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = service.send_keys(sender).await {
                last_word.send(Err(error.into()));
            }
        });
        let messages = ReceiverStream::new(receiver).map(move |message| {
            let _taken = &seat;
            message
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn list_signing_keys(
        &self,
        _: Request<proto::ListSigningKeysRequest>,
    ) -> Result<Response<proto::ListSigningKeysResponse>, Status> {
        Err(Status::unimplemented("not there yet"))
    }

    async fn prepare_signing_key(
        &self,
        _: Request<proto::PrepareSigningKeyRequest>,
    ) -> Result<Response<proto::PrepareSigningKeyResponse>, Status> {
        Err(Status::unimplemented("not there yet"))
    }

    async fn activate_signing_key(
        &self,
        _: Request<proto::ActivateSigningKeyRequest>,
    ) -> Result<Response<proto::ActivateSigningKeyResponse>, Status> {
        Err(Status::unimplemented("not there yet"))
    }

    async fn revoke_signing_key(
        &self,
        _: Request<proto::RevokeSigningKeyRequest>,
    ) -> Result<Response<proto::RevokeSigningKeyResponse>, Status> {
        Err(Status::unimplemented("not there yet"))
    }
}

impl SigningKeys {
    /// The whole set now, whenever it changes, and every so often, until the reader has gone or the server ends.
    /// `SUBSCRIBER_TOO_SLOW` where the reader does not read.
    async fn send_keys(
        &self,
        sender: mpsc::Sender<Result<proto::WatchJwksResponse, Status>>,
    ) -> Result<()> {
        let mut changes = self.authority.keyring.changes();
        loop {
            changes.mark_unchanged();
            let message = proto::WatchJwksResponse {
                jwks: Some(self.jwks()),
            };
            let taken = tokio::time::timeout(PATIENCE, sender.send(Ok(message)));
            tokio::select! {
                taken = taken => match taken {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(Error::new(Reason::SubscriberTooSlow, "the subscriber fell behind")),
                },
                () = self.draining.cancelled() => return Ok(()),
            }
            tokio::select! {
                news = changes.changed() => {
                    if news.is_err() {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(MAX_AGE) => {}
                () = self.draining.cancelled() => return Ok(()),
                () = sender.closed() => return Ok(()),
            }
        }
    }
}

//! `SigningKeyService`: so far, the public keys by which everyone can verify tokens.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, async_trait};

use super::{convert, layers::CallContext};
use crate::{
    authority::{Authority, keyring::MAX_AGE},
    error::{Error, Reason, Result},
    proto::{self, signing_key_service_server::SigningKeyService},
};

const STREAMS: usize = 1024;
const STREAMS_PER_ADDRESS: usize = 32;

/// The service.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    authority: Arc<Authority>,
    draining: CancellationToken,
    tasks: TaskTracker,
    watching: Arc<Mutex<HashMap<Option<IpAddr>, usize>>>,
}

impl SigningKeys {
    /// Serves the keys of `authority`; streams run on `tasks` and end when `draining` is cancelled.
    pub fn new(authority: Arc<Authority>, draining: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            authority,
            draining,
            tasks,
            watching: Arc::default(),
        }
    }

    fn jwks(&self) -> proto::GetJwksResponse {
        proto::GetJwksResponse {
            jwks_json: self.authority.keyring.published().jwks_json.to_string(),
            max_age: Some(convert::duration(MAX_AGE)),
        }
    }

    /// A place among the streams, given back when dropped.
    fn seat(&self, address: Option<IpAddr>) -> Result<Seat> {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = watching.values().sum();
        let here = watching.get(&address).copied().unwrap_or_default();
        if all >= STREAMS || here >= STREAMS_PER_ADDRESS {
            return Err(Error::new(
                Reason::TooManyStreams,
                "too many streams of the public keys",
            )
            .retry_after(MAX_AGE));
        }
        watching.insert(address, here + 1);
        drop(watching);
        Ok(Seat {
            address,
            watching: Arc::clone(&self.watching),
        })
    }
}

struct Seat {
    address: Option<IpAddr>,
    watching: Arc<Mutex<HashMap<Option<IpAddr>, usize>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = watching.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                watching.remove(&self.address);
            }
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
        let address = CallContext::of(request.extensions()).map(|context| context.client.ip());
        let seat = self.seat(address)?;
        let (sender, receiver) = mpsc::channel(1);
        let service = self.clone();
        self.tasks.spawn(async move {
            let _seat = seat;
            service.send_keys(sender).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
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
    /// The whole set now, whenever it changes, and every so often.
    async fn send_keys(&self, sender: mpsc::Sender<Result<proto::WatchJwksResponse, Status>>) {
        let mut changes = self.authority.keyring.changes();
        loop {
            changes.mark_unchanged();
            let message = proto::WatchJwksResponse {
                jwks: Some(self.jwks()),
            };
            tokio::select! {
                sent = sender.send(Ok(message)) => {
                    if sent.is_err() {
                        return;
                    }
                }
                () = self.draining.cancelled() => return,
            }
            tokio::select! {
                news = changes.changed() => {
                    if news.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(MAX_AGE) => {}
                () = self.draining.cancelled() => return,
                () = sender.closed() => return,
            }
        }
    }
}

//! `SigningKeyService`: the keys that sign, and the public halves by which everyone can verify tokens.

use std::{net::IpAddr, pin::Pin, sync::Arc};

use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, async_trait};

use super::{authentication::caller_of, convert, layers::CallContext};
use crate::{
    authority::{
        Authority,
        signing_keys::{activate, list, prepare, revoke},
        subscriber::Subscriber,
    },
    connections::Seats,
    domain::{
        ids::SigningKeyId,
        jwt::Algorithm,
        signing_key::{MAX_AGE, SigningKeyDescription, State},
    },
    error::{Error, Reason, Result},
    proto::{self, signing_key_service_server::SigningKeyService},
    telemetry::metrics as names,
};

/// Streams at a time, as the contract says.
const STREAMS: usize = 1024;
const STREAMS_PER_ADDRESS: usize = 32;

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
        let (subscriber, last_word, receiver) = Subscriber::open()?;
        let service = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = service.send_keys(&subscriber).await {
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
        request: Request<proto::ListSigningKeysRequest>,
    ) -> Result<Response<proto::ListSigningKeysResponse>, Status> {
        let caller = caller_of(&request)?;
        let mut request = request.into_inner();
        let page_token = std::mem::take(&mut request.page_token);
        let page_size = std::mem::take(&mut request.page_size);
        let method = "ListSigningKeys";
        let wanted = convert::page(&caller, method, page_size, &page_token, &request)?;
        let page = list::list(&self.authority, &wanted).await?;
        Ok(Response::new(proto::ListSigningKeysResponse {
            signing_keys: page.rows.iter().map(described).collect(),
            next_page_token: page.next,
        }))
    }

    async fn prepare_signing_key(
        &self,
        request: Request<proto::PrepareSigningKeyRequest>,
    ) -> Result<Response<proto::PrepareSigningKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let algorithm = algorithm(request.get_ref().algorithm)?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let prepared = prepare::prepare(&self.authority, &caller, algorithm, until).await?;
        Ok(Response::new(proto::PrepareSigningKeyResponse {
            signing_key: Some(described(&prepared)),
        }))
    }

    async fn activate_signing_key(
        &self,
        request: Request<proto::ActivateSigningKeyRequest>,
    ) -> Result<Response<proto::ActivateSigningKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let id = named(&request.signing_key_id)?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let active =
            activate::activate(&self.authority, &caller, &id, request.force, until).await?;
        Ok(Response::new(proto::ActivateSigningKeyResponse {
            signing_key: Some(described(&active)),
        }))
    }

    async fn revoke_signing_key(
        &self,
        request: Request<proto::RevokeSigningKeyRequest>,
    ) -> Result<Response<proto::RevokeSigningKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let id = named(&request.signing_key_id)?;
        let until = caller.call.wait_until(convert::wait(request.wait)?);
        let (key, effect) = revoke::revoke(&self.authority, &caller, &id, until).await?;
        Ok(Response::new(proto::RevokeSigningKeyResponse {
            signing_key: Some(described(&key)),
            effect: effect.map(convert::effect),
        }))
    }
}

fn named(id: &str) -> Result<SigningKeyId> {
    SigningKeyId::parse(convert::required(id, "signing_key_id")?)
}

fn algorithm(asked: i32) -> Result<Option<Algorithm>> {
    match proto::SigningAlgorithm::try_from(asked) {
        Ok(proto::SigningAlgorithm::Unspecified) => Ok(None),
        Ok(proto::SigningAlgorithm::Eddsa) => Ok(Some(Algorithm::EdDsa)),
        Ok(proto::SigningAlgorithm::Es256) => Ok(Some(Algorithm::Es256)),
        Err(_) => Err(Error::field("algorithm", "is not known")),
    }
}

fn described(key: &SigningKeyDescription) -> proto::SigningKey {
    let algorithm = match key.algorithm {
        Algorithm::EdDsa => proto::SigningAlgorithm::Eddsa,
        Algorithm::Es256 => proto::SigningAlgorithm::Es256,
    };
    let state = match key.life.state {
        State::Prepared => proto::SigningKeyState::Prepared,
        State::Active => proto::SigningKeyState::Active,
        State::Retiring => proto::SigningKeyState::Retiring,
        State::Retired => proto::SigningKeyState::Retired,
        State::Revoked => proto::SigningKeyState::Revoked,
    };
    proto::SigningKey {
        signing_key_id: key.id.to_string(),
        algorithm: algorithm.into(),
        state: state.into(),
        prepare_time: Some(convert::timestamp(key.life.prepare_time)),
        activate_time: key.life.activate_time.map(convert::timestamp),
        retire_time: key.life.retire_time.map(convert::timestamp),
        remove_time: key.life.remove_time.map(convert::timestamp),
    }
}

impl SigningKeys {
    /// The whole set now, whenever it changes, and every so often, until the reader has gone or the server ends.
    /// `SUBSCRIBER_TOO_SLOW` where the reader does not read.
    async fn send_keys(
        &self,
        subscriber: &Subscriber<Result<proto::WatchJwksResponse, Status>>,
    ) -> Result<()> {
        let mut changes = self.authority.keyring.changes();
        loop {
            changes.mark_unchanged();
            let message = proto::WatchJwksResponse {
                jwks: Some(self.jwks()),
            };
            tokio::select! {
                told = subscriber.tell(Ok(message)) => told?,
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
                () = subscriber.gone() => return Ok(()),
            }
        }
    }
}

//! Clients of every replica who issue, introspect and revoke, and do one thing alone where something fails: they ask again,
//! perhaps elsewhere, where the answer is UNAVAILABLE.

use std::{
    error::Error,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use token_authority::proto::{
    self, api_key_service_client::ApiKeyServiceClient, token_service_client::TokenServiceClient,
};
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};

use super::{At, Cluster};
use crate::support::{Dice, answered, as_caller, create_key, exchange_request, key};

/// Longer than any call takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) cluster: Cluster,
    /// A JWT of `admin`, which nobody revokes.
    pub(crate) admin: String,
    key: String,
    /// Ends the clients.
    pub(crate) stop: CancellationToken,
    outcome: Mutex<Outcome>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) calls: usize,
    pub(crate) retries: usize,
    /// Calls about which nothing was done, because their connection was about to end.
    pub(crate) never_sent: usize,
    /// Tokens whose revocation was acknowledged as effective, and its place.
    pub(crate) dead: Vec<(String, u64)>,
    /// Whatever a retry on UNAVAILABLE does not hide.
    pub(crate) unexpected: Vec<String>,
}

impl Load {
    /// An API key for everybody, over running replicas.
    pub(crate) async fn on(cluster: Cluster) -> Arc<Self> {
        let admin = cluster.admin().await;
        let mut keys = ApiKeyServiceClient::new(cluster.running().remove(0).channel);
        let made = answered(async || {
            let request = create_key(key(&[]));
            keys.create_api_key(as_caller(&admin, request)).await
        });
        Arc::new(Self {
            key: made.await.unwrap().into_inner().api_key_token,
            cluster,
            admin,
            stop: CancellationToken::new(),
            outcome: Mutex::default(),
        })
    }

    /// One client, until it is to stop.
    pub(crate) async fn go_on(self: Arc<Self>, mut dice: Dice) {
        while !self.stop.is_cancelled() {
            self.life_of_a_token(&mut dice).await;
        }
    }

    /// What came of it so far.
    pub(crate) fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the replicas that run, but not that of this name.
    pub(crate) async fn anywhere_but(&self, name: &str, dice: &mut Dice) -> At {
        loop {
            let mut running = self.cluster.running();
            running.retain(|at| at.name != name);
            if !running.is_empty() {
                let drawn = dice.below(running.len() as u64);
                return running.swap_remove(usize::try_from(drawn).unwrap());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Issued, good, revoked, dead; each at another replica.
    async fn life_of_a_token(&self, dice: &mut Dice) {
        let issue = |at: At| {
            let request = exchange_request(&self.key);
            async move {
                TokenServiceClient::new(at.channel)
                    .issue_token(request)
                    .await
            }
        };
        let Some((_, issued)) = self.retry("issue", dice, issue).await else {
            return;
        };
        let token = issued.token.unwrap().access_token;
        self.expect(&token, true, dice).await;
        let Some(place) = self.revoke(&token, dice).await else {
            return;
        };
        self.expect(&token, false, dice).await;
        let earlier = {
            let mut outcome = self.outcome();
            outcome.dead.push((token, place));
            let drawn = dice.below(outcome.dead.len() as u64);
            outcome.dead[usize::try_from(drawn).unwrap()].0.clone()
        };
        self.expect(&earlier, false, dice).await;
    }

    /// Revokes a token until nobody can call it good any more, and says at which place that is.
    async fn revoke(&self, token: &str, dice: &mut Dice) -> Option<u64> {
        loop {
            let revoke = |at: At| {
                let token = token.to_owned();
                let request = proto::RevokeTokenRequest { token, wait: None };
                async move {
                    TokenServiceClient::new(at.channel)
                        .revoke_token(request)
                        .await
                }
            };
            let (_, revoked) = self.retry("revoke", dice, revoke).await?;
            let effect = revoked.effect.unwrap();
            if effect.effective() {
                return Some(effect.position);
            }
        }
    }

    /// Asks about a token, and notes where the answer is another than it ought to be.
    async fn expect(&self, token: &str, active: bool, dice: &mut Dice) {
        let ask = |at: At| introspect(at, &self.admin, token);
        let Some((at, told)) = self.retry("introspect", dice, ask).await else {
            return;
        };
        if told.introspection.unwrap().active() != active {
            let wrong = format!("at {} a token was not active = {active}", at.name);
            self.outcome().unexpected.push(wrong);
        }
    }

    /// Calls until the answer is not UNAVAILABLE, and says where it is from; any other failure is noted.
    async fn retry<T, Answer>(
        &self,
        what: &str,
        dice: &mut Dice,
        call: impl Fn(At) -> Answer,
    ) -> Option<(At, T)>
    where
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = String::new();
        loop {
            let at = self.anywhere_but(&last, dice).await;
            let answer = tokio::time::timeout(PATIENCE, call(at.clone())).await;
            match self.take_in(what, &at, answer) {
                ControlFlow::Break(answer) => return Some((at, answer?)),
                ControlFlow::Continue(()) => tokio::time::sleep(PAUSE).await,
            }
            last = at.name;
        }
    }

    /// Goes on where the answer is UNAVAILABLE.
    fn take_in<T>(
        &self,
        what: &str,
        at: &At,
        answer: Result<Result<Response<T>, Status>, Elapsed>,
    ) -> ControlFlow<Option<T>> {
        let mut outcome = self.outcome();
        outcome.calls += 1;
        match answer {
            Ok(Ok(answer)) => ControlFlow::Break(Some(answer.into_inner())),
            Ok(Err(status)) if status.code() == Code::Unavailable => {
                outcome.retries += 1;
                ControlFlow::Continue(())
            }
            Ok(Err(status)) if never_sent(&status) => {
                outcome.never_sent += 1;
                ControlFlow::Continue(())
            }
            failed => {
                let failed = failed.map(|answer| answer.map(drop));
                let failed = format!("{what} at {}: {failed:?}", at.name);
                outcome.unexpected.push(failed);
                ControlFlow::Break(None)
            }
        }
    }
}

/// Whether nothing was done about a call because its connection was about to end: it was still in the client, or the server had
/// said GOAWAY. Other libraries of gRPC make such a call again by themselves.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let of_http = error.downcast_ref::<hyper::Error>();
        let of_frames = error.downcast_ref::<h2::Error>();
        if of_http.is_some_and(hyper::Error::is_canceled) || of_frames.is_some_and(is_refusal) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn is_refusal(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

/// Asks one replica about a token.
pub(crate) fn introspect(
    at: At,
    caller: &str,
    token: &str,
) -> impl Future<Output = Result<Response<proto::IntrospectTokenResponse>, Status>> + use<> {
    let token = token.to_owned();
    let request = proto::IntrospectTokenRequest {
        token,
        ..Default::default()
    };
    let request = as_caller(caller, request);
    async move {
        let mut client = TokenServiceClient::new(at.channel);
        client.introspect_token(request).await
    }
}

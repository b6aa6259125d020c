//! A server on a SQLite file of its own, with a space, someone who introspects there and someone whose tokens are introspected.

use std::{net::SocketAddr, sync::Arc, thread};

use tempfile::TempDir;
use token_authority::{
    authority::{Authority, audit::Actor, directory},
    clock::Clock,
    config::Settings,
    domain::{
        ids::{RoleName, SessionId, SpaceId, SpaceSlug, TokenId, UserId, Username},
        jwt::{self, AccessToken},
        password::Password,
        permission::{Permission, PermissionSet},
    },
    proto::{
        self, api_key_service_client::ApiKeyServiceClient, issue_token_request::Credential,
        token_service_client::TokenServiceClient,
    },
    server::{self, Life, Listeners},
    shutdown::Shutdown,
    telemetry,
};
use tokio::{runtime::Runtime, time::Instant};
use tonic::Request;

/// Everybody's password.
pub(crate) const PASSWORD: &str = "plum kettle orbits 47 lanterns";
/// Who introspects.
const GATE: &str = "gate";
/// Whose tokens are introspected.
pub(crate) const CLERK: &str = "clerk";

/// As many worker threads as there are cores, of this name.
pub(crate) fn runtime(name: &str) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores())
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A running server.
pub(crate) struct Server {
    pub(crate) authority: Arc<Authority>,
    pub(crate) address: SocketAddr,
    /// Of somebody who may introspect.
    pub(crate) caller: String,
    /// What the clerk's tokens say.
    claims: AccessToken,
    runtime: Runtime,
    _data: TempDir,
}

impl Server {
    /// Starts one as `serve` does, metrics included.
    pub(crate) fn start() -> Self {
        telemetry::metrics::start();
        let data = tempfile::tempdir().unwrap();
        let flags = [
            ("data_dir", data.path().to_str().unwrap()),
            ("grpc.listen", "127.0.0.1:0"),
            ("http.listen", "off"),
            ("ops.listen", "off"),
        ];
        let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let settings = Settings::load(None, Vec::new(), flags.to_vec()).unwrap();
        let runtime = runtime("server");
        let (authority, address) = runtime.block_on(run(settings));
        let (caller, claims) = runtime.block_on(async {
            people(&authority).await;
            let claims = sign_in(address, CLERK).await;
            let now = authority.clock.now();
            let keys = &authority.keyring.published().keys;
            let claims = jwt::verify(&claims, keys, &authority.issuer, now).unwrap();
            (sign_in(address, GATE).await, claims)
        });
        Self {
            authority,
            address,
            caller,
            claims,
            runtime,
            _data: data,
        }
    }

    /// Makes that many JWTs of the clerk's that nobody has seen, each of a session of its own.
    pub(crate) fn new_tokens(&self, count: usize) -> Vec<String> {
        let make = |_| {
            let claims = AccessToken {
                token_id: TokenId::random().unwrap(),
                session_id: SessionId::random().unwrap(),
                ..self.claims.clone()
            };
            self.authority.keyring.sign(&claims).unwrap()
        };
        (0..count).map(make).collect()
    }

    /// Makes that many API keys of the clerk's.
    pub(crate) fn new_api_keys(&self, count: usize) -> Vec<String> {
        let (address, authority) = (self.address, &self.authority);
        self.runtime.block_on(async {
            let token = sign_in(address, CLERK).await;
            let uri = format!("http://{address}");
            let mut client = ApiKeyServiceClient::connect(uri).await.unwrap();
            let mut keys = Vec::new();
            for number in 0..count {
                let key = proto::ApiKey {
                    display_name: format!("key {number}"),
                    ..Default::default()
                };
                let request = proto::CreateApiKeyRequest {
                    api_key: Some(key),
                    no_expiry: true,
                    ..Default::default()
                };
                let answer = client.create_api_key(as_caller(&token, request)).await;
                keys.push(answer.unwrap().into_inner().api_key_token);
            }
            // The log has entries, as anybody's has.
            assert!(authority.log.applied().unwrap().position().0 > 0);
            keys
        })
    }

    /// Revokes tokens, one call after the other.
    pub(crate) fn revoke(&self, tokens: Vec<String>) {
        let uri = format!("http://{}", self.address);
        self.runtime.block_on(async {
            let mut client = TokenServiceClient::connect(uri).await.unwrap();
            for token in tokens {
                let request = proto::RevokeTokenRequest { token, wait: None };
                client.revoke_token(request).await.unwrap();
            }
        });
    }
}

async fn run(settings: Settings) -> (Arc<Authority>, SocketAddr) {
    let listeners = Listeners::bind(&settings).await.unwrap();
    let address = listeners.grpc_address().unwrap();
    let life = Life::default();
    let opened = server::open(&settings, Clock::system(), &life.background, &life.stopping);
    let authority = opened.await.unwrap();
    let mut ready = life.ready.subscribe();
    let served = Arc::clone(&authority);
    tokio::task::spawn(async move {
        let run = server::run_with(served, &settings, listeners, Shutdown::new(), life);
        run.await.unwrap();
    });
    ready.wait_for(|ready| *ready).await.unwrap();
    (authority, address)
}

async fn people(authority: &Arc<Authority>) {
    let actor = Actor::ITSELF;
    let slug = SpaceSlug::parse("shop", "slug").unwrap();
    let space = directory::spaces::create(authority, actor, &slug)
        .await
        .unwrap()
        .id;
    let gate = user(authority, &space, GATE).await;
    let clerk = user(authority, &space, CLERK).await;
    let sales = RoleName::parse("sales", "name").unwrap();
    let permissions = [
        "orders.read",
        "orders.write",
        "customers.read",
        "invoices.read",
    ];
    let permissions: PermissionSet = permissions.map(Permission::known).into_iter().collect();
    directory::roles::create(authority, Actor::ITSELF, &space, &sales, &permissions)
        .await
        .unwrap();
    for (user, role) in [(gate, "introspector"), (clerk, "sales")] {
        let role = RoleName::parse(role, "role").unwrap();
        let soon = Instant::now() + std::time::Duration::from_secs(5);
        directory::roles::assign(authority, Actor::ITSELF, &space, &user, &role, soon.into())
            .await
            .unwrap();
    }
}

async fn user(authority: &Arc<Authority>, space: &SpaceId, name: &str) -> UserId {
    let name = Username::parse(name, "username").unwrap();
    let password = Password::chosen(PASSWORD.to_owned(), &name, "password").unwrap();
    directory::users::create(authority, Actor::ITSELF, space, &name, Some(&password))
        .await
        .unwrap()
}

/// A sign-in with [`PASSWORD`].
pub(crate) fn sign_in_request(username: &str) -> proto::IssueTokenRequest {
    let credential = proto::PasswordCredential {
        username: username.to_owned(),
        password: PASSWORD.to_owned(),
    };
    proto::IssueTokenRequest {
        credential: Some(Credential::Password(credential)),
        ..Default::default()
    }
}

async fn sign_in(address: SocketAddr, username: &str) -> String {
    let uri = format!("http://{address}");
    let mut client = TokenServiceClient::connect(uri).await.unwrap();
    let answer = client.issue_token(sign_in_request(username)).await.unwrap();
    answer.into_inner().token.unwrap().access_token
}

fn as_caller<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

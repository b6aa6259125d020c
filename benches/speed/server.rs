//! A server on a database of its own, with a space, someone who introspects there and someone whose tokens are introspected.

use std::{net::SocketAddr, sync::Arc, thread};

use tempfile::TempDir;
use token_authority::{
    authority::Authority,
    clock::Clock,
    config::Settings,
    domain::{
        ids::{SessionId, TokenId},
        jwt::{self, AccessToken},
    },
    proto::{
        self, api_key_service_client::ApiKeyServiceClient, issue_token_request::Credential,
        role_service_client::RoleServiceClient, space_service_client::SpaceServiceClient,
        token_service_client::TokenServiceClient, user_service_client::UserServiceClient,
    },
    server::{self, Life, Listeners},
    shutdown::Shutdown,
    telemetry,
};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use tonic::{Request, transport::Channel};

use crate::database::Database;

/// The space of all but the administrator.
pub(crate) const SPACE: &str = "shop";
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
    /// Of somebody who may do everything.
    pub(crate) admin: String,
    /// What the clerk's tokens say.
    claims: AccessToken,
    pub(crate) runtime: Runtime,
    _data: TempDir,
    database: Option<Database>,
}

impl Server {
    /// Starts one as `serve` does, metrics included, on a SQLite file.
    pub(crate) fn start() -> Self {
        Self::start_on(None)
    }

    /// The same on a PostgreSQL database, where there is one.
    pub(crate) fn start_on(database: Option<Database>) -> Self {
        telemetry::metrics::start();
        let data = tempfile::tempdir().unwrap();
        let mut flags = vec![
            ("data_dir", data.path().to_str().unwrap()),
            ("grpc.listen", "127.0.0.1:0"),
            ("http.listen", "off"),
            ("ops.listen", "off"),
            // What is measured is how fast users sign in, not how fast one address may.
            ("sign_in.trusted_networks", "127.0.0.0/8"),
        ];
        if let Some(database) = &database {
            flags.push(("database.url", database.url()));
        }
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let flags: Vec<_> = flags.into_iter().map(owned).collect();
        let settings = Settings::load(None, Vec::new(), flags).unwrap();
        let runtime = runtime("server");
        let (authority, address) = runtime.block_on(run(settings));
        let first = std::fs::read_to_string(data.path().join("bootstrap-password")).unwrap();
        let (caller, admin, claims) = runtime.block_on(async {
            let admin = sign_in(address, "admin", first.trim()).await;
            people(address, &admin).await;
            let claims = sign_in(address, CLERK, PASSWORD).await;
            let now = authority.clock.now();
            let keys = &authority.keyring.published().keys;
            let claims = jwt::verify(&claims, keys, &authority.issuer, now).unwrap();
            (sign_in(address, GATE, PASSWORD).await, admin, claims)
        });
        Self {
            authority,
            address,
            caller,
            admin,
            claims,
            runtime,
            _data: data,
            database,
        }
    }

    /// Of its database, on PostgreSQL.
    pub(crate) fn database_url(&self) -> Option<&str> {
        self.database.as_ref().map(Database::url)
    }

    /// Makes that many JWTs of the clerk's that nobody has seen, each of a session of its own.
    pub(crate) fn new_tokens(&self, count: usize) -> Vec<String> {
        let make = |_| {
            let claims = AccessToken {
                token_id: TokenId::random().unwrap(),
                session_id: SessionId::random().unwrap(),
                ..self.claims.clone()
            };
            self.authority
                .keyring
                .active()
                .unwrap()
                .sign(&claims)
                .unwrap()
        };
        (0..count).map(make).collect()
    }

    /// Makes that many API keys of the clerk's.
    pub(crate) fn new_api_keys(&self, count: usize) -> Vec<String> {
        let (address, authority) = (self.address, &self.authority);
        self.runtime.block_on(async {
            let token = sign_in(address, CLERK, PASSWORD).await;
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
            assert!(authority.log.place().borrow().0 > 0);
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
    let opened = server::open(&settings, Clock::system(), &life.background);
    let authority = opened.await.unwrap();
    let mut ready = life.ready.subscribe();
    let served = Arc::clone(&authority);
    TaskTracker::new().spawn(async move {
        let run = server::run_with(served, &settings, listeners, Shutdown::new(), life);
        run.await.unwrap();
    });
    ready.wait_for(|ready| *ready).await.unwrap();
    (authority, address)
}

async fn people(address: SocketAddr, admin: &str) {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let space = proto::Space {
        slug: SPACE.to_owned(),
        ..Default::default()
    };
    let request = proto::CreateSpaceRequest { space: Some(space) };
    let mut spaces = SpaceServiceClient::new(channel.clone());
    spaces
        .create_space(as_caller(admin, request))
        .await
        .unwrap();
    let mut users = UserServiceClient::new(channel.clone());
    let names = [GATE, CLERK].map(str::to_owned);
    for username in names.into_iter().chain(signers()) {
        let user = proto::User {
            username,
            space_id: SPACE.to_owned(),
            ..Default::default()
        };
        let request = proto::CreateUserRequest {
            user: Some(user),
            password: PASSWORD.to_owned(),
        };
        users.create_user(as_caller(admin, request)).await.unwrap();
    }
    let permissions = [
        "orders.read",
        "orders.write",
        "customers.read",
        "invoices.read",
    ];
    let role = proto::Role {
        space_id: SPACE.to_owned(),
        name: "sales".to_owned(),
        permissions: permissions.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let mut roles = RoleServiceClient::new(channel);
    let request = proto::CreateRoleRequest { role: Some(role) };
    roles.create_role(as_caller(admin, request)).await.unwrap();
    for (user, role) in [(GATE, "introspector"), (CLERK, "sales")] {
        let assignment = proto::RoleAssignment {
            space_id: SPACE.to_owned(),
            role: role.to_owned(),
            user_id: user.to_owned(),
            create_time: None,
        };
        let request = proto::AssignRoleRequest {
            assignment: Some(assignment),
        };
        roles.assign_role(as_caller(admin, request)).await.unwrap();
    }
}

/// Who signs in: a few more than do so at a time, since one name may try five times beside each other.
pub(crate) fn signers() -> impl Iterator<Item = String> {
    (0..cores() * 8).map(|number| format!("signer.{number}"))
}

/// A sign-in.
pub(crate) fn sign_in_request(username: &str, password: &str) -> proto::IssueTokenRequest {
    let credential = proto::PasswordCredential {
        username: username.to_owned(),
        password: password.to_owned(),
    };
    proto::IssueTokenRequest {
        credential: Some(Credential::Password(credential)),
        ..Default::default()
    }
}

pub(crate) async fn sign_in(address: SocketAddr, username: &str, password: &str) -> String {
    let uri = format!("http://{address}");
    let mut client = TokenServiceClient::connect(uri).await.unwrap();
    let answer = client
        .issue_token(sign_in_request(username, password))
        .await
        .unwrap();
    answer.into_inner().token.unwrap().access_token
}

pub(crate) fn as_caller<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

//! A server on a SQLite file of its own, with a space, someone who introspects there and someone whose tokens are introspected.

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
    storage::ConnectionTrait as _,
    telemetry,
};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use tonic::{Request, transport::Channel};

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
            // What is measured is how fast users sign in, not how fast one address may.
            ("sign_in.trusted_networks", "127.0.0.0/8"),
        ];
        let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let settings = Settings::load(None, Vec::new(), flags.to_vec()).unwrap();
        let runtime = runtime("server");
        let (authority, address) = runtime.block_on(run(settings));
        let first = std::fs::read_to_string(data.path().join("bootstrap-password")).unwrap();
        let (caller, claims) = runtime.block_on(async {
            people(address, first.trim()).await;
            let claims = sign_in(address, CLERK, PASSWORD).await;
            let now = authority.clock.now();
            let keys = &authority.keyring.published().keys;
            let claims = jwt::verify(&claims, keys, &authority.issuer, now).unwrap();
            (sign_in(address, GATE, PASSWORD).await, claims)
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

    /// So many users with the clerk's password, made without a call for each of them; their names.
    pub(crate) fn many_users(&self, count: usize) -> Vec<String> {
        let sql = format!(
            "INSERT INTO users (user_id, username, email, display_name, space_id, disabled, \
             password_hash, key_generation, create_time, update_time) \
             WITH RECURSIVE numbered (number) AS (SELECT 0 UNION ALL \
             SELECT number + 1 FROM numbered WHERE number < {count} - 1) \
             SELECT 'usr_01k000000000000000' || (10000000 + number), 'many.' || number, '', '', \
             space_id, disabled, password_hash, 0, 1, 1 FROM numbered, users WHERE username = '{CLERK}'"
        );
        self.runtime.block_on(async {
            let transaction = self.authority.db.begin().await.unwrap();
            let made = transaction.execute_unprepared(&sql).await.unwrap();
            assert_eq!(made.rows_affected(), count as u64);
            transaction.commit().await.unwrap();
        });
        (0..count).map(|number| format!("many.{number}")).collect()
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
    let opened = server::open(&settings, Clock::system(), &life.background, &life.stopping);
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

async fn people(address: SocketAddr, admin_password: &str) {
    let admin = sign_in(address, "admin", admin_password).await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let space = proto::Space {
        slug: "shop".to_owned(),
        ..Default::default()
    };
    let request = proto::CreateSpaceRequest { space: Some(space) };
    let mut spaces = SpaceServiceClient::new(channel.clone());
    spaces
        .create_space(as_caller(&admin, request))
        .await
        .unwrap();
    let mut users = UserServiceClient::new(channel.clone());
    let names = [GATE, CLERK].map(str::to_owned);
    for username in names.into_iter().chain(signers()) {
        let user = proto::User {
            username,
            space_id: "shop".to_owned(),
            ..Default::default()
        };
        let request = proto::CreateUserRequest {
            user: Some(user),
            password: PASSWORD.to_owned(),
        };
        users.create_user(as_caller(&admin, request)).await.unwrap();
    }
    let permissions = [
        "orders.read",
        "orders.write",
        "customers.read",
        "invoices.read",
    ];
    let role = proto::Role {
        space_id: "shop".to_owned(),
        name: "sales".to_owned(),
        permissions: permissions.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let mut roles = RoleServiceClient::new(channel);
    let request = proto::CreateRoleRequest { role: Some(role) };
    roles.create_role(as_caller(&admin, request)).await.unwrap();
    for (user, role) in [(GATE, "introspector"), (CLERK, "sales")] {
        let assignment = proto::RoleAssignment {
            space_id: "shop".to_owned(),
            role: role.to_owned(),
            user_id: user.to_owned(),
            create_time: None,
        };
        let request = proto::AssignRoleRequest {
            assignment: Some(assignment),
        };
        roles.assign_role(as_caller(&admin, request)).await.unwrap();
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

async fn sign_in(address: SocketAddr, username: &str, password: &str) -> String {
    let uri = format!("http://{address}");
    let mut client = TokenServiceClient::connect(uri).await.unwrap();
    let answer = client
        .issue_token(sign_in_request(username, password))
        .await
        .unwrap();
    answer.into_inner().token.unwrap().access_token
}

fn as_caller<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

//! A server of a test's own, and how tests speak to it.

mod any;
mod ask;
pub(crate) mod binary;
mod counts;
mod database;
mod dice;
mod forge;
mod keys;
mod operator;
mod own_postgres;
mod own_statements;
mod process;
mod replicas;
mod tenant;
mod waiting;
mod watching;
pub(crate) mod wire;

use std::{net::SocketAddr, sync::Arc};

use tempfile::TempDir;
use token_authority::{
    authority::Authority,
    background::Background,
    clock::{Clock, Timestamp},
    config::Settings,
    domain::ids::{RoleName, SpaceId, UserId},
    error::{Reason, Result},
    proto::{
        self, api_key_service_client::ApiKeyServiceClient,
        revocation_service_client::RevocationServiceClient,
        signing_key_service_client::SigningKeyServiceClient,
        token_service_client::TokenServiceClient,
    },
    server::{self, Life, Listeners},
    shutdown::Shutdown,
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;
use tonic::{Request, transport::Channel};

pub(crate) use any::{answer_of, call_any, method_of};
pub(crate) use ask::{
    create_key, exchange_request, fields, introspect_request, key, metadata_of, minutes, refused,
    rotate_key, rotate_request, seconds,
};
pub(crate) use counts::{Count, long_run};
pub(crate) use database::{Engine, TestDatabase, postgres_server};
pub(crate) use dice::Dice;
pub(crate) use forge::{Forger, claims_of, unsigned};
pub(crate) use keys::{key_request, revocation_of};
pub(crate) use operator::{Operator, mask};
pub(crate) use own_postgres::OwnPostgres;
pub(crate) use process::Process;
pub(crate) use replicas::{
    At, Cluster, Load, PATIENCE, Proxy, STANDING, STEPPED, Slot, Snag, SteppedClock, Weather,
    address, introspect, never_sent,
};
pub(crate) use tenant::{CLERK, Tenant};
pub(crate) use waiting::{STARTS_WITHIN, answered, eventually, soon};
pub(crate) use watching::{Watching, events_of, span};

/// A password that the rules take.
pub(crate) const PASSWORD: &str = "kalt wie Schnee im Mai 1974";

/// Makes a test of each engine: `both!(name, async |server: Server| { … })`.
macro_rules! both {
    ($name:ident, async |$server:ident| $test:block) => {
        async fn $name($server: &$crate::support::Server) $test

        mod $name {
            use $crate::support::{Engine, run_on};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run_on(Engine::Sqlite, super::$name).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                run_on(Engine::Postgres, super::$name).await;
            }
        }
    };
}
pub(crate) use both;

/// Runs a test on one engine; says so and returns where there is no PostgreSQL to run on.
pub(crate) async fn run_on(engine: Engine, test: impl AsyncFnOnce(&Server)) {
    let Some(database) = TestDatabase::create(engine).await else {
        eprintln!("skipped: TOKEN_AUTHORITY_TEST_POSTGRES names no server");
        return;
    };
    let server = Server::start(database).await;
    test(&server).await;
    server.stop().await;
}

/// A running server.
pub(crate) struct Server {
    /// What it does, for tests that need what no method offers yet.
    pub(crate) authority: Arc<Authority>,
    /// Where gRPC is served.
    pub(crate) grpc: SocketAddr,
    /// Where HTTP is served.
    pub(crate) http: SocketAddr,
    /// Its clock, which stands until it is advanced.
    pub(crate) clock: Clock,
    /// The password of `admin`.
    pub(crate) admin_password: String,
    /// Its database; dropped with it.
    pub(crate) database: TestDatabase,
    /// Its data directory.
    pub(crate) data: TempDir,
    /// What goes on in it.
    pub(crate) background: Background,
    shutdown: Shutdown,
    served: JoinHandle<Result<()>>,
}

impl Server {
    /// Starts a server on a fresh database.
    pub(crate) async fn start(database: TestDatabase) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Clock::set_to(Timestamp::from_micros(Clock::system().now().micros()));
        Self::start_in(database, data, clock, |_| {}).await
    }

    /// Starts a server in a data directory that may hold one already.
    pub(crate) async fn start_in(
        database: TestDatabase,
        data: TempDir,
        clock: Clock,
        adjust: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = settings(&database, &data);
        adjust(&mut settings);
        let listeners = Listeners::bind(&settings).await.unwrap();
        let (grpc, http) = (
            listeners.grpc_address().unwrap(),
            listeners.http_address().unwrap(),
        );
        let (authority, life) = open(&settings, &clock).await;
        let (background, shutdown) = (life.background.clone(), Shutdown::new());
        let mut ready = life.ready.subscribe();
        let running = {
            let (authority, shutdown) = (Arc::clone(&authority), shutdown.clone());
            async move { server::run_with(authority, &settings, listeners, shutdown, life).await }
        };
        let served = TaskTracker::new().spawn(running);
        ready.wait_for(|ready| *ready).await.unwrap();
        let password = std::fs::read_to_string(data.path().join("bootstrap-password")).unwrap();
        let admin_password = password.trim().to_owned();
        Self {
            authority,
            grpc,
            http,
            clock,
            admin_password,
            database,
            data,
            background,
            shutdown,
            served,
        }
    }

    /// Another server over the same database. PostgreSQL only.
    pub(crate) async fn beside(&self) -> Self {
        let data = data_beside(&self.data);
        Self::start_in(self.database.shared(), data, self.clock.clone(), |_| {}).await
    }

    /// Waits until the server has ended by itself, and says why.
    pub(crate) async fn failed(self) -> String {
        self.served.await.unwrap().unwrap_err().to_string()
    }

    /// Ends the server politely.
    pub(crate) async fn stop(self) -> (TestDatabase, TempDir) {
        self.shutdown.ask();
        self.served.await.unwrap().unwrap();
        (self.database, self.data)
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.connect().await)
    }

    pub(crate) async fn api_keys(&self) -> ApiKeyServiceClient<Channel> {
        ApiKeyServiceClient::new(self.connect().await)
    }

    pub(crate) async fn revocations(&self) -> RevocationServiceClient<Channel> {
        RevocationServiceClient::new(self.connect().await)
    }

    pub(crate) async fn signing_keys(&self) -> SigningKeyServiceClient<Channel> {
        SigningKeyServiceClient::new(self.connect().await)
    }

    /// A JWT of `admin`, in the space `system`.
    pub(crate) async fn admin(&self) -> proto::IssuedToken {
        self.sign_in("admin", &self.admin_password, "").await
    }

    /// A JWT of a user.
    pub(crate) async fn sign_in(
        &self,
        username: &str,
        password: &str,
        space: &str,
    ) -> proto::IssuedToken {
        let request = password_request(username, password, space);
        self.tokens()
            .await
            .issue_token(request)
            .await
            .unwrap()
            .into_inner()
            .token
            .unwrap()
    }

    /// Whether a token is active, as `admin`'s token tells.
    pub(crate) async fn introspect(&self, caller: &str, token: &str) -> proto::TokenIntrospection {
        let request = proto::IntrospectTokenRequest {
            token: token.to_owned(),
            ..Default::default()
        };
        let answer = self
            .tokens()
            .await
            .introspect_token(as_caller(caller, request))
            .await;
        answer.unwrap().into_inner().introspection.unwrap()
    }

    /// A space.
    pub(crate) async fn space(&self, slug: &str) -> SpaceId {
        self.operator().await.space(slug).await
    }

    /// A user with [`PASSWORD`].
    pub(crate) async fn user(&self, home: &SpaceId, username: &str) -> UserId {
        let operator = self.operator().await;
        operator.user(home, username, PASSWORD).await
    }

    /// A role.
    pub(crate) async fn role(&self, space: &SpaceId, name: &str, permissions: &[&str]) -> RoleName {
        let operator = self.operator().await;
        operator.role(space, name, permissions).await
    }

    /// Gives a user a role, which may be a built-in one.
    pub(crate) async fn assign(&self, space: &SpaceId, user: &UserId, role: &str) {
        self.operator().await.assign(space, user, role).await;
    }

    /// The id of the space `system`.
    pub(crate) async fn system(&self) -> SpaceId {
        SpaceId::known(self.admin().await.principal.unwrap().space_id)
    }
}

/// An authority, and what its parts go by. It is opened anew where PostgreSQL is too busy to let it in.
async fn open(settings: &Settings, clock: &Clock) -> (Arc<Authority>, Life) {
    let end = Instant::now() + STARTS_WITHIN;
    loop {
        let life = Life::default();
        let error = match server::open(settings, clock.clone(), &life.background).await {
            Ok(authority) => return (authority, life),
            Err(error) => error,
        };
        let is_busy =
            settings.database.url.is_some() && error.reason() == Reason::DatabaseUnavailable;
        assert!(is_busy && Instant::now() < end, "{error:?}");
        life.background.stop();
        life.background.ended().await;
    }
}

/// A data directory for another server over the same database: with the same master key.
pub(crate) fn data_beside(data: &TempDir) -> TempDir {
    let beside = tempfile::tempdir().unwrap();
    for file in ["master-key", "bootstrap-password"] {
        // With its mode.
        std::fs::copy(data.path().join(file), beside.path().join(file)).unwrap();
    }
    beside
}

/// Begins something that goes on beside the test, which awaits it.
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    TaskTracker::new().spawn(task)
}

/// A sign-in.
pub(crate) fn password_request(
    username: &str,
    password: &str,
    space: &str,
) -> proto::IssueTokenRequest {
    let credential = proto::PasswordCredential {
        username: username.to_owned(),
        password: password.to_owned(),
    };
    proto::IssueTokenRequest {
        credential: Some(proto::issue_token_request::Credential::Password(credential)),
        space: space.to_owned(),
        ..Default::default()
    }
}

/// A request with a credential.
pub(crate) fn as_caller<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

/// The `ErrorInfo` reason of a failure.
pub(crate) fn reason(status: &tonic::Status) -> String {
    use tonic_types::StatusExt as _;
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// A PostgreSQL server's word on connections; nothing on SQLite.
pub(crate) async fn postgres(database: &TestDatabase) -> Option<sqlx::PgConnection> {
    use sqlx::Connection as _;
    Some(sqlx::PgConnection::connect(database.url()?).await.unwrap())
}

pub(crate) fn settings(database: &TestDatabase, data: &TempDir) -> Settings {
    let mut flags = vec![
        ("data_dir".to_owned(), data.path().display().to_string()),
        ("grpc.listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("http.listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("ops.listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("shutdown.pause".to_owned(), "0s".to_owned()),
        // A slow machine is no test's concern.
        ("argon2.max_wait".to_owned(), "30s".to_owned()),
        ("shutdown.timeout".to_owned(), "10s".to_owned()),
    ];
    if let Some(url) = database.url() {
        flags.push(("database.url".to_owned(), url.to_owned()));
    }
    Settings::load(None, Vec::new(), flags).unwrap()
}

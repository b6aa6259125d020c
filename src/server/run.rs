//! The composition root: everything is made here, once, and handed to whoever needs it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tower::layer::util::Stack;

use super::{Life, Listeners, Services, serve};
use crate::{
    authority::{
        Authority,
        audit::{self, refusals::Refusals},
        bootstrap::{self, FirstPassword},
        credentials::Credentials,
        forgetting,
        keyring::{Keyring, master_key::MasterKey},
        last_use::{self, LastUse},
        page::PageSeal,
        sign_in::hashing::{Hashing, HashingSettings},
    },
    clock::Clock,
    config::Settings,
    domain::jwt::Algorithm,
    error::{Error, Result},
    grpc::{
        api_key_service::ApiKeys, audit_service::Audit, authentication::AuthenticationLayer,
        direct::DirectLayer, revocation_service::Revocations, role_service::Roles,
        signing_key_service::SigningKeys, space_service::Spaces, system_service::System,
        token_service::Tokens, user_service::Users,
    },
    http::jwks::{JwksDocument, JwksSource},
    log::{RevocationLog, cursor::CursorSeal},
    proto::{
        api_key_service_server::ApiKeyServiceServer, audit_service_server::AuditServiceServer,
        revocation_service_server::RevocationServiceServer, role_service_server::RoleServiceServer,
        signing_key_service_server::SigningKeyServiceServer,
        space_service_server::SpaceServiceServer, system_service_server::SystemServiceServer,
        token_service_server::TokenServiceServer, user_service_server::UserServiceServer,
    },
    shutdown::Shutdown,
    storage::{self, Database, DatabaseSettings},
};

/// The largest request that carries tokens, in bytes.
const TOKENS_MAX: usize = 3 * 1024 * 1024;
/// The largest of any other.
const REQUEST_MAX: usize = 64 * 1024;
/// How often it is looked whether calls can be answered.
const READINESS: Duration = Duration::from_millis(250);

/// Runs the server until `shutdown`. Fails where it cannot start, or where another server takes its database over.
pub async fn run(
    settings: Settings,
    listeners: Listeners,
    shutdown: Shutdown,
    clock: Clock,
) -> Result<()> {
    let life = Life::default();
    let authority = open(&settings, clock, &life.background, &life.stopping).await?;
    run_with(authority, &settings, listeners, shutdown, life).await
}

/// Serves an authority that is open until `shutdown`, and closes it.
pub async fn run_with(
    authority: Arc<Authority>,
    settings: &Settings,
    listeners: Listeners,
    shutdown: Shutdown,
    life: Life,
) -> Result<()> {
    let stop = life.stopping.clone();
    let background = &life.background;
    background.spawn(last_use::write_regularly(
        Arc::clone(&authority),
        stop.clone(),
    ));
    background.spawn(forgetting::forget_regularly(
        Arc::clone(&authority),
        stop.clone(),
    ));
    background.spawn(audit::keeping::keep(Arc::clone(&authority), stop.clone()));
    let taken_over = authority.log.taken_over();
    background.spawn(watch_over(
        Arc::clone(&authority),
        life_of(&life),
        shutdown.clone(),
    ));
    let authentication = AuthenticationLayer::new(Arc::clone(&authority));
    let services = Services {
        grpc: routes(&authority, settings, &life),
        authentication: Stack::new(direct(&authority), authentication),
        jwks: publish_keys(&authority, background, stop),
    };
    let served = serve(settings, listeners, shutdown, life, services).await;
    authority.db.close().await;
    if taken_over.is_cancelled() {
        return Err(Error::internal(
            "another server has taken this database over",
        ));
    }
    served
}

/// Opens the database and all that stands on it: schema, master key, first contents, log and keys.
pub async fn open(
    settings: &Settings,
    clock: Clock,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<Authority>> {
    make_data_dir(settings)?;
    let db = Database::open(&database_settings(settings)).await?;
    storage::migrate_up(&db).await?;
    let master_key = master_key(settings)?;
    db.chain_audit_events(audit::head_key(&master_key)?);
    let hashing = Hashing::new(&hashing_settings(settings))?;
    let first = first_password(settings);
    let now = clock.now();
    let (identity, new) =
        bootstrap::ensure(&db, &master_key, &hashing, &first, Algorithm::EdDsa, now).await?;
    let seal = CursorSeal::new(&*master_key.derive("cursors")?);
    let log = RevocationLog::open(
        db.clone(),
        clock.clone(),
        identity,
        seal,
        new,
        tasks,
        stop.clone(),
    )
    .await?;
    let keyring = Keyring::load(db.reader(), &master_key).await?;
    Ok(Arc::new(Authority {
        issuer: settings.issuer.as_str().into(),
        pages: PageSeal::new(&*master_key.derive("page tokens")?),
        credentials: Credentials::default(),
        last_use: LastUse::default(),
        refusals: Refusals::default(),
        db,
        clock,
        log,
        keyring,
        master_key,
        hashing,
    }))
}

fn make_data_dir(settings: &Settings) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&settings.data_dir);
    made.map_err(|error| {
        Error::internal(format!("{} cannot be made", settings.data_dir.display())).because(error)
    })
}

/// Where the database is, as the storage wants it.
pub fn database_settings(settings: &Settings) -> DatabaseSettings {
    let mut database = match &settings.database.url {
        Some(url) => DatabaseSettings::postgres(url.expose()),
        None => DatabaseSettings::sqlite(settings.data_dir.join("token-authority.db")),
    };
    if settings.database.connections > 0 {
        database.max_connections = settings.database.connections;
    }
    database
}

/// What hashing costs, and how much of it is done at a time.
pub fn hashing_settings(settings: &Settings) -> HashingSettings {
    let argon2 = &settings.argon2;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    HashingSettings {
        memory_kib: argon2.memory_kib,
        iterations: argon2.iterations,
        parallelism: argon2.parallelism,
        concurrent: if argon2.concurrent == 0 {
            cores
        } else {
            argon2.concurrent
        },
        queue: argon2.queue,
        max_wait: argon2.max_wait,
    }
}

/// The master key: as configured, or the one in the data directory, made there where there is none.
pub fn master_key(settings: &Settings) -> Result<MasterKey> {
    if let Some(text) = &settings.master_key {
        return MasterKey::from_base64(text.expose(), "TOKEN_AUTHORITY_MASTER_KEY");
    }
    match settings.master_key_file.as_slice() {
        [] => {
            let path = settings.data_dir.join("master-key");
            if path.exists() {
                MasterKey::load(&path)
            } else {
                MasterKey::generate(&path)
            }
        }
        [path] => MasterKey::load(path),
        _ => Err(Error::internal("this version takes one master key")),
    }
}

fn first_password(settings: &Settings) -> FirstPassword {
    match &settings.bootstrap_password_file {
        Some(path) => FirstPassword::Given(path.clone()),
        None => FirstPassword::MadeUp(bootstrap_password_path(settings)),
    }
}

fn bootstrap_password_path(settings: &Settings) -> PathBuf {
    settings.data_dir.join("bootstrap-password")
}

/// `TokenService`, which does without the routes of the others.
fn direct(authority: &Arc<Authority>) -> DirectLayer<TokenServiceServer<Tokens>> {
    let tokens = TokenServiceServer::new(Tokens(Arc::clone(authority)));
    DirectLayer::new(tokens.max_decoding_message_size(TOKENS_MAX))
}

fn routes(authority: &Arc<Authority>, settings: &Settings, life: &Life) -> Routes {
    let (draining, tasks) = (life.draining.clone(), life.background.clone());
    let keys = ApiKeyServiceServer::new(ApiKeys(Arc::clone(authority)));
    let users = UserServiceServer::new(Users(Arc::clone(authority)));
    let spaces = SpaceServiceServer::new(Spaces(Arc::clone(authority)));
    let roles = RoleServiceServer::new(Roles(Arc::clone(authority)));
    let revocations = Revocations::new(Arc::clone(authority), draining.clone(), tasks.clone());
    let revocations = RevocationServiceServer::new(revocations);
    let signing_keys =
        SigningKeyServiceServer::new(SigningKeys::new(Arc::clone(authority), draining, tasks));
    let audit = AuditServiceServer::new(Audit(Arc::clone(authority)));
    let system = SystemServiceServer::new(System::new(authority, limits(settings)));
    Routes::new(keys.max_decoding_message_size(REQUEST_MAX))
        .add_service(users.max_decoding_message_size(REQUEST_MAX))
        .add_service(spaces.max_decoding_message_size(REQUEST_MAX))
        .add_service(roles.max_decoding_message_size(REQUEST_MAX))
        .add_service(revocations.max_decoding_message_size(REQUEST_MAX))
        .add_service(signing_keys.max_decoding_message_size(REQUEST_MAX))
        .add_service(audit.max_decoding_message_size(REQUEST_MAX))
        .add_service(system.max_decoding_message_size(REQUEST_MAX))
}

/// What a client may run into, of what is settled here; spans in seconds.
fn limits(settings: &Settings) -> BTreeMap<String, String> {
    let limits = &settings.limits;
    [
        ("request_bytes_max", REQUEST_MAX.to_string()),
        ("token_request_bytes_max", TOKENS_MAX.to_string()),
        (
            "request_timeout_seconds",
            limits.request_timeout.as_secs_f64().to_string(),
        ),
        (
            "connection_age_seconds",
            limits.connection_age.as_secs_f64().to_string(),
        ),
        (
            "connections_per_address_max",
            limits.connections_per_address.to_string(),
        ),
        (
            "streams_per_connection_max",
            limits.streams_per_connection.to_string(),
        ),
    ]
    .into_iter()
    .map(|(name, limit)| (name.to_owned(), limit))
    .collect()
}

/// The public keys as HTTP serves them, renewed whenever they change.
fn publish_keys(
    authority: &Arc<Authority>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> JwksSource {
    let document = |authority: &Authority| {
        Some(Arc::new(JwksDocument::new(
            authority.keyring.published().jwks_json.to_string(),
        )))
    };
    let (sender, source) = watch::channel(document(authority));
    let mut changes = authority.keyring.changes();
    let authority = Arc::clone(authority);
    tasks.spawn(async move {
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            sender.send_replace(document(&authority));
        }
    });
    source
}

struct Watched {
    ready: watch::Sender<bool>,
    draining: CancellationToken,
}

fn life_of(life: &Life) -> Watched {
    Watched {
        ready: life.ready.clone(),
        draining: life.draining.clone(),
    }
}

/// Ready while calls can be answered; over where another server has the database.
async fn watch_over(authority: Arc<Authority>, life: Watched, shutdown: Shutdown) {
    let taken_over = authority.log.taken_over();
    loop {
        let ready = authority.log.is_current();
        life.ready
            .send_if_modified(|known| std::mem::replace(known, ready) != ready);
        tokio::select! {
            () = tokio::time::sleep(READINESS) => {}
            () = shutdown.asked() => return,
            () = life.draining.cancelled() => return,
            () = taken_over.cancelled() => return shutdown.insist(),
        }
    }
}

//! The composition root: everything is made here, once, and handed to whoever needs it.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tower::layer::util::Stack;

use super::{Life, Listeners, Services, check, report, serve};
use crate::{
    authority::{
        Authority,
        audit::{self, refusals::Refusals},
        bootstrap::{self, FirstPassword},
        credentials::Credentials,
        forgetting,
        keyring::{
            Keyring,
            master_key::MasterKey,
            master_keys::{self, MasterKeys},
        },
        last_use::{self, LastUse},
        page::PageSeal,
        revocations::{lag::OpenStreams, shared_commits::SharedCommits},
        sign_in::{
            counts::SignIns,
            hashing::{Hashing, HashingSettings},
            throttle::Throttle,
        },
        signing_keys::{Policy, rotation},
        tokens::verdicts::Verdicts,
    },
    clock::Clock,
    config::{Settings, SigningAlgorithm},
    domain::jwt::Algorithm,
    error::{Error, Result},
    grpc::{
        api_key_service::ApiKeys, audit_service::Audit, authentication::AuthenticationLayer,
        direct::DirectLayer, revocation_service::Revocations, role_service::Roles,
        signing_key_service::SigningKeys, space_service::Spaces, system_service::System,
        token_service::Tokens, user_service::Users,
    },
    http::jwks::{JwksDocument, JwksSource},
    log::{Herald, Opening, RevocationLog, cursor::CursorSeal},
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

/// Runs the server until `shutdown`. Fails where it cannot start.
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
    background.spawn(report::report_regularly(
        Arc::clone(&authority),
        stop.clone(),
    ));
    background.spawn(rotation::rotate_regularly(
        Arc::clone(&authority),
        stop.clone(),
    ));
    background.spawn(audit::keeping::keep(Arc::clone(&authority), stop.clone()));
    background.spawn(watch_over(
        Arc::clone(&authority),
        life.ready.clone(),
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
    served
}

/// Opens the database and all that stands on it: schema, master key, first contents, log and keys.
pub async fn open(
    settings: &Settings,
    clock: Clock,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<Authority>> {
    if database_settings(settings).is_missing() {
        // Nothing is begun that could not be finished.
        check(settings)?;
    }
    make_data_dir(settings)?;
    if database_settings(settings).is_missing() && existing_master_keys(settings)?.is_some() {
        tracing::warn!("there is a master key and no database: an empty one is made");
    }
    let db = Database::open(&database_settings(settings)).await?;
    storage::migrate_up(&db).await?;
    let master_keys = Arc::new(master_keys(settings, &db).await?);
    db.chain_audit_events(audit::head_key(&master_keys)?);
    let hashing = Hashing::new(&hashing_settings(settings))?;
    let (policy, first) = (signing_policy(settings), first_password(settings));
    let now = clock.now();
    bootstrap::ensure(&db, &master_keys, &hashing, &first, policy.algorithm, now).await?;
    let keyring = Arc::new(Keyring::load(db.clone(), Arc::clone(&master_keys)).await?);
    let (seal, pages) = seals(&master_keys)?;
    let throttle_key = master_keys.first().derive("sign-in throttle")?;
    let opening = Opening {
        seal,
        herald: herald(&keyring),
    };
    let log = RevocationLog::open(db.clone(), clock.clone(), opening, tasks, stop.clone()).await?;
    master_keys::reseal(&db, &master_keys, now).await?;
    Ok(Arc::new(Authority {
        issuer: settings.issuer.as_str().into(),
        pages,
        credentials: Credentials::default(),
        verdicts: Verdicts::default(),
        sign_ins: SignIns::default(),
        last_use: LastUse::default(),
        throttle: Throttle::new(&*throttle_key, settings.sign_in.trusted_networks.clone()),
        shared_commits: SharedCommits::start(&db, &log, &clock, tasks, stop),
        streams: OpenStreams::default(),
        refusals: Refusals::default(),
        db,
        clock,
        log,
        keyring,
        signing_keys: policy,
        master_keys,
        hashing,
    }))
}

/// What makes places and pages opaque, and knows those that were made under any master key.
fn seals(master_keys: &MasterKeys) -> Result<(CursorSeal, PageSeal)> {
    const CURSORS: &str = "cursors";
    const PAGES: &str = "page tokens";
    let first = master_keys.first();
    let mut cursors = CursorSeal::new(&*first.derive(CURSORS)?);
    let mut pages = PageSeal::new(&*first.derive(PAGES)?);
    for other in master_keys.others() {
        cursors = cursors.knows(&*other.derive(CURSORS)?);
        pages = pages.knows(&*other.derive(PAGES)?);
    }
    Ok((cursors, pages))
}

fn herald(keyring: &Arc<Keyring>) -> Herald {
    let keyring = Arc::clone(keyring);
    Herald::new(move || {
        let keyring = Arc::clone(&keyring);
        async move { keyring.reload().await }
    })
}

pub(super) fn signing_policy(settings: &Settings) -> Policy {
    let period = settings.signing_keys.rotation_period;
    Policy {
        algorithm: match settings.signing_keys.algorithm {
            SigningAlgorithm::EdDsa => Algorithm::EdDsa,
            SigningAlgorithm::Es256 => Algorithm::Es256,
        },
        rotation_period: Some(period).filter(|period| !period.is_zero()),
    }
}

fn make_data_dir(settings: &Settings) -> Result<()> {
    let path = &settings.data_dir;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let cannot =
        |error| Error::internal(format!("{} cannot be made", path.display())).because(error);
    made.map_err(cannot)?;
    let found = path.metadata().map_err(cannot)?;
    if found.mode() & 0o007 != 0 {
        tracing::warn!(data_dir = %path.display(), "every user of this machine can look into the data directory");
    }
    Ok(())
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

/// The master keys: as configured, or the one in the data directory. That is made where there is none and the database is empty:
/// what an existing one was sealed with cannot be made again.
async fn master_keys(settings: &Settings, db: &Database) -> Result<MasterKeys> {
    if let Some(keys) = existing_master_keys(settings)? {
        return Ok(keys);
    }
    let path = master_key_path(settings);
    if let Some(row) = storage::authority::find(db.reader()).await? {
        return Err(Error::internal(format!(
            "there is no master key file {}, and the database was sealed with the master key {}",
            path.display(),
            row.master_key_id
        )));
    }
    Ok(MasterKeys::new(MasterKey::generate(&path)?, Vec::new()))
}

/// The master keys, unless one is still to be made.
pub(super) fn existing_master_keys(settings: &Settings) -> Result<Option<MasterKeys>> {
    if let Some(text) = &settings.master_key {
        let key = MasterKey::from_base64(text.expose(), "master_key")?;
        return Ok(Some(MasterKeys::new(key, Vec::new())));
    }
    let made_up = [master_key_path(settings)];
    let paths = match settings.master_key_file.as_slice() {
        [] if !made_up[0].exists() => return Ok(None),
        [] => &made_up,
        paths => paths,
    };
    let keys: Result<Vec<MasterKey>> = paths.iter().map(|path| MasterKey::load(path)).collect();
    let mut keys = keys?.into_iter();
    Ok(keys
        .next()
        .map(|first| MasterKeys::new(first, keys.collect())))
}

pub(super) fn master_key_path(settings: &Settings) -> PathBuf {
    settings.data_dir.join("master-key")
}

pub(super) fn first_password(settings: &Settings) -> FirstPassword {
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

/// Ready while calls can be answered from memory, until `shutdown`.
async fn watch_over(authority: Arc<Authority>, known: watch::Sender<bool>, shutdown: Shutdown) {
    loop {
        let ready = authority.log.is_current();
        known.send_if_modified(|known| std::mem::replace(known, ready) != ready);
        tokio::select! {
            biased;
            () = shutdown.asked() => return,
            () = tokio::time::sleep(READINESS) => {}
        }
    }
}

//! Opening an authority: the database and all that stands on it, as the settings say.

use std::{
    fs::DirBuilder,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::PathBuf,
    sync::Arc,
};

use super::check;
use crate::{
    authority::{
        Authority,
        audit::{self, refusals::Refusals},
        bootstrap::{self, FirstPassword},
        credentials::Credentials,
        keyring::{
            Keyring,
            master_key::MasterKey,
            master_keys::{self, MasterKeys},
        },
        last_use::LastUse,
        page::PageSeal,
        revocations::{lag::OpenStreams, shared_commits::SharedCommits},
        sign_in::{
            counts::SignIns,
            hashing::{Hashing, HashingSettings},
            throttle::Throttle,
        },
        signing_keys::Policy,
        tokens::verdicts::Verdicts,
    },
    background::Background,
    clock::Clock,
    config::{Settings, SigningAlgorithm},
    domain::jwt::Algorithm,
    error::{Error, Result},
    log::{Herald, Opening, RevocationLog, cursor::CursorSeal},
    storage::{self, Database, DatabaseSettings},
};

/// Opens the database and all that stands on it: schema, master key, first contents, log and keys.
pub async fn open(
    settings: &Settings,
    clock: Clock,
    background: &Background,
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
        issuer: settings.issuer.clone(),
    };
    let log = RevocationLog::open(db.clone(), clock.clone(), opening, background).await?;
    master_keys::reseal(&db, &master_keys, now).await?;
    Ok(Arc::new(Authority {
        issuer: settings.issuer.as_str().into(),
        pages,
        credentials: Credentials::default(),
        verdicts: Verdicts::default(),
        sign_ins: SignIns::default(),
        last_use: LastUse::default(),
        throttle: Throttle::new(&*throttle_key, settings.sign_in.trusted_networks.clone()),
        shared_commits: SharedCommits::start(&db, &log, &clock, background),
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

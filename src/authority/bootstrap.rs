//! The first start on an empty database: the space `system`, its user `admin`, two signing keys, and the identity of the log.
//! Later starts only check that a master key is the one that it was.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{audit, keyring, keyring::master_keys::MasterKeys, sign_in::hashing::Hashing};
use crate::{
    clock::Timestamp,
    domain::{
        directory::{Space, User},
        ids::{RoleName, SpaceId, SpaceSlug, UserId, Username},
        jwt::Algorithm,
        password::Password,
        permission::BuiltInRole,
        signing_key::Life,
    },
    error::{Error, Result},
    random,
    storage::{self, Database, Transaction, authority::AuthorityRow},
};

/// Where the first password comes from, or is put.
#[derive(Debug, Clone)]
pub enum FirstPassword {
    /// The operator wrote it into this file.
    Given(PathBuf),
    /// It is made up, and left in this file with mode 0600.
    MadeUp(PathBuf),
}

/// Sees to it that the database is an authority's, and of one of these master keys. Of servers that start on an empty database
/// together, one fills it.
pub async fn ensure(
    db: &Database,
    master_keys: &MasterKeys,
    hashing: &Hashing,
    first_password: &FirstPassword,
    algorithm: Algorithm,
    now: Timestamp,
) -> Result<()> {
    if let Some(row) = storage::authority::find(db.reader()).await? {
        return master_keys.require_those_of(&row);
    }
    let transaction = db.begin().await?;
    storage::authority::lock_for_bootstrap(&transaction).await?;
    if let Some(row) = storage::authority::find(&transaction).await? {
        return master_keys.require_those_of(&row);
    }
    let password_hash = hashing.hash(&first_password.read_or_make_up()?).await?;
    let master_key = master_keys.first();
    let row = AuthorityRow {
        log_identity: random::bytes()?,
        key_check: master_key.check_value()?.to_vec(),
        master_key_id: master_key.id().to_owned(),
    };
    storage::authority::insert(&transaction, &row, now).await?;
    storage::audit::begin(&transaction, &audit::head_key(master_keys)?).await?;
    make_directory(&transaction, &password_hash, now).await?;
    let prepared = Life::prepared(now);
    // Nobody has fetched a key set yet.
    let active = prepared.activate(now, true)?;
    keyring::make(&transaction, master_key, algorithm, active).await?;
    keyring::make(&transaction, master_key, algorithm, prepared).await?;
    transaction.commit().await?;
    tracing::info!(user.name = ADMIN, "bootstrap.done");
    Ok(())
}

const ADMIN: &str = "admin";

async fn make_directory(
    transaction: &Transaction,
    password_hash: &str,
    now: Timestamp,
) -> Result<()> {
    let slug = SpaceSlug::known(SpaceSlug::SYSTEM);
    let space = Space::named(SpaceId::new(now)?, slug, now);
    storage::spaces::insert(transaction, &space).await?;
    let space = space.id;
    let admin = User {
        id: UserId::new(now)?,
        username: Username::known(ADMIN),
        email: String::new(),
        display_name: String::new(),
        disabled: false,
        password_set: true,
        home_space: space.clone(),
        create_time: now,
        update_time: now,
        last_sign_in_time: None,
    };
    storage::users::insert(transaction, &admin, Some(password_hash)).await?;
    let user = admin.id;
    let admin = RoleName::known(BuiltInRole::Admin.name());
    storage::roles::assign(transaction, &space, &user, &admin, now).await?;
    let done = audit::Done {
        action: "authority.bootstrap",
        space: Some(&space),
        resource: user.as_str(),
        details: &[],
    };
    audit::record(transaction, audit::Actor::ITSELF, done, now).await
}

impl FirstPassword {
    /// Refuses what [`ensure`] would refuse on an empty database, and makes nothing.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::MadeUp(path) if !path.exists() => Ok(()),
            Self::Given(path) | Self::MadeUp(path) => chosen(&read(path)?).map(|_| ()),
        }
    }

    fn read_or_make_up(&self) -> Result<Password> {
        let text = match self {
            Self::Given(path) => read(path),
            // A start that was cut off may have left it.
            Self::MadeUp(path) if path.exists() => read(path),
            Self::MadeUp(path) => make_up(path),
        };
        chosen(&text?)
    }
}

fn chosen(text: &str) -> Result<Password> {
    let admin = Username::known(ADMIN);
    Password::chosen(text.to_owned(), &admin, "bootstrap password")
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    let failed = |error| unusable(path, "cannot be read", error);
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::internal(format!(
            "{} may be read by others: its mode must be 0400 or 0600",
            path.display()
        )));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    Ok(Zeroizing::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

fn make_up(path: &Path) -> Result<Zeroizing<String>> {
    let password = random::base62(24)?;
    write_secret(path, &password)?;
    Ok(password)
}

/// Writes a secret into a new file that only its owner may read, and sees to it that it is there after a power cut.
pub fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let failed = |error| unusable(path, "cannot be written", error);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(secret.as_bytes()).map_err(failed)?;
    file.write_all(b"\n").map_err(failed)?;
    file.sync_all().map_err(failed)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
    }
    Ok(())
}

fn unusable(path: &Path, what: &'static str, error: std::io::Error) -> Error {
    Error::internal(format!("{} {what}", path.display())).because(error)
}

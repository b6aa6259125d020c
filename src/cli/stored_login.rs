//! The token that `login` keeps, one file for each address, so that none is ever sent to another server.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    cli::failure::{Exit, Failure},
    proto, random,
};

/// A sign-in that is remembered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct StoredLogin {
    pub(crate) address: String,
    pub(crate) username: String,
    pub(crate) access_token: String,
}

impl fmt::Debug for StoredLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredLogin")
    }
}

impl StoredLogin {
    /// What is to be remembered of a token that `address` issued.
    pub(crate) fn new(address: &str, token: &proto::IssuedToken) -> Self {
        let principal = token.principal.as_ref();
        Self {
            address: address.to_owned(),
            username: principal.map_or_else(String::new, |who| who.username.clone()),
            access_token: token.access_token.clone(),
        }
    }
}

/// The folder of the stored logins.
#[derive(Debug)]
pub(crate) struct LoginStore {
    folder: PathBuf,
}

impl LoginStore {
    /// Below `$XDG_STATE_HOME`, otherwise below `~/.local/state`.
    pub(crate) fn of_the_user() -> Result<Self, Failure> {
        let state = state_home().filter(|path| path.is_absolute());
        let folder = state
            .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))
            .ok_or_else(|| {
                Failure::new(
                    Exit::Failed,
                    "there is no home directory to store logins in",
                )
            })?;
        Ok(Self::within(&folder))
    }

    fn within(state: &Path) -> Self {
        Self {
            folder: state.join("token-authority").join("logins"),
        }
    }

    /// The login at `address`, where there is one. Refused where others may read the file.
    pub(crate) fn load(&self, address: &str) -> Result<Option<StoredLogin>, Failure> {
        let path = self.path(address);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file(&path, &error)),
        };
        let text = read_private(file).map_err(|error| Failure::file(&path, &error))?;
        let login: StoredLogin = serde_json::from_str(&text).map_err(|_| {
            let message = format!("{}: not a stored login; sign in again", path.display());
            Failure::new(Exit::Failed, message)
        })?;
        Ok((login.address == address).then_some(login))
    }

    /// Stores the login in place of the one before.
    pub(crate) fn save(&self, login: &StoredLogin) -> Result<(), Failure> {
        let path = self.path(&login.address);
        let text = serde_json::to_string(login)
            .map(Zeroizing::new)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .and_then(|()| replace_private(&path, text.as_bytes()))
            .map_err(|error| Failure::file(&path, &error))
    }

    /// Forgets the login at `address`.
    pub(crate) fn remove(&self, address: &str) -> Result<(), Failure> {
        let path = self.path(address);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::file(&path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Two addresses may share a file; the address within tells whose it is.
    fn path(&self, address: &str) -> PathBuf {
        let name: String = address
            .chars()
            .map(|letter| match letter {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' => letter,
                _ => '_',
            })
            .take(200)
            .collect();
        self.folder.join(format!("{name}.json"))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the user keeps state is the session's matter, not a setting of the server"
)]
fn state_home() -> Option<PathBuf> {
    std::env::var_os("XDG_STATE_HOME").map(PathBuf::from)
}

fn read_private(file: File) -> io::Result<Zeroizing<String>> {
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let message = format!("mode {:o} lets others at it; chmod 600", mode & 0o777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    io::read_to_string(file).map(Zeroizing::new)
}

/// Writes a file of mode 0600 and puts it in the place of `path` in one step, so that a reader sees the old or the new one.
pub(crate) fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let suffix = random::base62(8).map_err(io::Error::other)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", *suffix));
    let temporary = PathBuf::from(name);
    let written = write_private(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; there may be nothing to remove.
        fs::remove_file(&temporary).unwrap_or_default();
    }
    written
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "https://authority.example:50051";

    fn login(address: &str) -> StoredLogin {
        StoredLogin {
            address: address.to_owned(),
            username: "alice".to_owned(),
            access_token: "eyJ".to_owned(),
        }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[test]
    fn a_login_is_kept_in_a_file_of_mode_0600_and_replaced_in_one_step() {
        let state = tempfile::tempdir().unwrap();
        let store = LoginStore::within(state.path());
        assert_eq!(store.load(ADDRESS).unwrap(), None);
        for _ in 0..2 {
            store.save(&login(ADDRESS)).unwrap();
        }
        let [file] = &files(&store.folder)[..] else {
            panic!("one file alone");
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file), 0o600);
        assert_eq!(mode(&store.folder), 0o700);
        assert_eq!(store.load(ADDRESS).unwrap(), Some(login(ADDRESS)));
        store.remove(ADDRESS).unwrap();
        store.remove(ADDRESS).unwrap();
        assert_eq!(store.load(ADDRESS).unwrap(), None);
    }

    #[test]
    fn a_login_is_for_its_own_address_alone() {
        let state = tempfile::tempdir().unwrap();
        let store = LoginStore::within(state.path());
        store.save(&login("http://a:1/")).unwrap();
        assert_eq!(store.load("http://a:1_").unwrap(), None);
        assert_eq!(store.load("http://b:1").unwrap(), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let store = LoginStore::within(state.path());
        store.save(&login(ADDRESS)).unwrap();
        let file = store.path(ADDRESS);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = store.load(ADDRESS).unwrap_err().to_string();
        assert!(
            refusal.ends_with("mode 644 lets others at it; chmod 600"),
            "{refusal}"
        );
    }

    #[test]
    fn a_stored_login_does_not_print_its_token() {
        assert_eq!(format!("{:?}", login(ADDRESS)), "StoredLogin");
    }
}

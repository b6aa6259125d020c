//! The SQLite file that this process owns: nobody else writes to it, and what is written goes where the next start looks for it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::error::{Error, Reason, Result};

/// A SQLite file, locked for this process; the operating system lets go when the process ends, however it ends.
///
/// Two locks are held. One is on the file itself (`flock`, which the locks that SQLite takes know nothing of), so that it makes
/// no difference by which name another process comes. The other is on a file beside it, so that nobody puts another database
/// into this one's place meanwhile.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    write_ahead: PathBuf,
    identity: Identity,
    // SQLite loses its own locks when any handle of the file is closed: this one is closed after its connections.
    _file: File,
    _beside: File,
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// Takes the file for this process, and creates it and its folder where they are missing, for the owner alone.
    /// UNAVAILABLE where another process has it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        make_folder_of(path)?;
        if !path.exists() {
            // SQLite gives the files of its write-ahead log the mode of this one.
            owners_file(path).map_err(|error| cannot_use(path, error))?;
        }
        let path = path
            .canonicalize()
            .map_err(|error| cannot_use(path, error))?;
        let beside = beside(&path, ".lock");
        let lock = owners_file(&beside).map_err(|error| cannot_use(&beside, error))?;
        // Whoever fails at this one has not opened the other, nor closed it.
        lock_of(&lock, &path)?;
        let file = owners_file(&path).map_err(|error| cannot_use(&path, error))?;
        lock_of(&file, &path)?;
        let identity = file.metadata().map(|metadata| Identity::of(&metadata));
        let identity = identity.map_err(|error| cannot_use(&path, error))?;
        Ok(Self {
            write_ahead: self::beside(&path, "-wal"),
            path,
            identity,
            _file: file,
            _beside: lock,
        })
    }

    /// Its one true name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file and its write-ahead log are still where they were. What is written after they were moved or removed is
    /// not found at the next start.
    pub(super) fn is_in_place(&self) -> bool {
        let found = std::fs::metadata(&self.path).map(|metadata| Identity::of(&metadata));
        found.is_ok_and(|found| found == self.identity) && self.write_ahead.exists()
    }
}

impl Identity {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// What is told where a file is not in its place any more.
pub(super) fn out_of_place() -> Error {
    Error::new(
        Reason::DatabaseUnavailable,
        "the database file was moved or removed",
    )
    .retry_after(super::error::RETRY_AFTER)
}

fn make_folder_of(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| cannot_use(folder, error))
}

fn owners_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn lock_of(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            Reason::DatabaseUnavailable,
            format!("{} is in use by another process", path.display()),
        )),
        Err(TryLockError::Error(error)) => Err(cannot_use(path, error)),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn cannot_use(path: &Path, error: io::Error) -> Error {
    Error::new(
        Reason::DatabaseUnavailable,
        format!("cannot use {}: {error}", path.display()),
    )
    .because(error)
}

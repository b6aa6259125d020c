//! The wall clock of one process, which can be set forward and back; time since boot is left alone.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// See the module.
#[derive(Debug)]
pub(crate) struct SteppedClock {
    library: PathBuf,
    folder: TempDir,
}

impl SteppedClock {
    /// None where libfaketime is not installed.
    pub(crate) fn find() -> Option<Self> {
        let library = library()?;
        let folder = tempfile::tempdir().unwrap();
        let clock = Self { library, folder };
        clock.set(0);
        Some(clock)
    }

    /// Whether there can be one.
    pub(crate) fn is_there() -> bool {
        library().is_some()
    }

    /// Sets it so many seconds ahead of the machine's.
    pub(crate) fn set(&self, ahead: i64) {
        // Written beside and put in its place: it is read at any moment.
        let fresh = self.folder.path().join("fresh");
        std::fs::write(&fresh, format!("{ahead:+}\n")).unwrap();
        std::fs::rename(&fresh, self.file()).unwrap();
    }

    /// What a process that goes by it is started with.
    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            // Files are as old as they are.
            ("NO_FAKE_STAT", "1".into()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }
}

/// Where Debian has it.
fn library() -> Option<PathBuf> {
    let library = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
    let folders = std::fs::read_dir(Path::new("/usr/lib")).ok()?;
    let mut found = folders.filter_map(|folder| Some(library(folder.ok()?.path())));
    found.find(|library| library.exists())
}

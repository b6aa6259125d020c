//! Whether a server would start with its settings, as far as that can be told without making or asking anything.

use std::{fs, io, path::Path};

use rustix::fs::{Access, access};

use super::open::{database_settings, existing_master_keys, first_password};
use crate::{
    config::Settings,
    connections::tls::Certificates,
    error::{Error, Result},
};

/// Tells everything at once for which the server would refuse to start.
pub fn check(settings: &Settings) -> Result<()> {
    let mut checked = vec![
        check_data_dir(settings),
        existing_master_keys(settings).map(|_| ()),
        database_settings(settings).check(),
        Certificates::read(&settings.tls).map(|_| ()),
    ];
    // Only an empty database takes it. Whether one in PostgreSQL is empty cannot be seen from here.
    if settings.database.url.is_some() || database_settings(settings).is_missing() {
        checked.push(first_password(settings).check());
    }
    let refusals = checked.into_iter().filter_map(Result::err);
    Error::together(refusals).map_or(Ok(()), Err)
}

/// The directory, or the nearest one above it that is there, must be one to make things in, where there is anything to make.
fn check_data_dir(settings: &Settings) -> Result<()> {
    let folder = &settings.data_dir;
    for above in folder.ancestors() {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        match fs::metadata(above) {
            Ok(found) if !found.is_dir() => {
                let told = format!("{} is not a directory", above.display());
                return Err(Error::field("data_dir", told));
            }
            Ok(_) if above == folder && !makes_something(settings) => return Ok(()),
            Ok(_) => return check_writable(above),
            Err(error) if is_further_up(&error) && fs::symlink_metadata(above).is_err() => {}
            Err(error) => {
                let told = format!("{} cannot be used: {error}", above.display());
                return Err(Error::field("data_dir", told));
            }
        }
    }
    Ok(())
}

/// Whether a server puts files into a directory that is there: its database, or its master key.
fn makes_something(settings: &Settings) -> bool {
    settings.database.url.is_none() || matches!(existing_master_keys(settings), Ok(None))
}

fn is_further_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn check_writable(folder: &Path) -> Result<()> {
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let told = format!("nothing can be made in {}: {error}", folder.display());
        Error::field("data_dir", told)
    })
}

//! What file, variables and flags say, taken apart: everything that cannot be is told, not the first of it alone.

use std::collections::BTreeMap;

use config::{Config, ConfigError, Map, Value, ValueKind};
use serde::Deserialize as _;

use super::{Settings, load::key_paths};
use crate::error::Error;

/// The settings, and what was refused; a setting that was is as if it had not been set. None where it cannot be told which
/// setting is wrong.
pub(super) fn read(config: Config) -> (Option<Settings>, Vec<Error>) {
    let mut refusals = Vec::new();
    let ValueKind::Table(mut given) = config.cache.kind else {
        return (Some(Settings::default()), refusals);
    };
    let known = key_paths();
    remove_unknown("", &mut given, &known, &mut refusals);
    // Each round takes one setting away: there are no more rounds than settings.
    for _ in 0..=known.len() {
        let value = Value::new(None, ValueKind::Table(given.clone()));
        let error = match Settings::deserialize(value) {
            Ok(settings) => return (Some(settings), refusals),
            Err(error) => error,
        };
        let (key, text) = told(&error);
        let key = key.unwrap_or_else(|| "config".to_owned());
        let removed = remove(&mut given, &key);
        refusals.push(Error::field(key, text));
        if !removed {
            break;
        }
    }
    (None, refusals)
}

/// What is wrong, without the value that is wrong: it may be a secret in the wrong place.
pub(super) fn refused(error: &ConfigError) -> Error {
    let (key, text) = told(error);
    Error::field(key.unwrap_or_else(|| "config".to_owned()), text)
}

fn remove_unknown(
    prefix: &str,
    table: &mut Map<String, Value>,
    known: &[String],
    refusals: &mut Vec<Error>,
) {
    // In order, so that the same file is refused in the same words.
    let sorted: BTreeMap<String, Value> = std::mem::take(table).into_iter().collect();
    for (key, mut value) in sorted {
        let path = format!("{prefix}{key}");
        let within = format!("{path}.");
        if known.contains(&path) {
            table.insert(key, value);
        } else if !known.iter().any(|known| known.starts_with(&within)) {
            refusals.push(Error::field(path, "is not a setting"));
        } else if let ValueKind::Table(inner) = &mut value.kind {
            remove_unknown(&within, inner, known, refusals);
            table.insert(key, value);
        } else {
            refusals.push(Error::field(path, "must be a table"));
        }
    }
}

/// Whether there was such a setting.
fn remove(table: &mut Map<String, Value>, path: &str) -> bool {
    match path.split_once('.') {
        None => table.remove(path).is_some(),
        Some((key, rest)) => match table.get_mut(key).map(|value| &mut value.kind) {
            Some(ValueKind::Table(inner)) => remove(inner, rest),
            _ => false,
        },
    }
}

fn told(error: &ConfigError) -> (Option<String>, String) {
    match error {
        ConfigError::Type { expected, key, .. } => (key.clone(), format!("must be {expected}")),
        ConfigError::At { error, key, .. } => {
            let (inner, text) = told(error);
            (key.clone().or(inner), text)
        }
        ConfigError::Message(text) => (None, without_value(text)),
        ConfigError::FileParse { cause, .. } => (None, without_lines(&cause.to_string())),
        ConfigError::NotFound(key) => (Some(key.clone()), "is missing".to_owned()),
        // The rest says what is wrong with a path or a format, never with a value.
        other => (None, without_lines(&other.to_string())),
    }
}

fn without_value(text: &str) -> String {
    match text
        .strip_prefix("invalid ")
        .and(text.rsplit_once("expected "))
    {
        Some((_, expected)) => format!("must be {expected}"),
        None => text.to_owned(),
    }
}

/// A parser's complaint without the lines of the file that it quotes.
fn without_lines(text: &str) -> String {
    let kept: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains('|'))
        .collect();
    kept.join(": ")
}

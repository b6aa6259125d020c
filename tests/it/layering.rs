//! Imports point down: `cli` → `server` → `grpc`, `http` → `authority` → `log` → `storage` → `domain` → leaves. Frameworks are
//! named where they belong and nowhere else.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The folders and files of `src/`, highest first; those of one line do not know each other.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["server"],
    &["grpc", "http"],
    &["connections"],
    &["authority"],
    &["log"],
    &["storage"],
    &["domain"],
    &["telemetry", "shutdown", "background"],
    &["config"],
    &["clock", "random"],
    &["error"],
    &["proto"],
];

/// Crates, and the only places that may name them.
const FRAMEWORKS: &[(&str, &[&str])] = &[
    ("sea_orm", &["storage"]),
    ("sqlx", &["storage"]),
    ("token_authority_migrations", &["storage"]),
    ("jsonwebtoken", &["domain/jwt"]),
    ("argon2", &["authority/sign_in"]),
    ("tonic", &["grpc", "server", "cli", "proto.rs"]),
    ("tonic_types", &["grpc", "server", "cli"]),
    ("axum", &["http"]),
    ("clap", &["cli", "main.rs"]),
];

/// A file of `src/` without comments and texts.
struct Source {
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(source(&root, &path));
            }
        }
    }
    found
}

fn source(root: &Path, path: &PathBuf) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let relative = path.strip_prefix(root).unwrap();
    Source {
        path: relative.to_str().unwrap().to_owned(),
        code: without_texts(&text),
    }
}

/// The code alone: no comments, and nothing between quotation marks.
fn without_texts(text: &str) -> String {
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let unescaped = uncommented.join("\n").replace("\\\"", "");
    unescaped.split('"').step_by(2).collect()
}

/// What is named right after `crate::`: one name, or the first of each path between braces.
fn modules_named_in(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => named.extend(first_names(group)),
            None => named.extend(name_at_start_of(after)),
        }
    }
    named
}

fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut at_start) = (Vec::new(), 0, true);
    for (place, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if letter.is_whitespace() => {}
            _ if at_start => {
                names.extend(name_at_start_of(&group[place..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

fn name_at_start_of(text: &str) -> Option<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let end = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

fn names_crate(code: &str, name: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    code.match_indices(name).any(|(place, _)| {
        let (before, after) = (&code[..place], &code[place + name.len()..]);
        let path_before = before.ends_with("::") && !before.ends_with(" ::");
        !before.ends_with(is_part) && !path_before && after.starts_with("::")
    })
}

/// The line of a module; none for macros and other names at the root.
fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for Source { path, code } in sources() {
        let own = path.split(['/', '.']).next().unwrap();
        if own == "lib" {
            continue;
        }
        let floor = floor_of(own).unwrap_or_else(|| panic!("{path} has no place"));
        for named in modules_named_in(&code) {
            let down = floor_of(&named).is_none_or(|other| other > floor || named == own);
            if !down {
                wrong.push(format!("{path} names crate::{named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn frameworks_are_named_where_they_belong() {
    let mut wrong = Vec::new();
    for Source { path, code } in sources() {
        for (name, places) in FRAMEWORKS {
            let belongs = places.iter().any(|place| path.starts_with(place));
            if !belongs && names_crate(&code, name) {
                wrong.push(format!("{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_service_takes_anything_from_another() {
    let name = |path: &str| {
        let name = path.strip_prefix("grpc/")?.strip_suffix(".rs")?;
        name.ends_with("_service").then(|| name.to_owned())
    };
    let services: Vec<(String, String)> = sources()
        .into_iter()
        .filter_map(|source| Some((name(&source.path)?, source.code)))
        .collect();
    assert!(services.len() >= 8, "they are called otherwise now");
    let mut wrong = Vec::new();
    for (service, code) in &services {
        let words: BTreeSet<_> = code
            .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .collect();
        for (other, _) in &services {
            if other != service && words.contains(other.as_str()) {
                wrong.push(format!("{service} names {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_finder_finds() {
    let code = without_texts(
        "use crate::{\n error::{Error, proto},\n storage::Db,\n};\n// crate::cli\nlet x = \"crate::http\"; crate::log::x();",
    );
    let named: Vec<String> = modules_named_in(&code).into_iter().collect();
    assert_eq!(named, ["error", "log", "storage"]);
    assert!(names_crate("use tonic::Status;", "tonic"));
    assert!(!names_crate("use a::tonic::Status;", "tonic"));
    assert!(!names_crate("use tonic_types::Status;", "tonic"));
}

//! How file, variables and flags come together: each over the one before, and nothing unknown in any of them.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use config::{Config, File, FileFormat, builder::DefaultState};

use super::{
    Settings,
    read::{read, refused},
};
use crate::error::{Error, Result};

const PREFIX: &str = "TOKEN_AUTHORITY_";

/// The variable that names the file.
const FILE_VARIABLE: &str = "TOKEN_AUTHORITY_CONFIG";

/// What is set for others than the server: the client verbs, the build, the tests.
const FOREIGN: &[&str] = &[
    "CONFIG",
    "ADDRESS",
    "TOKEN",
    "TOKEN_FILE",
    "CA_FILE",
    "CLIENT_CERTIFICATE_FILE",
    "CLIENT_KEY_FILE",
    "COMMIT",
];

/// A secret and the setting that names a file with it: whoever sets one overrides the other.
const TWINS: &[(&str, &str)] = &[
    ("database.url", "database.url_file"),
    ("master_key", "master_key_file"),
];

type Builder = config::ConfigBuilder<DefaultState>;
type Pairs = BTreeMap<String, String>;

/// Settings, and what was refused of what was given.
#[derive(Debug)]
pub struct Loaded {
    /// Where something was refused, what is set otherwise.
    pub settings: Settings,
    /// All that was.
    pub refusals: Vec<Error>,
}

impl Settings {
    /// Reads `file` (or the one that `TOKEN_AUTHORITY_CONFIG` names), then `variables`, then `flags`, which are pairs of a
    /// key's path (`grpc.listen`) and its text. `FIELD_INVALID` names every key or variable at fault, and shows no secret;
    /// `INTERNAL` where it is but a file that cannot be read.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let loaded = Self::load_what_is_good(file, variables, flags)?;
        match Error::together(loaded.refusals) {
            None => Ok(loaded.settings),
            Some(refusal) => Err(refusal),
        }
    }

    /// The same, for who looks further when something is refused. Fails where nothing can be told of single settings.
    pub fn load_what_is_good(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded> {
        let mut refusals = Vec::new();
        let (named_file, variables) = from_variables(variables, &mut refusals);
        let mut builder = Config::builder();
        if let Some(file) = file.or(named_file.as_deref().map(Path::new)) {
            builder = with_file(builder, file)?;
        }
        for pairs in [variables, flags.into_iter().collect()] {
            builder = with_pairs(builder, &pairs)?;
        }
        let (settings, refused) = read(builder.build().map_err(|error| refused(&error))?);
        refusals.extend(refused);
        let Some(mut settings) = settings else {
            return Err(Error::together(refusals).unwrap_or_else(unreadable));
        };
        refusals.extend(settings.read_secret_files().err());
        refusals.extend(settings.refusals());
        Ok(Loaded { settings, refusals })
    }

    fn read_secret_files(&mut self) -> Result<()> {
        let Some(path) = &self.database.url_file else {
            return Ok(());
        };
        let text = fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            Error::internal(format!("database.url_file: {path} cannot be read: {error}"))
        })?;
        let url = text.trim_end_matches(['\r', '\n']).parse();
        self.database.url =
            Some(url.map_err(|description| Error::field("database.url_file", description))?);
        Ok(())
    }
}

fn unreadable() -> Error {
    Error::field("config", "cannot be read")
}

/// The process's variables.
pub fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// Every key there is, as a path such as `limits.connections`.
pub fn key_paths() -> Vec<String> {
    let mut paths = Vec::new();
    if let Ok(defaults) = serde_json::to_value(Settings::default()) {
        collect_paths("", &defaults, &mut paths);
    }
    paths
}

/// The variable of a key.
pub fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_ascii_uppercase())
}

fn collect_paths(prefix: &str, value: &serde_json::Value, paths: &mut Vec<String>) {
    let Some(table) = value.as_object() else {
        paths.push(prefix.to_owned());
        return;
    };
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        collect_paths(&path, value, paths);
    }
}

/// The settings among the variables, and the file that one of them names. A variable that is set to nothing is not set.
fn from_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    refusals: &mut Vec<Error>,
) -> (Option<String>, Pairs) {
    let known: BTreeMap<String, String> = key_paths()
        .into_iter()
        .map(|path| (variable_of(&path), path))
        .collect();
    let (mut file, mut pairs) = (None, Pairs::new());
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let Ok(value) = value.into_string() else {
            refusals.push(Error::field(name, "is not UTF-8"));
            continue;
        };
        if name == FILE_VARIABLE {
            file = Some(value).filter(|file| !file.is_empty());
        } else if let Some(path) = known.get(name) {
            if !value.is_empty() {
                pairs.insert(path.clone(), value);
            }
        } else if !is_foreign(&name[PREFIX.len()..], &value) {
            refusals.push(Error::field(name, "is not a setting"));
        }
    }
    (file, pairs)
}

/// Whether a variable without our prefix is somebody else's. Kubernetes puts the addresses of a Service `token-authority`, or
/// one whose name begins so, into every container.
fn is_foreign(name: &str, value: &str) -> bool {
    let has_protocol = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|protocol| value.starts_with(protocol));
    FOREIGN.contains(&name)
        || name.starts_with("TEST_")
        || name.ends_with("SERVICE_HOST")
        || is_service_port(name)
        || is_port_of_protocol(name)
        || (has_protocol && (name == "PORT" || name.ends_with("_PORT")))
}

/// `[…_]SERVICE_PORT` with a number for its value, or `[…_]SERVICE_PORT_<name>`.
fn is_service_port(name: &str) -> bool {
    name == "SERVICE_PORT"
        || name.starts_with("SERVICE_PORT_")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
}

/// `[…_]PORT_<number>_<protocol>[_PROTO|_PORT|_ADDR]`.
fn is_port_of_protocol(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    parts.windows(3).any(|window| {
        window[0] == "PORT"
            && !window[1].is_empty()
            && window[1].bytes().all(|byte| byte.is_ascii_digit())
            && ["TCP", "UDP", "SCTP"].contains(&window[2])
    })
}

fn with_file(builder: Builder, path: &Path) -> Result<Builder> {
    let text = fs::read_to_string(path).map_err(|error| {
        let path = path.display();
        Error::internal(format!(
            "the configuration file {path} cannot be read: {error}"
        ))
    })?;
    Ok(builder.add_source(File::from_str(&text, FileFormat::Toml)))
}

fn with_pairs(mut builder: Builder, pairs: &Pairs) -> Result<Builder> {
    for (path, value) in pairs {
        for (secret, file) in TWINS {
            let other = match path {
                path if path == secret => file,
                path if path == file => secret,
                _ => continue,
            };
            if pairs.contains_key(*other) {
                return Err(Error::field(
                    variable_of(path),
                    format!("cannot be set together with {}", variable_of(other)),
                ));
            }
            builder = builder
                .set_override(*other, "")
                .map_err(|error| refused(&error))?;
        }
        builder = builder
            .set_override(path, value.as_str())
            .map_err(|error| refused(&error))?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;

    fn load(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token-authority.toml");
        fs::write(&path, file).unwrap();
        Settings::load(
            Some(&path),
            variables
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
            flags
                .iter()
                .map(|(path, value)| ((*path).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn variables_go_over_the_file_and_flags_over_both() {
        let file = "issuer = \"https://file\"\n[grpc]\nlisten = \"127.0.0.1:1\"\n[http]\nlisten = \"127.0.0.1:2\"\n[ops]\nlisten = \"127.0.0.1:3\"\n[limits]\nin_flight = 7\nrequest_timeout = \"9s\"";
        let settings = load(
            file,
            &[
                ("TOKEN_AUTHORITY_HTTP_LISTEN", "127.0.0.1:22"),
                ("TOKEN_AUTHORITY_OPS_LISTEN", "off"),
                ("TOKEN_AUTHORITY_LIMITS_CONNECTIONS", "99"),
                ("TOKEN_AUTHORITY_ISSUER", ""),
                ("HOME", "/root"),
            ],
            &[("ops.listen", "127.0.0.1:33")],
        )
        .unwrap();
        assert_eq!(settings.grpc.listen, Listen::loopback(1));
        assert_eq!(settings.http.listen, Listen::loopback(22));
        assert_eq!(settings.ops.listen, Listen::loopback(33));
        assert_eq!(
            (settings.limits.in_flight, settings.limits.connections),
            (7, 99)
        );
        assert_eq!(settings.limits.request_timeout.as_secs(), 9);
        assert_eq!(settings.issuer, "https://file");
    }

    #[test]
    fn unknown_keys_and_variables_are_refused_by_name() {
        for (file, variable, named) in [
            ("isuer = \"x\"", None, "isuer"),
            ("[limits]\nconections = 1", None, "conections"),
            (
                "",
                Some(("TOKEN_AUTHORITY_ISUER", "x")),
                "TOKEN_AUTHORITY_ISUER",
            ),
            (
                "",
                Some(("TOKEN_AUTHORITY_PORT", "8080")),
                "TOKEN_AUTHORITY_PORT",
            ),
        ] {
            let error = load(file, variable.as_slice(), &[]).unwrap_err();
            assert!(error.message().contains(named), "{error}");
        }
    }

    #[test]
    fn everything_that_is_refused_is_told_at_once() {
        let file = "isuer = \"x\"\nhttp = 7\n[limits]\nconections = 1\nin_flight = 0\nrequest_timeout = \"9\"\n\
                    [log]\nformat = \"hunter2\"";
        let variables = [
            ("TOKEN_AUTHORITY_GRPC_LISTEN", "hunter2"),
            ("TOKEN_AUTHORITY_ISUER", "hunter2"),
            ("TOKEN_AUTHORITY_DATABASE_URL_FILE", "/nothing/here"),
        ];
        let error = load(file, &variables, &[]).unwrap_err();
        for part in [
            "isuer: is not a setting",
            "http: must be a table",
            "limits.conections: is not a setting",
            "limits.in_flight: must be from 1",
            "limits.request_timeout: must be a duration",
            "log.format: must be auto, text or json",
            "grpc.listen: must be IP:PORT",
            "TOKEN_AUTHORITY_ISUER: is not a setting",
            "database.url_file: /nothing/here cannot be read",
        ] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
        assert_eq!(error.violations().len(), 8);
        assert!(!error.message().contains("hunter2"), "{error}");
    }

    #[test]
    fn what_kubernetes_and_the_client_set_is_left_alone() {
        let variables = [
            ("TOKEN_AUTHORITY_SERVICE_HOST", "10.0.0.1"),
            ("TOKEN_AUTHORITY_SERVICE_PORT", "50051"),
            ("TOKEN_AUTHORITY_SERVICE_PORT_GRPC", "50051"),
            ("TOKEN_AUTHORITY_PORT", "tcp://10.0.0.1:50051"),
            ("TOKEN_AUTHORITY_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
            ("TOKEN_AUTHORITY_PORT_50051_TCP_ADDR", "10.0.0.1"),
            ("TOKEN_AUTHORITY_OPS_SERVICE_HOST", "10.0.0.1"),
            ("TOKEN_AUTHORITY_OPS_PORT_9090_TCP_PROTO", "tcp"),
            ("TOKEN_AUTHORITY_ADDRESS", "http://127.0.0.1:50051"),
            ("TOKEN_AUTHORITY_TOKEN", "t"),
            ("TOKEN_AUTHORITY_TEST_POSTGRES", "postgres://x"),
        ];
        load("", &variables, &[]).unwrap();
    }

    #[test]
    fn a_refusal_shows_no_value_that_may_be_secret() {
        for file in [
            "database = \"postgres://u:hunter2@db\"",
            "[database]\nurl = \"mysql://u:hunter2@db\"",
            "[database]\nurl = \"postgres://u:hunter2@db",
            "master_key = [\"hunter2\"]",
            "[limits]\nin_flight = \"hunter2\"",
            "[grpc]\nlisten = \"hunter2\"",
            "[log]\nformat = \"hunter2\"",
        ] {
            let error = load(file, &[], &[]).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_in_a_file_goes_over_one_in_the_configuration_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        fs::write(&path, "postgres://u:hunter2@db/ta\n").unwrap();
        let file = "[database]\nurl = \"postgres://elsewhere/ta\"";
        let path = path.to_str().unwrap();
        let by_file = ("TOKEN_AUTHORITY_DATABASE_URL_FILE", path);
        let settings = load(file, &[by_file], &[]).unwrap();
        let url = settings.database.url.clone().unwrap();
        assert_eq!(url.expose(), "postgres://u:hunter2@db/ta");
        assert!(!format!("{settings:?}").contains("hunter2"));

        let by_value = ("TOKEN_AUTHORITY_DATABASE_URL", "postgres://db/ta");
        assert!(load(file, &[by_file, by_value], &[]).is_err());
    }
}

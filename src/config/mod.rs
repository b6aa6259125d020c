//! What the server is told at its start: a TOML file, then variables `TOKEN_AUTHORITY_…`, then flags, each over the one before.
//!
//! A key's variable is its path in capitals: `limits.connections` is `TOKEN_AUTHORITY_LIMITS_CONNECTIONS`. In reading order:
//! [`Settings`] with everything that can be set, `load` (how the three come together), `read` (how they become settings),
//! `check` (what is refused), `values` (the kinds of value), `show` (what of it may be seen). Only this folder reads the environment.

mod check;
mod load;
mod read;
mod show;
mod values;

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::{
    load::{Loaded, environment, key_paths, variable_of},
    values::{DatabaseUrl, Listen, LogFormat, Secret, SigningAlgorithm},
};

/// Everything that can be set. The defaults serve on loopback out of `./data`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The directory of the `SQLite` file, the generated master key and the first password.
    pub data_dir: PathBuf,
    /// `iss` of the tokens, and the audience that this service asks of them: a URL without query and fragment.
    pub issuer: String,
    /// Whether to serve gRPC and HTTP without TLS beyond loopback, where others may read credentials on the wire.
    pub insecure_plaintext: bool,
    /// The master key as base64.
    #[serde(deserialize_with = "values::unless_empty")]
    pub master_key: Option<Secret>,
    /// The files of the master keys: the first one seals, all of them open. One in `data_dir` is made where none is configured.
    #[serde(deserialize_with = "values::paths")]
    pub master_key_file: Vec<PathBuf>,
    /// The file that holds the first password of `admin`; one in `data_dir` is made where none is configured.
    #[serde(deserialize_with = "values::unless_empty")]
    pub bootstrap_password_file: Option<PathBuf>,
    /// With which certificates gRPC and HTTP are served.
    pub tls: TlsSettings,
    /// Where gRPC is served.
    pub grpc: GrpcSettings,
    /// Where HTTP is served.
    pub http: HttpSettings,
    /// Where operators' tools look.
    pub ops: OpsSettings,
    /// Where everything is remembered.
    pub database: DatabaseSettings,
    /// How tokens are signed.
    pub signing_keys: SigningKeySettings,
    /// What a password's hash costs.
    pub argon2: Argon2Settings,
    /// How fast passwords may be tried.
    pub sign_in: SignInSettings,
    /// How much is taken on at a time.
    pub limits: Limits,
    /// How the server ends.
    pub shutdown: ShutdownSettings,
    /// How it logs.
    pub log: LogSettings,
}

/// With which certificates gRPC and HTTP are served; without any, in plaintext. The operators' listener is always plaintext.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM: the certificate, then those between it and its authority.
    #[serde(deserialize_with = "values::unless_empty")]
    pub certificate_file: Option<PathBuf>,
    /// PEM: its key.
    #[serde(deserialize_with = "values::unless_empty")]
    pub key_file: Option<PathBuf>,
    /// PEM: the authorities of client certificates. Where it is set, no client gets in without one.
    #[serde(deserialize_with = "values::unless_empty")]
    pub client_ca_file: Option<PathBuf>,
}

/// Where gRPC is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcSettings {
    /// `IP:PORT` or `off`.
    pub listen: Listen,
}

/// Where HTTP is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// `IP:PORT` or `off`.
    pub listen: Listen,
}

/// Where operators' tools look: metrics and probes, nothing secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpsSettings {
    /// `IP:PORT` or `off`.
    pub listen: Listen,
}

/// Where everything is remembered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `postgres://…`; `SQLite` in the data directory where there is none.
    #[serde(deserialize_with = "values::unless_empty")]
    pub url: Option<DatabaseUrl>,
    /// A file with the URL, which holds a password.
    #[serde(deserialize_with = "values::unless_empty")]
    pub url_file: Option<PathBuf>,
    /// How many connections at most; 0 leaves it to the engine.
    pub connections: u32,
}

/// How tokens are signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigningKeySettings {
    /// How new keys sign.
    pub algorithm: SigningAlgorithm,
    /// For how long a key signs before the next one takes over; nothing: until somebody says so.
    #[serde(with = "values::duration")]
    pub rotation_period: Duration,
}

/// What a password's hash costs (RFC 9106), and how many are computed at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Argon2Settings {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// How many are computed at a time; 0 is one a core.
    pub concurrent: usize,
    /// How many may wait for their turn.
    pub queue: usize,
    /// For how long, before they are answered `RESOURCE_EXHAUSTED`; who would wait for more than half of it is at once.
    #[serde(with = "values::duration")]
    pub max_wait: Duration,
}

/// How fast passwords may be tried.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignInSettings {
    /// Networks from which many sign in through one address, a web front end for example: failures are counted there by name
    /// alone.
    #[serde(deserialize_with = "values::networks")]
    pub trusted_networks: Vec<IpNet>,
}

/// How much is taken on at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections, over all listeners' clients.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: usize,
    /// Streams and calls on one connection.
    pub streams_per_connection: u32,
    /// Unary calls at work; one more is answered `RESOURCE_EXHAUSTED`.
    pub in_flight: usize,
    /// How long a unary call may take; a client may ask for less.
    #[serde(with = "values::duration")]
    pub request_timeout: Duration,
    /// How long a new connection may stay silent, and how long it may shake hands.
    #[serde(with = "values::duration")]
    pub first_byte_timeout: Duration,
    /// After how long a client is asked to connect anew, so that load spreads over replicas.
    #[serde(with = "values::duration")]
    pub connection_age: Duration,
}

/// How the server ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownSettings {
    /// Between saying "not serving" and turning clients away, so that load balancers notice.
    #[serde(with = "values::duration")]
    pub pause: Duration,
    /// For everything together; what is left then is cut.
    #[serde(with = "values::duration")]
    pub timeout: Duration,
}

/// How it logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `text`, `json`, or `auto`: text on a terminal, JSON elsewhere.
    pub format: LogFormat,
    /// A level, or directives of `tracing_subscriber`'s `EnvFilter`.
    pub filter: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            issuer: "http://localhost:8080".to_owned(),
            insecure_plaintext: false,
            master_key: None,
            master_key_file: Vec::new(),
            bootstrap_password_file: None,
            tls: TlsSettings::default(),
            grpc: GrpcSettings::default(),
            http: HttpSettings::default(),
            ops: OpsSettings::default(),
            database: DatabaseSettings::default(),
            signing_keys: SigningKeySettings::default(),
            argon2: Argon2Settings::default(),
            sign_in: SignInSettings::default(),
            limits: Limits::default(),
            shutdown: ShutdownSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Default for GrpcSettings {
    fn default() -> Self {
        Self {
            listen: Listen::loopback(50_051),
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: Listen::loopback(8_080),
        }
    }
}

impl Default for OpsSettings {
    fn default() -> Self {
        Self {
            listen: Listen::loopback(9_090),
        }
    }
}

impl Default for SigningKeySettings {
    fn default() -> Self {
        Self {
            algorithm: SigningAlgorithm::EdDsa,
            rotation_period: Duration::from_hours(30 * 24),
        }
    }
}

impl Default for Argon2Settings {
    fn default() -> Self {
        Self {
            memory_kib: check::ARGON2_MEMORY_FLOOR_KIB,
            iterations: check::ARGON2_ITERATIONS_FLOOR,
            parallelism: 1,
            concurrent: 0,
            queue: 256,
            max_wait: Duration::from_secs(2),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 12_288,
            streams_per_connection: 128,
            in_flight: 4_096,
            request_timeout: Duration::from_secs(30),
            first_byte_timeout: Duration::from_secs(5),
            connection_age: Duration::from_hours(1),
        }
    }
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(1),
            timeout: Duration::from_secs(25),
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            filter: "info".to_owned(),
        }
    }
}

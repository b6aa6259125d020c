//! Every method that this server answers, with what must be known of it before its handler is asked: whether it streams, and
//! under which name it is counted.

use std::{
    collections::HashMap,
    fmt,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use metrics::{Counter, Histogram};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use crate::{
    proto::{self, MethodRule, method_rule},
    telemetry::metrics as names,
};

/// The codes of gRPC by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The verbs of methods that change nothing.
const READING: [&str; 4] = ["Get", "List", "Introspect", "BatchIntrospect"];

/// How messages go back and forth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many requests.
    ClientStream,
}

/// A method, known by its path.
pub struct Method {
    name: String,
    shape: Shape,
    rule: Option<MethodRule>,
    by_code: [OnceLock<Counter>; CODES.len()],
    seconds: OnceLock<Histogram>,
}

static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(all_methods);
static OTHER: LazyLock<Method> = LazyLock::new(|| Method::new("other", Shape::Unary, None));

impl Method {
    /// The method at a path such as `/tokenauthority.v1.TokenService/IssueToken`; all that are unknown are one.
    pub fn at(path: &str) -> &'static Self {
        METHODS.get(path).unwrap_or(&OTHER)
    }

    /// The path without its first slash, or `other`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How messages go back and forth.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether it changes nothing, by its verb: whoever did not get the answer may ask again.
    pub fn reads(&self) -> bool {
        let verb = self.name.rsplit('/').next().unwrap_or_default();
        READING.iter().any(|reading| verb.starts_with(reading))
    }

    /// Whether it is of the contract, rather than health or reflection or unknown.
    pub fn is_ours(&self) -> bool {
        self.rule.is_some()
    }

    /// Who may call it; none for what is not of the contract.
    pub fn rule(&self) -> Option<MethodRule> {
        self.rule
    }

    /// Counts a call.
    pub(super) fn count(&'static self, code: Code, took: Duration) {
        let number = usize::try_from(i32::from(code)).unwrap_or(2).min(16);
        self.by_code[number]
            .get_or_init(|| metrics::counter!(names::CALLS, "method" => self.name.as_str(), "code" => CODES[number]))
            .increment(1);
        self.seconds
            .get_or_init(
                || metrics::histogram!(names::CALL_SECONDS, "method" => self.name.as_str()),
            )
            .record(took);
    }

    fn new(name: impl Into<String>, shape: Shape, rule: Option<MethodRule>) -> Self {
        Self {
            name: name.into(),
            shape,
            rule,
            by_code: [const { OnceLock::new() }; CODES.len()],
            seconds: OnceLock::new(),
        }
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Method({})", self.name)
    }
}

/// The descriptors of everything that is served.
pub(super) const DESCRIPTOR_SETS: [&[u8]; 4] = [
    proto::DESCRIPTORS,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

fn all_methods() -> HashMap<String, Method> {
    let mut methods = HashMap::new();
    for encoded in DESCRIPTOR_SETS {
        // These are part of the binary; a set that could not be read would show in the first test.
        let files = FileDescriptorSet::decode(encoded).unwrap_or_default().file;
        for file in files {
            let package = file.package().to_owned();
            for service in &file.service {
                for method in &service.method {
                    let shape = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Shape::Unary,
                        (false, true) => Shape::ServerStream,
                        (true, _) => Shape::ClientStream,
                    };
                    let name = format!("{package}.{}/{}", service.name(), method.name());
                    let path = format!("/{name}");
                    let rule = method_rule(&path);
                    methods.insert(path, Method::new(name, shape, rule));
                }
            }
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_contract_is_known_and_the_rest_is_one() {
        for path in proto::METHODS {
            assert_eq!(Method::at(path).name(), &path[1..]);
            assert!(Method::at(path).is_ours());
        }
        let watch = Method::at("/tokenauthority.v1.RevocationService/WatchRevocations");
        assert_eq!(watch.shape(), Shape::ServerStream);
        let health = Method::at("/grpc.health.v1.Health/Check");
        assert_eq!((health.shape(), health.is_ours()), (Shape::Unary, false));
        let reflection = Method::at("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
        assert_eq!(reflection.shape(), Shape::ClientStream);
        assert_eq!(Method::at("/../../etc/passwd").name(), "other");
    }

    #[test]
    fn a_method_reads_by_its_verb() {
        for (name, reads) in [
            ("TokenService/IntrospectToken", true),
            ("TokenService/BatchIntrospectTokens", true),
            ("RoleService/ListRoles", true),
            ("TokenService/GetCallerIdentity", true),
            ("TokenService/RotateToken", false),
            ("ApiKeyService/CreateApiKey", false),
        ] {
            let method = Method::at(&format!("/tokenauthority.v1.{name}"));
            assert_eq!((method.is_ours(), method.reads()), (true, reads), "{name}");
        }
    }
}

//! Every metric, declared in one place. Labels take few values: a method of the contract, a code, a kind; never a name or id.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Calls answered; labels `method`, `code`.
pub const CALLS: &str = "token_authority_calls_total";
/// How long they took; label `method`.
pub const CALL_SECONDS: &str = "token_authority_call_duration_seconds";
/// Unary calls at work.
pub const CALLS_IN_FLIGHT: &str = "token_authority_calls_in_flight";
/// Calls turned away because too many were at work.
pub const CALLS_SHED: &str = "token_authority_calls_shed_total";
/// Bytes of larger answers that are not sent yet.
pub const UNREAD_BYTES: &str = "token_authority_unread_answer_bytes";
/// Open connections; label `listener`.
pub const CONNECTIONS: &str = "token_authority_connections";
/// Connections turned away or cut; label `reason`.
pub const CONNECTIONS_REFUSED: &str = "token_authority_connections_refused_total";
/// Introspection verdicts; labels `kind` (`jwt`, `api_key`), `verdict` (`active`, or why not).
pub const VERDICTS: &str = "token_authority_verdicts_total";
/// Look-ups of presented tokens in memory; labels `cache` (`jwt`, `api_key`), `result` (`hit`, `miss`).
pub const CACHE_LOOKUPS: &str = "token_authority_cache_lookups_total";
/// Sign-ins; label `result` (`right`, `wrong`, `throttled`, `failed`).
pub const SIGN_INS: &str = "token_authority_sign_ins_total";
/// Passwords hashed.
pub const HASHES: &str = "token_authority_password_hashes_total";
/// Passwords that wait to be hashed.
pub const HASHING_QUEUE: &str = "token_authority_password_hashing_queue";
/// The last position of the revocation log.
pub const LOG_HEAD: &str = "token_authority_revocation_log_head";
/// The last position that this replica has applied.
pub const LOG_APPLIED: &str = "token_authority_revocation_log_applied";
/// Entries that got their places in one step of this replica's sequencer (PostgreSQL).
pub const SEQUENCED_ENTRIES: &str = "token_authority_sequencer_batch_entries";
/// Revocations of sessions and tokens that shared a commit.
pub const SHARED_COMMIT_ENTRIES: &str = "token_authority_shared_commit_entries";
/// From a revocation's commit until it is effective.
pub const EFFECTIVE_SECONDS: &str = "token_authority_revocation_effective_duration_seconds";
/// Open streams; label `method`.
pub const STREAMS: &str = "token_authority_streams";
/// Entries by which the slowest open stream of revocations is behind what is applied.
pub const STREAM_LAG: &str = "token_authority_stream_lag";
/// Whether this replica may answer from memory: 1 or 0.
pub const LEASE_HELD: &str = "token_authority_lease_held";
/// Connections to the database, on SQLite the one that writes; label `state` (`used`, `idle`).
pub const DATABASE_CONNECTIONS: &str = "token_authority_database_connections";
/// Refusals that were too many to be written into the audit log, even as sums.
pub const AUDIT_REFUSALS_UNWRITTEN: &str = "token_authority_audit_refusals_unwritten_total";
/// How long the active signing key has been signing.
pub const SIGNING_KEY_AGE: &str = "token_authority_signing_key_age_seconds";

enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const DECLARED: &[(Kind, &str, &str)] = &[
    (
        Kind::Counter,
        CALLS,
        "Calls answered, by method and gRPC code",
    ),
    (
        Kind::Histogram,
        CALL_SECONDS,
        "How long calls took, by method; streams from first to last message",
    ),
    (Kind::Gauge, CALLS_IN_FLIGHT, "Unary calls at work"),
    (
        Kind::Counter,
        CALLS_SHED,
        "Calls turned away because too many were at work",
    ),
    (
        Kind::Gauge,
        UNREAD_BYTES,
        "Bytes of answers over 4 KiB that their clients have not read yet",
    ),
    (Kind::Gauge, CONNECTIONS, "Open connections, by listener"),
    (
        Kind::Counter,
        CONNECTIONS_REFUSED,
        "Connections turned away or cut, by reason",
    ),
    (
        Kind::Counter,
        VERDICTS,
        "Introspection verdicts, by kind of token and what was found",
    ),
    (
        Kind::Counter,
        CACHE_LOOKUPS,
        "Look-ups of presented tokens in memory, by cache and result",
    ),
    (Kind::Counter, SIGN_INS, "Sign-ins, by result"),
    (Kind::Counter, HASHES, "Passwords hashed"),
    (
        Kind::Gauge,
        HASHING_QUEUE,
        "Passwords that wait to be hashed",
    ),
    (Kind::Gauge, LOG_HEAD, "Last position of the revocation log"),
    (
        Kind::Gauge,
        LOG_APPLIED,
        "Last position of the revocation log that this replica has applied",
    ),
    (
        Kind::Histogram,
        SEQUENCED_ENTRIES,
        "Entries that got their places in the revocation log in one step of this replica's sequencer",
    ),
    (
        Kind::Histogram,
        SHARED_COMMIT_ENTRIES,
        "Revocations of sessions and tokens that shared a commit",
    ),
    (
        Kind::Histogram,
        EFFECTIVE_SECONDS,
        "From the commit of a revocation until it is effective",
    ),
    (Kind::Gauge, STREAMS, "Open streams, by method"),
    (
        Kind::Gauge,
        STREAM_LAG,
        "Entries by which the slowest open stream of revocations is behind what is applied",
    ),
    (
        Kind::Gauge,
        LEASE_HELD,
        "Whether this replica may answer from memory",
    ),
    (
        Kind::Gauge,
        DATABASE_CONNECTIONS,
        "Database connections, by state",
    ),
    (
        Kind::Counter,
        AUDIT_REFUSALS_UNWRITTEN,
        "Refusals that were too many to be written into the audit log",
    ),
    (
        Kind::Gauge,
        SIGNING_KEY_AGE,
        "How long the active signing key has been signing",
    ),
];

/// Bounds of the histograms, in seconds: from an introspection to a sign-in that waits.
const BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0,
    3.0, 5.0, 10.0, 30.0,
];

/// Bounds of those that count entries, up to a full batch.
const ENTRIES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0,
];

static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to record; where the process already does, nothing changes. What was recorded before is lost.
pub fn start() {
    RECORDED.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let by_unit = |unit: &str| Matcher::Suffix(unit.to_owned());
        let builder = builder
            .set_buckets_for_metric(by_unit("_seconds"), BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(by_unit("_entries"), ENTRIES))
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder, as a test may have one, stays.
        let _already = metrics::set_global_recorder(recorder);
        declare();
        handle
    });
}

/// Every name there is.
pub fn names() -> impl Iterator<Item = &'static str> {
    DECLARED.iter().map(|(_, name, _)| *name)
}

/// Everything recorded, in Prometheus' text format.
pub fn render() -> String {
    RECORDED
        .get()
        .map(PrometheusHandle::render)
        .unwrap_or_default()
}

/// Folds what histograms have taken in; without it, and without anybody who reads the metrics, they grow.
pub fn fold() {
    if let Some(handle) = RECORDED.get() {
        handle.run_upkeep();
    }
}

fn declare() {
    for (kind, name, help) in DECLARED {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
}

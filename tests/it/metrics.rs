//! What `/metrics` shows: every metric that is declared, filled, with labels that name nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use token_authority::{
    proto::{
        self, api_key_service_client::ApiKeyServiceClient,
        signing_key_service_client::SigningKeyServiceClient,
        token_service_client::TokenServiceClient,
    },
    telemetry::metrics,
};
use tokio::net::TcpStream;

use crate::{
    public_keys::get,
    slow_subscribers::{ENTRIES, unread},
    support::{
        Engine, TestDatabase, Watching, as_caller, binary::Binary, eventually, password_request,
    },
};

/// Series with their labels, and their values.
type Scraped = BTreeMap<String, f64>;

async fn scrape(server: &Binary) -> Scraped {
    let (_, body) = get(server.ops, "/metrics").await;
    let samples = body
        .lines()
        .filter(|line| line.starts_with("token_authority_"));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The declared metric that a series is of.
fn metric_of(series: &str) -> Option<&'static str> {
    let name = series.split('{').next().unwrap_or_default();
    metrics::names().find(|declared| {
        let rest = name.strip_prefix(declared);
        matches!(rest, Some("" | "_bucket" | "_sum" | "_count"))
    })
}

/// Whether no stream is open, and those of the day are counted as calls.
fn streams_are_over(scraped: &Scraped) -> bool {
    let of = |metric| {
        scraped
            .iter()
            .filter(move |(series, _)| metric_of(series) == Some(metric))
    };
    let counted = |method| of(metrics::CALLS).any(|(series, _)| series.contains(method));
    of(metrics::STREAMS).all(|(_, &open)| open == 0.0)
        && ["WatchRevocations", "WatchJwks"].into_iter().all(counted)
}

/// A bit of everything, as one caller of many would do it; `user` is nobody. Gives back what names whoever took part.
async fn a_day(server: &Binary, user: &str) -> Vec<String> {
    let admin = server.admin_token().await;
    let mut tokens = TokenServiceClient::new(server.connect().await);
    let wrong = tokens.issue_token(password_request(user, "not the password of anybody", ""));
    wrong.await.unwrap_err();
    let mut keys = ApiKeyServiceClient::new(server.connect().await);
    let created = keys.create_api_key(as_caller(
        &admin,
        proto::CreateApiKeyRequest {
            api_key: Some(proto::ApiKey {
                display_name: "metrics".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ));
    let created = created.await.unwrap().into_inner();
    let key = created.api_key.unwrap();
    let mut ids = Vec::new();
    for token in [
        &created.api_key_token,
        &created.api_key_token,
        &admin,
        "rubbish",
    ] {
        let request = proto::IntrospectTokenRequest {
            token: token.to_owned(),
            ..Default::default()
        };
        let told = tokens.introspect_token(as_caller(&admin, request)).await;
        let told = told.unwrap().into_inner().introspection.unwrap();
        ids.extend([told.token_id, told.session_id]);
    }
    let watched = proto::WatchRevocationsRequest::default();
    let watching = Watching::open_on(server.connect().await, &admin, watched);
    let mut watching = watching.await.unwrap();
    watching.message().await;
    let mut signing_keys = SigningKeyServiceClient::new(server.connect().await);
    let set = signing_keys.watch_jwks(proto::WatchJwksRequest {}).await;
    set.unwrap().into_inner().message().await.unwrap().unwrap();
    let revoked = tokens.revoke_token(proto::RevokeTokenRequest {
        token: admin,
        ..Default::default()
    });
    assert!(
        revoked
            .await
            .unwrap()
            .into_inner()
            .effect
            .unwrap()
            .effective()
    );
    // It was opened with that token. Who went away now would be counted as who gave up, or not, by the moment.
    assert!(watching.closes().await);
    ids.extend([key.user_id, key.space_id, user.to_owned()]);
    ids.retain(|id| !id.is_empty());
    assert!(ids.len() >= 6, "{ids:?}");
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_is_declared_is_filled_and_names_nobody() {
    let patience = ("TOKEN_AUTHORITY_LIMITS_FIRST_BYTE_TIMEOUT", "1s");
    let server = Binary::start(&[patience]).await;
    let _silent = TcpStream::connect(server.grpc).await.unwrap();
    let mut ids = a_day(&server, "mallory-the-first").await;
    eventually("every metric is filled, and the day is over", async || {
        let scraped = scrape(&server).await;
        let filled: BTreeSet<_> = scraped.keys().filter_map(|it| metric_of(it)).collect();
        metrics::names().all(|name| filled.contains(name)) && streams_are_over(&scraped)
    })
    .await;
    let before = scrape(&server).await;
    for series in before.keys() {
        assert!(metric_of(series).is_some(), "not declared: {series}");
    }
    ids.extend(a_day(&server, "mallory-the-second").await);
    eventually("the log's head is told", async || {
        let now = scrape(&server).await;
        let (head, applied) = (
            now["token_authority_revocation_log_head"],
            now["token_authority_revocation_log_applied"],
        );
        head > before["token_authority_revocation_log_head"] && head <= applied
    })
    .await;
    let after = scrape(&server).await;
    let fresh: Vec<_> = after
        .keys()
        .filter(|it| !before.contains_key(*it))
        .collect();
    assert!(fresh.is_empty(), "others who do the same: {fresh:?}");
    for series in after.keys() {
        let named = ids.iter().find(|id| series.contains(id.as_str()));
        assert_eq!(named, None, "{series}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_look_ups_and_sign_ins_are_counted_one_by_one() {
    let server = Binary::start(&[]).await;
    a_day(&server, "mallory").await;
    let scraped = scrape(&server).await;
    for (series, value) in [
        ("verdicts_total{kind=\"api_key\",verdict=\"active\"}", 2.0),
        ("verdicts_total{kind=\"jwt\",verdict=\"active\"}", 1.0),
        ("verdicts_total{kind=\"jwt\",verdict=\"malformed\"}", 1.0),
        ("verdicts_total{kind=\"jwt\",verdict=\"revoked\"}", 0.0),
        // The key is read once, and then it is remembered.
        (
            "cache_lookups_total{cache=\"api_key\",result=\"miss\"}",
            1.0,
        ),
        ("cache_lookups_total{cache=\"api_key\",result=\"hit\"}", 1.0),
        ("sign_ins_total{result=\"right\"}", 1.0),
        ("sign_ins_total{result=\"wrong\"}", 1.0),
        ("sign_ins_total{result=\"throttled\"}", 0.0),
        // The first password, the sign-in, and the one that was wrong.
        ("password_hashes_total", 3.0),
        ("password_hashing_queue", 0.0),
        ("revocation_effective_duration_seconds_count", 1.0),
        ("shared_commit_entries_count", 1.0),
        ("shared_commit_entries_sum", 1.0),
        ("sequencer_batch_entries_count", 0.0),
        ("lease_held", 1.0),
    ] {
        let series = format!("token_authority_{series}");
        assert_eq!(scraped.get(&series), Some(&value), "{series}: {scraped:#?}");
    }
}

async fn the_lag_of_a_stream_is_told_for_as_long_as_it_is_open(engine: Engine) {
    let Some(database) = TestDatabase::create(engine).await else {
        eprintln!("skipped: TOKEN_AUTHORITY_TEST_POSTGRES names no server");
        return;
    };
    let url = database
        .url()
        .map(|url| ("TOKEN_AUTHORITY_DATABASE_URL", url));
    let server = Binary::start(url.as_slice()).await;
    let lag = async || {
        let scraped = scrape(&server).await;
        scraped.get("token_authority_stream_lag").copied()
    };
    eventually("no stream, no lag", async || lag().await == Some(0.0)).await;
    let token = server.admin_token().await;
    // It is stuck where connection and stream hold no more: past the first of five messages, and short of the last.
    let stream = unread(&server, &token).await;
    let all = f64::from(u32::try_from(ENTRIES).unwrap());
    let mut behind = all;
    eventually("it lags", async || {
        behind = lag().await.unwrap();
        0.0 < behind && behind < all
    })
    .await;
    eprintln!("{engine:?}: {behind} of {all} entries behind");
    drop(stream);
    eventually("it is gone", async || lag().await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_of_a_stream_is_told_on_sqlite() {
    the_lag_of_a_stream_is_told_for_as_long_as_it_is_open(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_of_a_stream_is_told_on_postgres() {
    the_lag_of_a_stream_is_told_for_as_long_as_it_is_open(Engine::Postgres).await;
}

#[test]
fn the_readme_lists_every_metric() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let listed: BTreeSet<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `token_authority_")?.split('`').next())
        .collect();
    let declared: BTreeSet<&str> = metrics::names()
        .map(|name| name.strip_prefix("token_authority_").unwrap())
        .collect();
    assert_eq!(listed, declared);
}

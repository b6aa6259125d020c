//! A standby that takes over from a PostgreSQL that is lost: with another timeline, and without the end of the log where that had
//! not arrived.

use std::{sync::Arc, time::Duration};

use sqlx::{Connection as _, PgConnection};
use token_authority::proto::{
    self, RevocationEffect, WatchRevocationsRequest,
    revocation_service_client::RevocationServiceClient, revocation_subject::Subject,
    token_service_client::TokenServiceClient, watch_revocations_response::Message as Told,
};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::support::{
    At, Cluster, Dice, Load, Operator, OwnPostgres, PASSWORD, Proxy, STANDING, Watching, Weather,
    answered, as_caller, events_of, eventually, introspect, password_request, reason,
    revocation_of, span, spawn,
};

/// Entries that the standby will not have.
const LOST: usize = 20;
const CLIENTS: u64 = 6;
/// Tokens that are revoked before the failover, and as many again after it.
const REVOKED: usize = 40;
/// For longer than a lease lasts.
const BEYOND_A_LEASE: Duration = Duration::from_secs(3);

/// A primary, its standby, and what is between them.
struct Pair {
    primary: OwnPostgres,
    standby: OwnPostgres,
    way: Proxy,
}

impl Pair {
    async fn start() -> Option<Self> {
        let Some(primary) = OwnPostgres::start() else {
            eprintln!("skipped: TOKEN_AUTHORITY_TEST_POSTGRES_BIN names no folder");
            return None;
        };
        let way = Proxy::before(primary.address()).await;
        let standby = primary.standby(way.port);
        Some(Self {
            primary,
            standby,
            way,
        })
    }

    /// From now on nothing is acknowledged before the standby has it.
    async fn replicate_synchronously(&self) {
        let mut primary = connect(&self.primary).await;
        for sql in [
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        ] {
            sqlx::query(sql).execute(&mut primary).await.unwrap();
        }
        eventually("the standby is a synchronous one", async || {
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            count(&mut primary, sql).await == 1
        })
        .await;
    }

    /// Waits until the standby has all that there is, and keeps from it what follows.
    async fn lose_what_follows(&self) {
        let mut primary = connect(&self.primary).await;
        let mut standby = connect(&self.standby).await;
        let sql = "SELECT pg_current_wal_flush_lsn()::text";
        let there: String = sqlx::query_scalar(sql)
            .fetch_one(&mut primary)
            .await
            .unwrap();
        eventually("the standby has it, too", async || {
            let sql = "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn";
            let has = sqlx::query_scalar(sql).bind(&there);
            has.fetch_one(&mut standby).await.unwrap()
        })
        .await;
        self.way.set(Weather::Cut);
        eventually("nothing is sent to the standby any more", async || {
            count(&mut primary, "SELECT count(*) FROM pg_stat_replication").await == 0
        })
        .await;
    }

    /// The primary is lost, the standby takes over, and the servers' connections end up there.
    fn fail_over(&self, cluster: &Cluster) {
        self.primary.crash();
        for slot in &cluster.slots {
            slot.proxy.lead_to(self.standby.address());
        }
        self.standby.promote();
    }
}

async fn connect(server: &OwnPostgres) -> PgConnection {
    let database = server.database();
    PgConnection::connect(database.url().unwrap())
        .await
        .unwrap()
}

async fn count(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn sign_in(at: &At, username: &str) -> proto::IssuedToken {
    let mut client = TokenServiceClient::new(at.channel.clone());
    let issued = answered(async || {
        let request = password_request(username, PASSWORD, "");
        client.issue_token(request).await
    });
    issued.await.unwrap().into_inner().token.unwrap()
}

/// Revokes until nobody can call it good any more.
async fn revoke(at: &At, admin: &str, subject: Subject) -> RevocationEffect {
    let mut client = RevocationServiceClient::new(at.channel.clone());
    loop {
        let revoked = answered(async || {
            let request = revocation_of(subject.clone(), "acme");
            client.create_revocation(as_caller(admin, request)).await
        });
        let effect = revoked.await.unwrap().into_inner().effect.unwrap();
        if effect.effective() {
            return effect;
        }
    }
}

async fn is_active(at: &At, admin: &str, token: &str) -> bool {
    let told = answered(async || introspect(at.clone(), admin, token).await).await;
    told.unwrap().into_inner().introspection.unwrap().active()
}

fn session(token: &proto::IssuedToken) -> Subject {
    Subject::SessionId(token.session_id.clone())
}

fn ann() -> Subject {
    Subject::UserId("ann".to_owned())
}

fn after(cursor: &str) -> WatchRevocationsRequest {
    WatchRevocationsRequest {
        start_cursor: cursor.to_owned(),
        ..Default::default()
    }
}

/// Servers over the primary, a JWT of `admin`, and a user `ann` of the space `acme`.
async fn servers_over(pair: &Pair) -> (Cluster, String) {
    let cluster = Cluster::start(pair.primary.database()).await;
    let admin = cluster.admin().await;
    let operator = Operator::at(cluster.running().remove(0).channel, &admin);
    let acme = operator.space("acme").await;
    operator.user(&acme, "ann", PASSWORD).await;
    (cluster, admin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_that_lost_the_end_of_the_log_no_token_outranks_what_is_revoked() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (cluster, admin) = servers_over(&pair).await;
    let servers = cluster.running();
    let [a, b, c] = &servers[..] else {
        panic!("three run")
    };
    let (early, dead) = (sign_in(a, "ann").await, sign_in(b, "ann").await);
    revoke(a, &admin, session(&dead)).await;
    pair.lose_what_follows().await;

    let forgotten = sign_in(c, "ann").await;
    revoke(b, &admin, session(&forgotten)).await;
    for number in 0..LOST {
        let lost = Subject::SessionId(format!("lost-{number}"));
        revoke(&servers[number % 3], &admin, lost).await;
    }
    let lost = revoke(a, &admin, ann()).await;
    // As high as a token can be.
    let high = sign_in(c, "ann").await;
    assert!(is_active(b, &admin, &high.access_token).await);
    let (watching, told) = watched(b, &admin, lost.position).await;
    let cursor = &told.last().unwrap().cursor;

    pair.fail_over(&cluster);
    let begun = Instant::now();
    assert!(
        is_sent_away(watching).await,
        "subscribers are told to come back"
    );
    let (again, reached) = tokio::join!(
        async {
            for at in &servers {
                let told = told_to_begin_again(at, &admin, cursor).await;
                assert!(
                    ["CURSOR_AHEAD", "CURSOR_FOREIGN"].contains(&&*told),
                    "{told}"
                );
            }
            revoke(b, &admin, ann()).await
        },
        reach(c, &admin, &lost.cursor)
    );
    eprintln!("effective again {:.0?} after the failover", begun.elapsed());
    assert!(again.position > lost.position + (1 << 31));
    let refused = reached.unwrap_err();
    assert_eq!(
        reason(&refused),
        "CURSOR_FOREIGN",
        "what was lost is not reached"
    );
    for at in &servers {
        for token in [&early, &dead, &forgotten, &high] {
            let is_active = is_active(at, &admin, &token.access_token).await;
            assert!(!is_active, "revoked and active at {}", at.name);
        }
        assert!(is_active(at, &admin, &admin).await);
        let told = told_to_begin_again(at, &admin, cursor).await;
        assert_eq!(told, "CURSOR_FOREIGN");
        let (_, told) = watched(at, &admin, again.position).await;
        assert_is_the_log_without_its_end(&told, &dead);
    }
    let new = sign_in(a, "ann").await;
    for at in &servers {
        assert!(is_active(at, &admin, &new.access_token).await);
    }
}

/// A stream from the oldest entry on, and what it has told up to a place; begun again where a server that stood still ends it.
async fn watched(
    at: &At,
    admin: &str,
    position: u64,
) -> (Watching, Vec<proto::WatchRevocationsResponse>) {
    let mut watched = None;
    eventually("all is told", async || {
        let opened = answered(async || {
            let channel = at.channel.clone();
            Watching::open_on(channel, admin, after("")).await
        });
        let mut watching = opened.await.unwrap();
        let mut told: Vec<proto::WatchRevocationsResponse> = Vec::new();
        while told.last().is_none_or(|last| last.position < position) {
            match watching.next().await {
                Ok(Some(message)) => told.push(message),
                Ok(None) => return false,
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                    return false;
                }
            }
        }
        watched = Some((watching, told));
        true
    })
    .await;
    watched.unwrap()
}

/// Reads a stream to its end, and says whether its subscriber knows then to come back: by the last message, or by UNAVAILABLE
/// where the server stood still for so long that it may tell nothing.
async fn is_sent_away(mut watching: Watching) -> bool {
    let reading = async {
        let mut closing = false;
        loop {
            match watching.next().await {
                Ok(Some(last)) => closing = matches!(last.message, Some(Told::Closing(_))),
                Ok(None) => return closing,
                Err(status) => return status.code() == Code::Unavailable,
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_mins(1), reading).await;
    end.expect("the end of the stream")
}

/// Why a stream cannot be resumed, once that is known.
async fn told_to_begin_again(at: &At, admin: &str, cursor: &str) -> String {
    let mut client = RevocationServiceClient::new(at.channel.clone());
    let resumed = answered(async || {
        let request = as_caller(admin, after(cursor));
        client.watch_revocations(request).await
    });
    let refused = resumed.await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    reason(&refused)
}

/// What comes of asking with a cursor until that is answered or refused.
async fn reach(at: &At, admin: &str, min_cursor: &str) -> Result<(), Status> {
    let mut client = TokenServiceClient::new(at.channel.clone());
    let told = answered(async || {
        let request = proto::IntrospectTokenRequest {
            token: admin.to_owned(),
            min_cursor: min_cursor.to_owned(),
            ..Default::default()
        };
        client.introspect_token(as_caller(admin, request)).await
    });
    told.await.map(drop)
}

fn assert_is_the_log_without_its_end(
    told: &[proto::WatchRevocationsResponse],
    dead: &proto::IssuedToken,
) {
    let events = events_of(told);
    let is_told = |wanted: &Subject| {
        let mut subjects = events.iter().filter_map(|event| event.subject.as_ref());
        subjects.any(|subject| subject.subject.as_ref() == Some(wanted))
    };
    assert!(is_told(&session(dead)), "what the standby had");
    let lost = Subject::SessionId("lost-0".to_owned());
    assert!(!is_told(&lost), "something was lost, or nothing is shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_token_that_is_ahead_of_what_a_failover_left_of_the_log_is_never_called_inactive() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (cluster, admin) = servers_over(&pair).await;
    let servers = cluster.running();
    pair.lose_what_follows().await;
    for number in 0..LOST {
        let lost = Subject::SessionId(format!("lost-{number}"));
        revoke(&servers[number % 3], &admin, lost).await;
    }
    let high = sign_in(&servers[0], "ann").await.access_token;
    for at in &servers {
        assert!(is_active(at, &admin, &high).await);
    }

    pair.fail_over(&cluster);
    let (mut active, mut unavailable) = (0, 0);
    let until = Instant::now() + 2 * BEYOND_A_LEASE;
    while Instant::now() < until {
        for at in &servers {
            match introspect(at.clone(), &admin, &high).await {
                Ok(told) => {
                    let verdict = told.into_inner().introspection.unwrap();
                    assert!(verdict.active(), "inactive at {}", at.name);
                    active += 1;
                }
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                    unavailable += 1;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eprintln!("{active} times active, {unavailable} times unavailable");
    for at in &servers {
        assert!(is_active(at, &admin, &high).await);
    }
}

/// It joined after the last that the standby was sent: nobody knows there that it may answer from memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_lease_was_lost_in_a_failover_calls_nothing_good_that_others_revoke() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (cluster, admin) = servers_over(&pair).await;
    let a = cluster.running().remove(0);
    let token = sign_in(&a, "ann").await;
    pair.lose_what_follows().await;
    let slot = &cluster.slots[STANDING];
    slot.start().await;
    let forgotten = slot.at().unwrap();
    assert!(is_active(&forgotten, &admin, &token.access_token).await);

    // It hears nothing of what follows, and answers from memory for as long as it may.
    slot.proxy.set(Weather::Silent);
    let begun = Instant::now();
    pair.fail_over(&cluster);
    revoke(&a, &admin, session(&token)).await;
    eprintln!("effective {:.0?} after the primary's end", begun.elapsed());
    let until = Instant::now() + BEYOND_A_LEASE;
    while Instant::now() < until {
        match introspect(forgotten.clone(), &admin, &token.access_token).await {
            Ok(told) => {
                let verdict = told.into_inner().introspection.unwrap();
                assert!(!verdict.active(), "revoked and active");
            }
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// It has its place and waits for the other servers when the primary is lost, and it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_a_failover_loses_is_not_called_effective() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (cluster, admin) = servers_over(&pair).await;
    let servers = cluster.running();
    let token = sign_in(&servers[0], "ann").await;
    pair.lose_what_follows().await;
    let mut primary = connect(&pair.primary).await;
    let entries = "SELECT count(*) FROM revocation_log";
    let before = count(&mut primary, entries).await;
    // Nobody can say how far the log is applied, and nobody's lease can be taken away.
    let mut holding = primary.begin().await.unwrap();
    let hold = sqlx::query("SELECT FROM replica_leases FOR UPDATE");
    hold.execute(&mut *holding).await.unwrap();
    let request = proto::CreateRevocationRequest {
        wait: span(20),
        ..revocation_of(session(&token), "acme")
    };
    let mut client = RevocationServiceClient::new(servers[0].channel.clone());
    let revoking = client.create_revocation(as_caller(&admin, request));
    let losing = async {
        let mut looking = connect(&pair.primary).await;
        eventually("it has its place", async || {
            count(&mut looking, entries).await > before
        })
        .await;
        pair.fail_over(&cluster);
    };
    let (revoked, ()) = tokio::join!(revoking, losing);
    let effect = revoked.unwrap().into_inner().effect.unwrap();
    assert_eq!(effect.effective, Some(false), "{effect:?}");
    let refused = reach(&servers[0], &admin, &effect.cursor).await;
    assert_eq!(reason(&refused.unwrap_err()), "CURSOR_FOREIGN");
    assert!(is_active(&servers[1], &admin, &token.access_token).await);
    revoke(&servers[0], &admin, session(&token)).await;
    for at in &servers {
        assert!(!is_active(at, &admin, &token.access_token).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_nothing_that_was_acknowledged() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    pair.replicate_synchronously().await;
    let load = Load::on(Cluster::start(pair.primary.database()).await).await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| spawn(Arc::clone(&load).go_on(Dice::seeded(number))))
        .collect();
    let eventually_revoked = async |count| {
        eventually("tokens are revoked", async || {
            load.outcome().dead.len() >= count
        })
        .await;
    };
    eventually_revoked(REVOKED).await;
    pair.fail_over(&load.cluster);
    let before = load.outcome().dead.len();
    eventually_revoked(before + REVOKED).await;
    load.stop.cancel();
    for client in clients {
        client.await.unwrap();
    }
    let dead = std::mem::take(&mut load.outcome().dead);
    for at in load.cluster.running() {
        for (token, _) in &dead {
            let is_active = is_active(&at, &load.admin, token).await;
            assert!(!is_active, "revoked and active at {}", at.name);
        }
    }
    let mut standby = connect(&pair.standby).await;
    let places: Vec<i64> = dead
        .iter()
        .map(|(_, place)| i64::try_from(*place).unwrap())
        .collect();
    let sql = "SELECT count(*) FROM revocation_log WHERE position = ANY($1)";
    let kept: i64 = sqlx::query_scalar(sql)
        .bind(&places)
        .fetch_one(&mut standby)
        .await
        .unwrap();
    assert_eq!(kept, i64::try_from(places.len()).unwrap());
    let outcome = load.outcome();
    eprintln!(
        "{before} tokens were revoked before the failover and {} after it; {} calls, {} of them retried",
        places.len() - before,
        outcome.calls,
        outcome.retries,
    );
    assert_eq!(outcome.unexpected, [""; 0]);
    assert!(outcome.retries > 0);
}

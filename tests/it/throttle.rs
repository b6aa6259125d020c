//! Guessing passwords gets slower the longer it goes on, whether or not there is somebody of the name, and harms nobody's tokens.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Statement};
use sqlx::Connection as _;
use token_authority::{
    authority::{directory, forgetting},
    clock::Clock,
    domain::{ids::Username, password::Password},
    proto::{self, token_service_client::TokenServiceClient},
};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{
    Count, Engine, PASSWORD, Process, Server, TestDatabase, as_caller, binary::Binary, both,
    password_request, reason, refused, soon, spawn,
};

const WRONG: &str = "not the right one, by far";
/// Longer than any pause but the last.
const PAUSE: Duration = Duration::from_secs(10);

async fn attempt(server: &Server, name: &str, password: &str) -> Result<(), Status> {
    server
        .issue(password_request(name, password, ""))
        .await
        .map(drop)
}

async fn fails(server: &Server, name: &str) {
    let answer = attempt(server, name, WRONG).await;
    refused(answer, Code::Unauthenticated, "CREDENTIALS_INVALID");
}

/// For how long an attempt is told to stay away. It costs no hash, whatever the password.
async fn throttled(server: &Server, name: &str, password: &str) -> Duration {
    let hashes = server.authority.hashing.count();
    let answer = attempt(server, name, password).await;
    let status = refused(answer, Code::ResourceExhausted, "SIGN_IN_THROTTLED");
    assert_eq!(server.authority.hashing.count(), hashes, "no hash was made");
    let retry = status.get_details_retry_info().unwrap();
    retry.retry_delay.unwrap()
}

/// Whether nothing was compared. On a slow machine it may also be that others write for longer than an attempt waits for its turn.
fn is_sent_away(status: &Status) -> bool {
    matches!(&*reason(status), "SIGN_IN_THROTTLED" | "OVERLOADED")
}

both!(
    l07_a_hundred_failures_close_a_name_for_the_day_whether_or_not_it_exists,
    async |server| {
        let tenant = server.tenant("acme").await;
        let names = [&*tenant.name("alice"), "nobody.at.all", "not a name\0"];
        for _ in 0..100 {
            for name in names {
                fails(server, name).await;
                server.clock.advance(PAUSE);
            }
        }
        let left = throttled(server, names[0], PASSWORD).await;
        assert!(left > Duration::from_hours(23), "{left:?}");
        for (name, later) in names.into_iter().zip([0, 1, 2]) {
            let left = left + PAUSE * later;
            assert_eq!(throttled(server, name, PASSWORD).await, left, "{name}");
            assert_eq!(throttled(server, name, WRONG).await, left, "{name}");
        }
        // Others sign in, and what she has goes on to count.
        attempt(server, &tenant.name("boss"), PASSWORD)
            .await
            .unwrap();
        let boss = server.token_of(&tenant.name("boss")).await;
        server.verdict(&boss, &tenant.alice_token).await.unwrap();

        server.clock.advance(left);
        attempt(server, names[0], PASSWORD).await.unwrap();
    }
);

both!(each_failure_makes_the_next_attempt_wait, async |server| {
    let tenant = server.tenant("acme").await;
    let alice = tenant.name("alice");
    let mut pauses = Vec::new();
    for _ in 0..27 {
        fails(server, &alice).await;
        let pause = throttled(server, &alice, PASSWORD).await;
        pauses.push(pause.as_secs());
        server.clock.advance(pause);
    }
    let expected = [vec![1; 2], vec![3; 6], vec![5; 16], vec![10; 3]].concat();
    assert_eq!(pauses, expected);
    // A name is counted under its one spelling.
    fails(server, &alice).await;
    throttled(server, &alice.to_uppercase(), PASSWORD).await;
    server.clock.advance(PAUSE);
    // A success is the end of it.
    attempt(server, &alice, PASSWORD).await.unwrap();
    fails(server, &alice).await;
    assert_eq!(
        throttled(server, &alice, PASSWORD).await,
        Duration::from_secs(1)
    );
});

both!(
    o05_few_attempts_at_one_name_run_beside_each_other,
    async |server| {
        let tenant = server.tenant("acme").await;
        for (name, password) in [("nobody.at.all", WRONG), (&*tenant.name("alice"), WRONG)] {
            let hashes = server.authority.hashing.count();
            let mut attempts = Vec::new();
            for _ in 0..100 {
                let mut tokens = server.tokens().await;
                let request = password_request(name, password, "");
                attempts.push(spawn(async move { tokens.issue_token(request).await }));
            }
            let mut sent_away = 0;
            for attempt in attempts {
                let status = attempt.await.unwrap().unwrap_err();
                sent_away += u64::from(is_sent_away(&status));
            }
            let compared = server.authority.hashing.count() - hashes;
            assert!((1..=5).contains(&compared), "{name}: {compared} compared");
            assert_eq!(sent_away, 100 - compared);
            // Whoever comes when nobody else does is told why.
            throttled(server, name, WRONG).await;
        }
    }
);

both!(
    l10_ones_own_success_buys_no_guesses_at_others,
    async |server| {
        let tenant = server.tenant("acme").await;
        // One failure at each of ten names makes the whole network wait; so it does with successes in between.
        for number in 0..10 {
            fails(server, &format!("victim.{number}")).await;
            if number < 9 {
                attempt(server, &tenant.name("boss"), PASSWORD)
                    .await
                    .unwrap();
            }
        }
        let pause = throttled(server, "victim.10", WRONG).await;
        assert_eq!(pause, Duration::from_secs(1));
        throttled(server, &tenant.name("boss"), PASSWORD).await;
        // L12: whoever names another address is not believed.
        let mut request = Request::new(password_request("victim.10", WRONG, ""));
        for header in ["x-forwarded-for", "x-real-ip", "forwarded"] {
            let claimed = "203.0.113.9".parse().unwrap();
            request.metadata_mut().insert(header, claimed);
        }
        let claimed = server.tokens().await.issue_token(request).await;
        refused(claimed, Code::ResourceExhausted, "SIGN_IN_THROTTLED");
        server.clock.advance(pause);
        attempt(server, &tenant.name("boss"), PASSWORD)
            .await
            .unwrap();
    }
);

both!(setting_a_password_lifts_the_throttle, async |server| {
    let tenant = server.tenant("acme").await;
    let alice = tenant.name("alice");
    let operator = server.operator().await;
    fails(server, &alice).await;
    throttled(server, &alice, PASSWORD).await;
    let new = "ein ganz neues Wort im Juni";
    operator.set_password(&tenant.alice, new).await;
    attempt(server, &alice, new).await.unwrap();

    fails(server, &alice).await;
    throttled(server, &alice, new).await;
    let username = Username::parse(&alice, "username").unwrap();
    let password = Password::chosen(PASSWORD.to_owned(), &username, "password").unwrap();
    let recovered = directory::passwords::recover;
    recovered(&server.authority, &tenant.alice, &password, soon())
        .await
        .unwrap();
    attempt(server, &alice, PASSWORD).await.unwrap();
});

both!(
    l15_a_wrong_current_password_counts_like_a_failed_sign_in,
    async |server| {
        let tenant = server.tenant("acme").await;
        let alice = tenant.name("alice");
        let change = async |current: &str| {
            let request = proto::ChangePasswordRequest {
                current_password: current.to_owned(),
                new_password: "ein ganz neues Wort im Juni".to_owned(),
            };
            let mut users = server.operator().await.users();
            users
                .change_password(as_caller(&tenant.alice_token, request))
                .await
        };
        refused(
            change(WRONG).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        refused(
            change(PASSWORD).await,
            Code::ResourceExhausted,
            "SIGN_IN_THROTTLED",
        );
        throttled(server, &alice, PASSWORD).await;
        server.clock.advance(PAUSE);
        change(PASSWORD).await.unwrap();
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l09_failures_are_remembered_over_a_restart() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(database) = TestDatabase::create(engine).await else {
            continue;
        };
        let server = Server::start(database).await;
        fails(&server, "admin").await;
        let clock = server.clock.clone();
        let (database, data) = server.stop().await;
        let server = Server::start_in(database, data, clock, |_| {}).await;
        throttled(&server, "admin", &server.admin_password).await;
        server.clock.advance(PAUSE);
        attempt(&server, "admin", &server.admin_password)
            .await
            .unwrap();
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l09_failures_are_remembered_after_a_kill() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(database) = TestDatabase::create(engine).await else {
            continue;
        };
        let data = tempfile::tempdir().unwrap();
        let process = Process::start_at_last(&database, data.path(), &[]).await;
        let mut tokens = process.tokens().await;
        // It stands from here on: the pause has not passed when the next server starts, however long the attempt takes.
        let clock = Clock::set_to(Clock::system().now());
        let wrong = tokens.issue_token(password_request("admin", WRONG, ""));
        refused(wrong.await, Code::Unauthenticated, "CREDENTIALS_INVALID");
        process.kill();
        let server = Server::start_in(database, data, clock, |_| {}).await;
        let pause = throttled(&server, "admin", &server.admin_password).await;
        server.clock.advance(pause);
        attempt(&server, "admin", &server.admin_password)
            .await
            .unwrap();
        server.stop().await;
    }
}

/// How many names and networks are counted.
async fn counted(server: &Server) -> i64 {
    let db = server.authority.db.reader();
    let sql = "SELECT COUNT(*) FROM sign_in_failures";
    let rows = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql));
    rows.await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

both!(
    l14_a_name_is_forgotten_when_its_day_is_over,
    async |server| {
        let signed_in = counted(server).await;
        for number in 0..5 {
            fails(server, &format!("nobody.{number}")).await;
        }
        server.clock.advance(Duration::from_hours(23));
        fails(server, "nobody.of.late").await;
        forgetting::forget(&server.authority).await.unwrap();
        let all = counted(server).await;
        assert!(all >= signed_in + 6, "{all} are counted");
        server.clock.advance(Duration::from_secs(3_601));
        forgetting::forget(&server.authority).await.unwrap();
        assert_eq!(counted(server).await, 1, "the last one");
        fails(server, "nobody.0").await;
    }
);

/// Tries a password under names that nobody bears; how many of them were compared.
async fn guess(
    mut tokens: TokenServiceClient<Channel>,
    names: impl Iterator<Item = usize>,
) -> usize {
    let mut compared = 0;
    for number in names {
        let name = format!("nobody.of.that.name.{number:0>40}");
        let answer = tokens.issue_token(password_request(&name, WRONG, "")).await;
        let status = answer.unwrap_err();
        match &*reason(&status) {
            "CREDENTIALS_INVALID" => compared += 1,
            other => assert!(is_sent_away(&status), "{other}"),
        }
    }
    compared
}

/// Names that nobody bears, one after the other from one network, and what they leave behind: rows of those alone that were
/// compared, and no memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l14_however_many_names_are_tried_little_is_kept_of_them() {
    const NAMES: Count = Count {
        quick: 30_000,
        full: 1_000_000,
    };
    /// What allocators may keep, whatever the number of names: less than their texts alone would take.
    const GROWTH_MAX: usize = 8 * 1024 * 1024;
    let server = Binary::start(&[]).await;
    let token = server.admin_token().await;
    let channel = server.connect().await;
    let tried = async |names: std::ops::Range<usize>| {
        let guessers = (0..16).map(|place| {
            let names = names.clone().skip(place).step_by(16);
            spawn(guess(TokenServiceClient::new(channel.clone()), names))
        });
        let mut compared = 0;
        for guesser in guessers.collect::<Vec<_>>() {
            compared += guesser.await.unwrap();
        }
        compared
    };
    let (some, all) = (NAMES.get() / 10, NAMES.get());
    let mut compared = tried(0..some).await;
    let warm = server.memory();
    compared += tried(some..all).await;
    let now = server.memory();
    println!("{all} names, {compared} of them compared: from {warm} to {now} bytes");
    assert!(compared < all / 10, "{compared} were compared");
    assert!(
        now <= warm + GROWTH_MAX,
        "memory grew from {warm} to {now} bytes"
    );
    server.survives(&token).await;
    server.terminate();
    let (status, log, data) = server.ended().await;
    assert!(status.success(), "{log}");
    let file = data.path().join("token-authority.db");
    let url = format!("sqlite://{}", file.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sign_in_failures")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    // And of the network, and of admin, who signed in.
    assert!(
        usize::try_from(rows).unwrap() <= compared + 2,
        "{rows} rows of {compared}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_trusted_is_not_counted() {
    let database = TestDatabase::create(Engine::Sqlite).await.unwrap();
    let server = Server::start(database).await;
    let clock = server.clock.clone();
    let (database, data) = server.stop().await;
    let server = Server::start_in(database, data, clock, |settings| {
        settings.sign_in.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    for number in 0..12 {
        fails(&server, &format!("victim.{number}")).await;
    }
    throttled(&server, "victim.0", WRONG).await;
    server.stop().await;
}

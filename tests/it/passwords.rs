//! What a failed sign-in gives away, and what counts as the same password.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Statement};
use token_authority::{
    domain::{
        ids::{UserId, Username},
        password::Password,
    },
    proto,
};
use tonic::Code;

use crate::support::{
    Engine, Operator, PASSWORD, Server, TestDatabase, as_caller, both, fields, password_request,
    refused, spawn,
};

/// All that a client sees of a failure, but for the id of the request.
async fn failure(
    server: &Server,
    username: &str,
    password: &str,
) -> (String, Vec<u8>, Vec<String>, u64) {
    let hashes = server.authority.hashing.count();
    let answer = server.issue(password_request(username, password, "")).await;
    let status = refused(answer, Code::Unauthenticated, "CREDENTIALS_INVALID");
    let mut trailers: Vec<String> = status
        .metadata()
        .iter()
        .map(|pair| match pair {
            tonic::metadata::KeyAndValueRef::Ascii(name, value) => {
                let told = if *name == "x-request-id" || *name == "date" {
                    ""
                } else {
                    value.to_str().unwrap()
                };
                format!("{name}: {told} {}", value.len())
            }
            tonic::metadata::KeyAndValueRef::Binary(name, value) => format!("{name}: {value:?}"),
        })
        .collect();
    trailers.sort_unstable();
    let work = server.authority.hashing.count() - hashes;
    // Longer than the throttle asks for after as many failures as there are here.
    server.clock.advance(Duration::from_secs(10));
    (
        status.message().to_owned(),
        status.details().to_vec(),
        trailers,
        work,
    )
}

async fn user_with(server: &Server, name: &str, password: &str) {
    let system = server.system().await;
    server.operator().await.user(&system, name, password).await;
}

both!(l01_l02_no_failure_tells_what_was_wrong, async |server| {
    let tenant = server.tenant("acme").await;
    let off = server.user(&tenant.space, "off.acme").await;
    let operator = server.operator().await;
    operator.set_disabled(&off, true).await;
    operator.user(&tenant.space, "robot.acme", "").await;
    let expected = failure(server, "alice.acme", "wrong").await;
    assert_eq!(expected.3, 1, "one hash an attempt");
    let names = [
        "alice.acme",
        "nobody",
        "off.acme",
        "robot.acme",
        "",
        "\0",
        "' OR 1=1--",
        tenant.alice.as_str(),
    ];
    for name in names {
        for password in [
            "",
            "\0",
            " ",
            "\n\t",
            "wrong",
            PASSWORD,
            &format!("{PASSWORD} "),
            &"x".repeat(1_024),
        ] {
            if (name, password) != ("alice.acme", PASSWORD) {
                assert_eq!(
                    failure(server, name, password).await,
                    expected,
                    "{name:?} {password:?}"
                );
            }
        }
    }
});

both!(
    a_password_over_1024_bytes_is_refused_alike_for_all,
    async |server| {
        let tenant = server.tenant("acme").await;
        for name in [&*tenant.name("alice"), "nobody", ""] {
            for length in [1_025, 5_000, 40_000] {
                let answer = server
                    .issue(password_request(name, &"x".repeat(length), ""))
                    .await;
                let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
                assert_eq!(fields(&status), ["password.password"]);
            }
        }
    }
);

both!(a_name_is_compared_without_regard_to_case, async |server| {
    server.tenant("acme").await;
    for name in ["alice.acme", "ALICE.ACME", "Alice.Acme"] {
        server
            .issue(password_request(name, PASSWORD, ""))
            .await
            .unwrap();
    }
    for name in [" alice.acme", "alice.acme ", "alice.\u{430}cme"] {
        failure(server, name, PASSWORD).await;
    }
});

both!(l04_the_last_of_128_characters_counts, async |server| {
    let front: String = "correct horse battery staple "
        .chars()
        .cycle()
        .take(127)
        .collect();
    user_with(server, "long", &format!("{front}a")).await;
    failure(server, "long", &format!("{front}b")).await;
    failure(server, "long", &front).await;
    failure(server, "long", &format!("{front}a\0")).await;
    server
        .issue(password_request("long", &format!("{front}a"), ""))
        .await
        .unwrap();
});

both!(
    l05_both_spellings_of_an_accent_are_one_and_a_ligature_is_another,
    async |server| {
        user_with(server, "nfc", "\u{e9}clair au caf\u{e9} noir").await;
        user_with(server, "nfd", "e\u{301}clair au cafe\u{301} noir").await;
        user_with(server, "ligature", "\u{fb01}ve golden rings").await;
        for name in ["nfc", "nfd"] {
            for password in [
                "\u{e9}clair au caf\u{e9} noir",
                "e\u{301}clair au cafe\u{301} noir",
                "\u{e9}clair au cafe\u{301} noir",
            ] {
                server
                    .issue(password_request(name, password, ""))
                    .await
                    .unwrap();
            }
            failure(server, name, "eclair au cafe noir").await;
        }
        failure(server, "ligature", "five golden rings").await;
        server
            .issue(password_request("ligature", "\u{fb01}ve golden rings", ""))
            .await
            .unwrap();
    }
);

both!(l19_only_setting_a_password_is_choosy, async |server| {
    let tenant = server.tenant("acme").await;
    let username = Username::parse("alice", "username").unwrap();
    for refused in [
        "passwordpassword",
        "123456789012345",
        "i am alice and well",
        "short",
    ] {
        let chosen = Password::chosen(refused.to_owned(), &username, "password");
        assert_eq!(
            chosen.unwrap_err().violations()[0].field,
            "password",
            "{refused}"
        );
        // Presented, it is wrong like any other.
        failure(server, "alice.acme", refused).await;
    }
    let operator = server.operator().await;
    operator
        .set_password(&tenant.alice, "kalt wie Schnee im Mai")
        .await;
    failure(server, "alice.acme", PASSWORD).await;
    server
        .issue(password_request("alice.acme", "kalt wie Schnee im Mai", ""))
        .await
        .unwrap();
    assert!(
        server
            .verdict(&tenant.boss_token, &tenant.alice_token)
            .await
            .is_err(),
        "older tokens ended"
    );
});

both!(l19_a_weak_password_is_set_by_no_method, async |server| {
    let tenant = server.tenant("acme").await;
    let operator = server.operator().await;
    let mut users = operator.users();
    for weak in [
        "passwordpassword",
        "123456789012345",
        "so i am alice.acme then",
        "short",
    ] {
        let create = proto::CreateUserRequest {
            user: Some(proto::User {
                username: "new.alice.acme".to_owned(),
                space_id: "acme".to_owned(),
                ..Default::default()
            }),
            password: weak.replace("alice.acme", "new.alice.acme"),
        };
        let made = users.create_user(as_caller(&operator.token, create)).await;
        let refusal = refused(made, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&refusal), ["password"], "{weak}");
        let reset = proto::ResetPasswordRequest {
            user: tenant.alice.to_string(),
            new_password: weak.to_owned(),
            revoke_api_keys: false,
        };
        let set = users.reset_password(as_caller(&operator.token, reset));
        let refusal = refused(set.await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&refusal), ["new_password"], "{weak}");
    }
    server.token_of("alice.acme").await;
});

/// The hash of a user's password.
async fn hash_of(server: &Server, user: &UserId) -> String {
    let db = server.authority.db.reader();
    let sql = format!("SELECT password_hash FROM users WHERE user_id = '{user}'");
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql));
    row.await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// Signs in while `operator` sets a password, where the hash of the old one is to be renewed; which of the two came first is
/// the machine's choice. The password that was set is the one that counts.
async fn sign_in_beside_a_new_password(server: &Server, operator: &Operator, user: &UserId) {
    let new = "pewter lanterns over 3 lakes";
    let mut tokens = server.tokens().await;
    let signing_in = spawn(async move {
        let request = password_request("alice.acme", PASSWORD, "");
        tokens.issue_token(request).await.map(drop)
    });
    operator.set_password(user, new).await;
    if let Err(status) = signing_in.await.unwrap() {
        refused::<()>(Err(status), Code::Unauthenticated, "CREDENTIALS_INVALID");
    }
    server.clock.advance(Duration::from_secs(10));
    failure(server, "alice.acme", PASSWORD).await;
    server.sign_in("alice.acme", new, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l17_a_sign_in_renews_a_hash_that_became_too_weak() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(database) = TestDatabase::create(engine).await else {
            continue;
        };
        let server = Server::start(database).await;
        let tenant = server.tenant("acme").await;
        let weak = hash_of(&server, &tenant.alice).await;
        assert!(weak.contains("t=2"), "{weak}");
        let clock = server.clock.clone();
        let (database, data) = server.stop().await;
        let server = Server::start_in(database, data, clock, |settings| {
            settings.argon2.iterations = 3;
        })
        .await;

        failure(&server, "alice.acme", "wrong").await;
        assert_eq!(hash_of(&server, &tenant.alice).await, weak);
        // Each of these finds the weak one, and the first to renew it is the only one.
        let mut attempts = Vec::new();
        for _ in 0..5 {
            let mut tokens = server.tokens().await;
            let request = password_request("alice.acme", PASSWORD, "");
            attempts.push(spawn(async move { tokens.issue_token(request).await }));
        }
        for attempt in attempts {
            attempt.await.unwrap().unwrap();
        }
        let renewed = hash_of(&server, &tenant.alice).await;
        assert!(renewed.contains("t=3"), "{renewed}");
        let hashes = server.authority.hashing.count();
        server.token_of("alice.acme").await;
        assert_eq!(server.authority.hashing.count(), hashes + 1, "not again");
        assert_eq!(hash_of(&server, &tenant.alice).await, renewed);
        // It is the same password: what she has goes on to count.
        let verdict = server.verdict(&tenant.boss_token, &tenant.alice_token);
        verdict.await.unwrap();

        let operator = server.operator().await;
        for _ in 0..6 {
            let again = format!(
                "UPDATE users SET password_hash = '{weak}' WHERE user_id = '{}'",
                tenant.alice
            );
            server.sql(&again).await;
            sign_in_beside_a_new_password(&server, &operator, &tenant.alice).await;
        }
        server.stop().await;
    }
}

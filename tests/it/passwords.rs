//! What a failed sign-in gives away, and what counts as the same password.

use std::time::Duration;

use token_authority::domain::{ids::Username, password::Password};
use tonic::Code;

use crate::support::{PASSWORD, Server, both, fields, password_request, refused};

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

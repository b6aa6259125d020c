//! Signing in with a password.

use std::time::Duration;

use tonic::Code;

use crate::support::{both, password_request, reason};

both!(an_admin_signs_in_and_the_token_is_active, async |server| {
    let token = server.admin().await;
    assert_eq!(token.token_type, "Bearer");
    let told = server
        .introspect(&token.access_token, &token.access_token)
        .await;
    assert_eq!(told.active, Some(true));
    assert_eq!(told.session_id, token.session_id);
});

both!(every_failure_looks_alike, async |server| {
    let mut answers = Vec::new();
    for (name, password) in [
        ("admin", "wrong"),
        ("nobody", "wrong"),
        ("", ""),
        ("admin", ""),
        ("not a name\u{0}", "\u{0}"),
    ] {
        // The throttle is another test's.
        server.clock.advance(Duration::from_secs(10));
        let hashes = server.authority.hashing.count();
        let status = server
            .tokens()
            .await
            .issue_token(password_request(name, password, ""))
            .await
            .unwrap_err();
        assert_eq!(
            server.authority.hashing.count(),
            hashes + 1,
            "one hash an attempt"
        );
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(reason(&status), "CREDENTIALS_INVALID");
        answers.push((status.message().to_owned(), status.details().to_vec()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
});

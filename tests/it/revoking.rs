//! Revocation by reference: who may, what is refused, and what a retry is told.

use token_authority::proto::{
    self, RevocationReason, RevocationSubject, revocation_subject::Subject,
};
use tonic::{Code, Response, Status};

use crate::support::{PASSWORD, Server, as_caller, both, reason, revocation_of, span};

async fn create(
    server: &Server,
    caller: &str,
    request: proto::CreateRevocationRequest,
) -> Result<proto::CreateRevocationResponse, Status> {
    let mut revocations = server.revocations().await;
    revocations
        .create_revocation(as_caller(caller, request))
        .await
        .map(Response::into_inner)
}

/// How many entries the log has.
async fn entries(server: &Server) -> u64 {
    server.authority.log.catch_up().await.unwrap().position.0
}

fn session(id: &str) -> Subject {
    Subject::SessionId(id.to_owned())
}

both!(the_entry_says_what_was_decided, async |server| {
    let admin = server.admin().await.access_token;
    let acme = server.space("acme").await;
    let user = server.user(&acme, "ann").await;
    let before = entries(server).await;
    let request = proto::CreateRevocationRequest {
        reason: RevocationReason::Compromised.into(),
        comment: "seen on a forum".to_owned(),
        ..revocation_of(Subject::UserId("ann".to_owned()), "acme")
    };
    let created = create(server, &admin, request).await.unwrap();
    let (event, effect) = (created.event.unwrap(), created.effect.unwrap());
    let subject = event.subject.unwrap().subject.unwrap();
    assert_eq!(subject, Subject::UserId(user.to_string()));
    assert_eq!(event.space_id, acme.as_str());
    assert_eq!(event.position, before + 1);
    assert_eq!(event.reason, i32::from(RevocationReason::Compromised));
    assert_eq!(effect.position, event.position);
    assert_eq!(effect.commit_time, event.create_time);
    assert_eq!((effect.replicas_applied, effect.replicas_total), (1, 1));
    let kept = event.forget_time.unwrap().seconds - event.create_time.unwrap().seconds;
    assert_eq!(kept, 25 * 60 * 60);
});

both!(
    what_makes_no_sense_is_refused_field_by_field,
    async |server| {
        let admin = server.admin().await.access_token;
        let acme = server.space("acme").await;
        let user = server.user(&acme, "ann").await;
        let key = server.api_key(&admin, &acme, &user, &[]).await;
        let key = key.api_key.unwrap().api_key_id;
        let none = proto::CreateRevocationRequest::default();
        let good = revocation_of(session("s"), "acme");
        let moment = Some(prost_types::Timestamp::default());
        let empty = RevocationSubject { subject: None };
        let cases = [
            ("no subject", none.clone()),
            (
                "an empty subject",
                proto::CreateRevocationRequest {
                    subject: Some(empty),
                    ..none
                },
            ),
            ("an empty id", revocation_of(session(""), "acme")),
            (
                "an id with a space in it",
                revocation_of(session("a b"), "acme"),
            ),
            (
                "an id that is too long",
                revocation_of(session(&"a".repeat(129)), "acme"),
            ),
            ("everything", revocation_of(Subject::Everything(true), "")),
            (
                "a role's name that is none",
                revocation_of(Subject::Role("ROOT ".to_owned()), "acme"),
            ),
            (
                "a space beside a key",
                revocation_of(Subject::ApiKeyId(key), "acme"),
            ),
            (
                "a space beside a space",
                revocation_of(Subject::SpaceId(acme.to_string()), "acme"),
            ),
            ("a session of every space", revocation_of(session("s"), "*")),
            (
                "a role of every space",
                revocation_of(Subject::Role("admin".to_owned()), "*"),
            ),
            (
                "a spared session of a session",
                proto::CreateRevocationRequest {
                    sessions_until: moment,
                    ..good.clone()
                },
            ),
            (
                "a comment that is too long",
                proto::CreateRevocationRequest {
                    comment: "é".repeat(513),
                    ..good.clone()
                },
            ),
            (
                "a wait below nothing",
                proto::CreateRevocationRequest {
                    wait: span(-1),
                    ..good.clone()
                },
            ),
            (
                "a wait beyond 30 seconds",
                proto::CreateRevocationRequest {
                    wait: span(31),
                    ..good.clone()
                },
            ),
            (
                "a key that is no UUID",
                proto::CreateRevocationRequest {
                    idempotency_key: "once".to_owned(),
                    ..good
                },
            ),
        ];
        let before = entries(server).await;
        for (what, request) in cases {
            let status = create(server, &admin, request).await.expect_err(what);
            assert_eq!(status.code(), Code::InvalidArgument, "{what}");
            assert_eq!(reason(&status), "FIELD_INVALID", "{what}");
        }
        assert_eq!(entries(server).await, before, "nothing was revoked");
    }
);

both!(a_comment_of_512_characters_is_taken, async |server| {
    let admin = server.admin().await.access_token;
    let request = proto::CreateRevocationRequest {
        comment: "é".repeat(512),
        ..revocation_of(session("s"), "")
    };
    create(server, &admin, request).await.unwrap();
});

both!(what_is_not_there_or_not_seen_is_not_found, async |server| {
    let admin = server.admin().await.access_token;
    let (acme, other) = (server.space("acme").await, server.space("other").await);
    let ann = server.user(&acme, "ann").await;
    server.assign(&acme, &ann, "admin").await;
    let bob = server.user(&other, "bob").await;
    server.role(&other, "reader", &["demo.read"]).await;
    let key = server.api_key(&admin, &other, &bob, &[]).await;
    let key = key.api_key.unwrap().api_key_id;
    let of_acme = server.sign_in("ann", PASSWORD, "").await.access_token;
    let user = |id: &str| Subject::UserId(id.to_owned());
    let cases = [
        (&admin, user("nobody"), "acme"),
        (&admin, user("nobody"), "*"),
        (&admin, user(bob.as_str()), "acme"),
        (&admin, user(ann.as_str()), "nowhere"),
        (&admin, Subject::Role("reader".to_owned()), "acme"),
        (&admin, Subject::ApiKeyId("0000000000000000".to_owned()), ""),
        (&admin, Subject::ApiKeyId("no key".to_owned()), ""),
        (&admin, Subject::SpaceId("nowhere".to_owned()), ""),
        (&of_acme, user(bob.as_str()), ""),
        (&of_acme, user(bob.as_str()), "other"),
        (&of_acme, session("s"), "other"),
        (&of_acme, session("s"), "system"),
        (&of_acme, Subject::Role("reader".to_owned()), "other"),
        (&of_acme, Subject::ApiKeyId(key), ""),
        (&of_acme, Subject::SpaceId(other.to_string()), ""),
        (&of_acme, Subject::SpaceId("other".to_owned()), ""),
    ];
    let before = entries(server).await;
    for (caller, subject, space) in cases {
        let what = format!("{subject:?} in {space:?}");
        let request = revocation_of(subject, space);
        let status = create(server, caller, request).await.expect_err(&what);
        assert_eq!(status.code(), Code::NotFound, "{what}");
        assert_eq!(reason(&status), "RESOURCE_NOT_FOUND", "{what}");
    }
    assert_eq!(entries(server).await, before, "nothing was revoked");
});

both!(who_may_not_is_refused, async |server| {
    let acme = server.space("acme").await;
    let (ann, eve) = (
        server.user(&acme, "ann").await,
        server.user(&acme, "eve").await,
    );
    server.assign(&acme, &ann, "admin").await;
    server.assign(&acme, &eve, "introspector").await;
    let ann = server.sign_in("ann", PASSWORD, "").await.access_token;
    let eve = server.sign_in("eve", PASSWORD, "").await.access_token;
    for (caller, subject, space) in [
        (&eve, session("s"), ""),
        (&ann, Subject::UserId("eve".to_owned()), "*"),
    ] {
        let status = create(server, caller, revocation_of(subject, space)).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(reason(&status), "PERMISSION_MISSING");
    }
    let status = create(server, "no.such.token", revocation_of(session("s"), "")).await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
});

both!(
    a_call_that_does_not_wait_still_learns_its_place,
    async |server| {
        let admin = server.admin().await.access_token;
        for number in 0..50 {
            let request = proto::CreateRevocationRequest {
                wait: span(0),
                ..revocation_of(session(&format!("session-{number}")), "")
            };
            let created = create(server, &admin, request).await.unwrap();
            let (event, effect) = (created.event.unwrap(), created.effect.unwrap());
            assert!(effect.effective.is_some(), "always sent");
            assert!(!effect.cursor.is_empty());
            assert!(effect.position > 0);
            assert_eq!(effect.position, event.position);
        }
    }
);

both!(
    what_is_revoked_already_makes_no_second_entry,
    async |server| {
        let admin = server.admin().await.access_token;
        for subject in [session("s"), Subject::TokenId("t".to_owned())] {
            let first = create(server, &admin, revocation_of(subject.clone(), "")).await;
            let again = create(server, &admin, revocation_of(subject, "")).await;
            let (first, again) = (first.unwrap(), again.unwrap());
            assert_eq!(first.event.unwrap().event_id, again.event.unwrap().event_id);
            let (first, again) = (first.effect.unwrap(), again.effect.unwrap());
            assert_eq!(first.position, again.position);
            assert_eq!(again.effective, Some(true));
        }
    }
);

both!(
    a_retry_makes_no_second_entry_and_another_request_is_refused,
    async |server| {
        let admin = server.admin().await.access_token;
        let acme = server.space("acme").await;
        let user = server.user(&acme, "ann").await;
        let request = proto::CreateRevocationRequest {
            idempotency_key: uuid::Uuid::now_v7().to_string(),
            ..revocation_of(Subject::UserId(user.to_string()), "acme")
        };
        let before = entries(server).await;
        let first = create(server, &admin, request.clone()).await.unwrap();
        let patient = proto::CreateRevocationRequest {
            wait: span(2),
            ..request.clone()
        };
        for again in [request.clone(), patient] {
            let retry = create(server, &admin, again).await.unwrap();
            assert_eq!(retry.event, first.event);
            assert_eq!(retry.effect.as_ref().unwrap().position, before + 1);
            assert_eq!(retry.effect.unwrap().effective, Some(true));
        }
        assert_eq!(entries(server).await, before + 1);

        let other = proto::CreateRevocationRequest {
            comment: "other".to_owned(),
            ..request.clone()
        };
        let status = create(server, &admin, other).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), "IDEMPOTENCY_KEY_REUSED");

        let somebody_else = server.admin().await.access_token;
        let theirs = create(server, &somebody_else, request.clone())
            .await
            .unwrap();
        assert_eq!(
            theirs.event.unwrap().position,
            before + 2,
            "another session's key"
        );

        server
            .clock
            .advance(std::time::Duration::from_secs(10 * 60 + 1));
        let later = create(server, &admin, request).await.unwrap();
        assert_eq!(
            later.event.unwrap().position,
            before + 3,
            "later it is a new request"
        );
    }
);

both!(
    a_key_counts_for_what_was_revoked_already_too,
    async |server| {
        let admin = server.admin().await.access_token;
        let acme = server.space("acme").await;
        let user = server.user(&acme, "ann").await;
        let api_key = server.api_key(&admin, &acme, &user, &[]).await;
        let api_key = api_key.api_key.unwrap().api_key_id;
        for subject in [session("s"), Subject::ApiKeyId(api_key)] {
            let first = revocation_of(subject.clone(), "");
            let first = create(server, &admin, first).await.unwrap();
            let request = proto::CreateRevocationRequest {
                idempotency_key: uuid::Uuid::now_v7().to_string(),
                ..revocation_of(subject, "")
            };
            for _ in 0..2 {
                let again = create(server, &admin, request.clone()).await.unwrap();
                assert_eq!(again.event, first.event);
            }
            let other = proto::CreateRevocationRequest {
                subject: revocation_of(session("another"), "").subject,
                ..request
            };
            let status = create(server, &admin, other).await.unwrap_err();
            assert_eq!(reason(&status), "IDEMPOTENCY_KEY_REUSED");
        }
    }
);

both!(retries_at_once_make_one_entry, async |server| {
    let admin = server.admin().await.access_token;
    let acme = server.space("acme").await;
    let user = server.user(&acme, "ann").await;
    for _ in 0..20 {
        let before = entries(server).await;
        let request = proto::CreateRevocationRequest {
            idempotency_key: uuid::Uuid::now_v7().to_string(),
            ..revocation_of(Subject::UserId(user.to_string()), "acme")
        };
        let mut first = server.revocations().await;
        let mut second = first.clone();
        let answers = tokio::join!(
            first.create_revocation(as_caller(&admin, request.clone())),
            second.create_revocation(as_caller(&admin, request)),
        );
        let answers = [answers.0, answers.1];
        assert!(answers.iter().any(Result::is_ok));
        for status in answers.into_iter().filter_map(Result::err) {
            assert_eq!(status.code(), Code::Aborted);
        }
        assert_eq!(entries(server).await, before + 1);
    }
});

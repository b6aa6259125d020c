//! Every step that a key can take, and every step that is refused.

use serde_json::json;
use token_authority::proto::{
    self, RevocationKind, RevocationSubject, SigningAlgorithm, SigningKeyState as State,
    revocation_subject::Subject,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{DAY, NOTICE, kid_of};
use crate::{
    audit::rows,
    support::{Server, Watching, both, events_of, fields, metadata_of, minutes, refused},
};

const STATE: &str = "SIGNING_KEY_STATE";

both!(a_key_is_published_before_it_signs, async |server| {
    let admin = server.admin().await.access_token;
    let (active, prepared) = (
        server.id(&admin, State::Active).await,
        server.id(&admin, State::Prepared).await,
    );
    assert_eq!(kid_of(&admin), active);
    assert!(server.jwks().await.contains(&prepared));

    server.clock.advance(NOTICE.saturating_sub(minutes(1)));
    let early = server.activate(&admin, &prepared, false).await;
    let early = refused(early, Code::FailedPrecondition, STATE);
    let wait = early.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(wait, minutes(1));
    assert_eq!(server.id(&admin, State::Active).await, active);

    server.clock.advance(minutes(1));
    let now = server.clock.now().seconds();
    let taken = server.activate(&admin, &prepared, false).await.unwrap();
    assert_eq!(taken.state(), State::Active);
    assert_eq!(taken.activate_time.unwrap().seconds, now);
    let before = server.key_of(&admin, &active).await;
    assert_eq!(before.state(), State::Retiring);
    assert_eq!(before.retire_time.unwrap().seconds, now);
    let published_for = before.remove_time.unwrap().seconds - now;
    assert_eq!(published_for, (24 + 1) * 3600 + 5 * 60 + 30);

    let next = server.admin().await;
    assert_eq!(next.signing_key_id, prepared);
    assert_eq!(kid_of(&next.access_token), prepared);
    // There is always one that is prepared.
    let another = server.id(&admin, State::Prepared).await;
    let jwks = server.jwks().await;
    assert!(
        [&active, &prepared, &another]
            .iter()
            .all(|id| jwks.contains(*id))
    );
});

both!(force_does_not_wait, async |server| {
    let admin = server.admin().await.access_token;
    let fresh = server.prepare(&admin, SigningAlgorithm::Es256).await;
    let fresh = fresh.unwrap();
    assert_eq!(fresh.algorithm(), SigningAlgorithm::Es256);
    let id = &fresh.signing_key_id;
    let refusal = server.activate(&admin, id, false).await;
    refused(refusal, Code::FailedPrecondition, STATE);
    server.activate(&admin, id, true).await.unwrap();
    let token = server.admin().await.access_token;
    assert_eq!(kid_of(&token), *id);
    server.verdict(&admin, &token).await.unwrap();
    server.verdict(&token, &admin).await.unwrap();
});

both!(a_step_from_the_wrong_state_is_refused, async |server| {
    let admin = server.admin().await.access_token;
    let first = server.id(&admin, State::Active).await;
    let second = server.id(&admin, State::Prepared).await;
    server.clock.advance(NOTICE);
    server.activate(&admin, &second, false).await.unwrap();
    let revoked = server.id(&admin, State::Prepared).await;
    server.revoke_signing_key(&admin, &revoked).await.unwrap();

    for (id, state) in [
        (&first, "retiring"),
        (&second, "active"),
        (&revoked, "revoked"),
    ] {
        for force in [false, true] {
            let refusal = server.activate(&admin, id, force).await;
            let refusal = refused(refusal, Code::FailedPrecondition, STATE);
            assert_eq!(metadata_of(&refusal, "state"), state);
        }
    }
    server.clock.advance(DAY + DAY);
    server.rotate_keys().await;
    let admin = server.admin().await.access_token;
    assert_eq!(server.id(&admin, State::Retired).await, first);
    let refusal = server.activate(&admin, &first, true).await;
    refused(refusal, Code::FailedPrecondition, STATE);
    let refusal = server.revoke_signing_key(&admin, &first).await;
    refused(refusal, Code::FailedPrecondition, STATE);
});

both!(a_key_that_is_not_there_is_not_found, async |server| {
    let admin = server.admin().await.access_token;
    for id in [
        "A".repeat(43),
        "x".to_owned(),
        "\u{0}".repeat(43),
        "🦀".to_owned(),
    ] {
        let answer = server.activate(&admin, &id, true).await;
        let status = refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
        assert_eq!(metadata_of(&status, "resource"), "signing_key");
        let answer = server.revoke_signing_key(&admin, &id).await;
        refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
        let subject = Subject::SigningKeyId(id);
        let answer = server.revoke_by_reference(&admin, subject, "").await;
        refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let answer = server.activate(&admin, "", true).await;
    let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(fields(&status), ["signing_key_id"]);
    let mut client = server.signing_keys().await;
    let request = proto::PrepareSigningKeyRequest { algorithm: 77 };
    let answer = client.prepare_signing_key(crate::support::as_caller(&admin, request));
    let status = refused(answer.await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(fields(&status), ["algorithm"]);
});

both!(sixteen_keys_are_prepared_and_no_more, async |server| {
    let admin = server.admin().await.access_token;
    for _ in 1..16 {
        let made = server.prepare(&admin, SigningAlgorithm::Unspecified).await;
        assert_eq!(made.unwrap().algorithm(), SigningAlgorithm::Eddsa);
    }
    let refusal = server.prepare(&admin, SigningAlgorithm::Eddsa).await;
    refused(refusal, Code::FailedPrecondition, STATE);
    assert_eq!(server.ids(&admin, State::Prepared).await.len(), 16);
    // Each may be used up.
    let one = server.ids(&admin, State::Prepared).await.remove(0);
    server.revoke_signing_key(&admin, &one).await.unwrap();
    server
        .prepare(&admin, SigningAlgorithm::Eddsa)
        .await
        .unwrap();
});

/// What the log says of signing keys, oldest first.
async fn told(server: &Server, caller: &str) -> Vec<(RevocationKind, String)> {
    let mut watching = Watching::after(server, caller, "").await;
    let events = events_of(&watching.until_caught_up().await);
    events
        .into_iter()
        .map(|event| {
            assert_eq!(event.space_id, "", "of every space");
            let Some(RevocationSubject {
                subject: Some(Subject::SigningKeyId(id)),
            }) = &event.subject
            else {
                panic!("{event:?}")
            };
            (event.kind(), id.clone())
        })
        .collect()
}

both!(every_step_is_in_the_log_and_written_down, async |server| {
    let admin = server.admin().await.access_token;
    let first = server.id(&admin, State::Active).await;
    let second = server.id(&admin, State::Prepared).await;
    server.clock.advance(NOTICE);
    server.activate(&admin, &second, false).await.unwrap();
    let third = server.id(&admin, State::Prepared).await;
    server.revoke_signing_key(&admin, &second).await.unwrap();
    let admin = server.admin().await.access_token;
    assert_eq!(kid_of(&admin), third);
    let fourth = server.id(&admin, State::Prepared).await;
    let (change, kill) = (RevocationKind::Change, RevocationKind::Revocation);
    let expected = [
        (change, &first),
        (change, &second),
        (change, &third),
        (kill, &second),
        (change, &third),
        (change, &fourth),
    ];
    let expected = expected.map(|(kind, id)| (kind, id.clone()));
    assert_eq!(told(server, &admin).await, expected);
    // By then those are no longer in force.
    server.clock.advance(DAY + DAY);
    server.rotate_keys().await;
    let believed = Some(server.clock.now());
    server.authority.log.forget(believed).await.unwrap();
    let admin = server.admin().await.access_token;
    assert_eq!(told(server, &admin).await, [(change, first.clone())]);
    for (action, ids, details) in [
        (
            "signing_key.retire",
            vec![&first],
            json!({"algorithm": "EdDSA"}),
        ),
        (
            "signing_key.activate",
            vec![&second, &third],
            json!({"algorithm": "EdDSA"}),
        ),
        (
            "signing_key.prepare",
            vec![&third, &fourth],
            json!({"algorithm": "EdDSA"}),
        ),
        ("signing_key.revoke", vec![&second], json!({})),
        (
            "signing_key.remove",
            vec![&first],
            json!({"algorithm": "EdDSA"}),
        ),
    ] {
        let mut expected: Vec<_> = ids
            .into_iter()
            .map(|id| (String::new(), id.clone(), details.clone()))
            .collect();
        // Rows of one moment have no order.
        let mut written = rows(server, action).await;
        for rows in [&mut expected, &mut written] {
            rows.sort_by_key(|(_, id, _)| id.clone());
        }
        assert_eq!(written, expected, "{action}");
    }
});

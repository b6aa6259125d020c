//! A key that signs no more leaves its tokens alone; one that is revoked takes them with it, at once.

use std::{sync::Arc, time::Duration};

use token_authority::{
    domain::ids::SigningKeyId,
    proto::{
        self, InactiveReason, RevocationReason, SigningAlgorithm, SigningKeyState as State,
        revocation_subject::Subject,
    },
};
use tonic::Code;

use super::{NOTICE, kid_of};
use crate::{
    audit::rows,
    public_keys::get,
    support::{
        Engine, as_caller, both, eventually, key, metadata_of, refused, revocation_of,
        rotate_request, run_on, spawn,
    },
};

both!(a_key_that_retires_leaves_its_tokens_good, async |server| {
    let admin = server.admin().await.access_token;
    let old = server.admin().await;
    server.clock.advance(NOTICE);
    let next = server.id(&admin, State::Prepared).await;
    server.activate(&admin, &next, false).await.unwrap();
    server.verdict(&admin, &old.access_token).await.unwrap();
    // It can be carried on, and what comes of it is the new key's.
    let rotated = server.rotate(rotate_request(&old.access_token)).await;
    let rotated = rotated.unwrap().token.unwrap();
    assert_eq!(rotated.session_id, old.session_id);
    assert_eq!(kid_of(&rotated.access_token), next);
    server.verdict(&admin, &rotated.access_token).await.unwrap();
});

/// What a verdict on a token of a revoked key may be.
fn is_dead(verdict: Result<(), InactiveReason>) -> bool {
    matches!(
        verdict,
        Err(InactiveReason::Unknown | InactiveReason::Revoked)
    )
}

both!(
    tokens_of_a_revoked_key_die_in_the_very_next_introspection,
    async |server| {
        let (_, api_key) = {
            let admin = server.admin().await.access_token;
            let scopes = ["authority.tokens.introspect", "authority.tokens.explain"];
            server.made_key(&admin, key(&scopes)).await
        };
        let mut killed = Vec::new();
        for round in 0..5 {
            let admin = server.admin().await.access_token;
            let token = server.exchange(&api_key).await.access_token;
            let active = kid_of(&token);
            server.verdict(&api_key, &token).await.unwrap();
            server.verdict(&api_key, &admin).await.unwrap();
            let effect = if round % 2 == 0 {
                let answer = server.revoke_signing_key(&admin, &active).await.unwrap();
                let key = answer.signing_key.unwrap();
                assert_eq!(key.state(), State::Revoked);
                assert!(key.remove_time.is_some() && key.retire_time.is_some());
                answer.effect
            } else {
                let subject = Subject::SigningKeyId(active.clone());
                let answer = server.revoke_by_reference(&admin, subject, "").await;
                answer.unwrap().effect
            };
            assert_eq!(effect.unwrap().effective, Some(true));
            assert!(is_dead(server.verdict(&api_key, &token).await));
            assert!(is_dead(server.verdict(&api_key, &admin).await));
            let refusal = server.who(&admin).await;
            refused(refusal, Code::Unauthenticated, "CREDENTIALS_INVALID");
            let refusal = server.rotate(rotate_request(&token)).await;
            refused(refusal, Code::Unauthenticated, "CREDENTIALS_INVALID");
            // Signing goes on, with a key that is published.
            let fresh = server.exchange(&api_key).await.access_token;
            server.verdict(&api_key, &fresh).await.unwrap();
            assert_ne!(kid_of(&fresh), active);
            killed.push(active);
            let jwks = server.jwks().await;
            assert!(jwks.contains(&kid_of(&fresh)));
            assert!(killed.iter().all(|kid| !jwks.contains(kid)), "{jwks}");
            let admin = server.admin().await.access_token;
            assert_eq!(server.ids(&admin, State::Prepared).await.len(), 1);
        }
    }
);

both!(
    a_revoked_key_is_out_of_use_before_its_entry_is_applied,
    async |server| {
        let admin = server.admin().await.access_token;
        let kid = SigningKeyId::known(kid_of(&admin));
        let authority = Arc::clone(&server.authority);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (looks, mut looked) = tokio::sync::watch::channel(0);
        let watching = spawn(async move {
            let mut seen = Vec::new();
            loop {
                // The last look comes after the revocation.
                let last = *stopped.borrow();
                let position = authority.log.place().borrow().0;
                seen.push((position, authority.keyring.publishes(&kid)));
                if last {
                    return seen;
                }
                looks.send_replace(seen.len());
                tokio::task::yield_now().await;
            }
        });
        looked.wait_for(|looks| *looks >= 10).await.unwrap();
        let revoked = server.revoke_signing_key(&admin, &kid_of(&admin)).await;
        let effect = revoked.unwrap().effect.unwrap();
        stop.send_replace(true);
        let seen = watching.await.unwrap();
        // The kill is the first of the entries, the effect is of the last.
        let wrong = seen
            .iter()
            .filter(|(position, published)| *published && *position > 0);
        assert_eq!(wrong.count(), 0);
        assert!(effect.position >= 1 && seen.len() > 10, "{}", seen.len());
        assert!(seen[..10].iter().all(|(_, published)| *published));
    }
);

both!(the_oldest_prepared_key_takes_over, async |server| {
    let admin = server.admin().await.access_token;
    let oldest = server.id(&admin, State::Prepared).await;
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Eddsa] {
        server.clock.advance(Duration::from_secs(1));
        server.prepare(&admin, algorithm).await.unwrap();
    }
    server
        .revoke_signing_key(&admin, &kid_of(&admin))
        .await
        .unwrap();
    let admin = server.admin().await.access_token;
    assert_eq!(kid_of(&admin), oldest);
    assert_eq!(server.ids(&admin, State::Prepared).await.len(), 2);
});

both!(a_prepared_key_that_is_revoked_is_replaced, async |server| {
    let admin = server.admin().await.access_token;
    let prepared = server.id(&admin, State::Prepared).await;
    let revoked = server.revoke_signing_key(&admin, &prepared).await.unwrap();
    assert_eq!(revoked.effect.unwrap().effective, Some(true));
    let key = revoked.signing_key.unwrap();
    assert!(key.activate_time.is_none() && key.retire_time.is_none());
    server.verdict(&admin, &admin).await.unwrap();
    assert_ne!(server.id(&admin, State::Prepared).await, prepared);
    assert!(!server.jwks().await.contains(&prepared));
});

both!(
    whoever_revokes_again_waits_for_the_first_time,
    async |server| {
        let admin = server.admin().await.access_token;
        let prepared = server.id(&admin, State::Prepared).await;
        let request = proto::CreateRevocationRequest {
            reason: RevocationReason::Compromised.into(),
            comment: "the disk was stolen".to_owned(),
            idempotency_key: uuid::Uuid::now_v7().to_string(),
            ..revocation_of(Subject::SigningKeyId(prepared.clone()), "")
        };
        let create = async |request: &proto::CreateRevocationRequest| {
            let mut revocations = server.revocations().await;
            let created = revocations.create_revocation(as_caller(&admin, request.clone()));
            created.await.unwrap().into_inner()
        };
        let first = create(&request).await;
        let entry = first.event.unwrap();
        assert_eq!(entry.reason(), RevocationReason::Compromised);
        // The retry, somebody else's call, and the other method.
        let retry = create(&request).await;
        assert_eq!(retry.event.unwrap(), entry);
        let anew = revocation_of(Subject::SigningKeyId(prepared.clone()), "");
        let again = create(&anew).await;
        assert_eq!(again.event.unwrap(), entry);
        let effect = server.revoke_signing_key(&admin, &prepared).await;
        let effect = effect.unwrap().effect.unwrap();
        assert_eq!(effect.position, entry.position);
        assert_eq!(effect.effective, Some(true));
        let written = (
            String::new(),
            prepared,
            serde_json::json!({ "comment": "the disk was stolen" }),
        );
        assert_eq!(rows(server, "signing_key.revoke").await, [written]);
    }
);

both!(
    a_signing_key_is_revoked_by_who_may_manage_signing_keys,
    async |server| {
        let tenant = server.tenant("acme").await;
        let kid = kid_of(&tenant.root_token);
        let subject = || Subject::SigningKeyId(kid.clone());
        let boss = &tenant.boss_token;
        let (_, revoker) = {
            let root = &tenant.root_token;
            let scopes = ["authority.revocations.create"];
            server.made_key(root, key(&scopes)).await
        };
        for caller in [boss, &revoker] {
            let refusal = server.revoke_by_reference(caller, subject(), "").await;
            let refusal = refused(refusal, Code::PermissionDenied, "PERMISSION_MISSING");
            let missing = metadata_of(&refusal, "permission");
            assert_eq!(missing, "authority.signing_keys.write");
        }
        // A signing key brings its own space.
        for space in ["acme", "system", "*"] {
            let root = &tenant.root_token;
            let refusal = server.revoke_by_reference(root, subject(), space).await;
            refused(refusal, Code::InvalidArgument, "FIELD_INVALID");
        }
        server.verdict(boss, &tenant.alice_token).await.unwrap();
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_keys_follow_wherever_they_are_asked_for() {
    run_on(Engine::Sqlite, async |server| {
        let admin = server.admin().await.access_token;
        let mut client = server.signing_keys().await;
        let watched = client.watch_jwks(proto::WatchJwksRequest {}).await;
        let mut watched = watched.unwrap().into_inner();
        let first = watched.message().await.unwrap().unwrap();
        let (_, by_http) = get(server.http, "/.well-known/jwks.json").await;
        assert_eq!(first.jwks.unwrap().jwks_json, by_http);

        let made = server.prepare(&admin, SigningAlgorithm::Es256).await;
        let made = made.unwrap().signing_key_id;
        eventually("HTTP follows", async || {
            let (_, body) = get(server.http, "/.well-known/jwks.json").await;
            body.contains(&made)
        })
        .await;
        let told = watched.message().await.unwrap().unwrap();
        assert!(told.jwks.unwrap().jwks_json.contains(&made));
        server.revoke_signing_key(&admin, &made).await.unwrap();
        let told = watched.message().await.unwrap().unwrap();
        assert!(!told.jwks.unwrap().jwks_json.contains(&made));
        eventually("HTTP follows", async || {
            let (_, body) = get(server.http, "/.well-known/jwks.json").await;
            body == by_http
        })
        .await;
    })
    .await;
}

both!(
    nothing_of_a_key_that_signs_no_more_is_kept,
    async |server| {
        let admin = server.admin().await.access_token;
        let (active, prepared) = (
            server.id(&admin, State::Active).await,
            server.id(&admin, State::Prepared).await,
        );
        server.activate(&admin, &prepared, true).await.unwrap();
        let stored =
            token_authority::storage::signing_keys::published(server.authority.db.reader());
        let stored = stored.await.unwrap();
        assert_eq!(stored.len(), 3);
        for key in stored {
            let signs_no_more = key.described.id.as_str() == active;
            assert_eq!(key.sealed_private_key.is_empty(), signs_no_more);
        }
    }
);

both!(
    no_read_that_is_under_way_puts_a_revoked_key_back,
    async |server| {
        let admin = server.admin().await.access_token;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let reading: Vec<_> = (0..4)
            .map(|_| {
                let (authority, stopped) = (Arc::clone(&server.authority), stopped.clone());
                spawn(async move {
                    let mut reads = 0;
                    while !*stopped.borrow() {
                        authority.keyring.reload().await.unwrap();
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for _ in 0..20 {
            let prepared = server.id(&admin, State::Prepared).await;
            server.revoke_signing_key(&admin, &prepared).await.unwrap();
            let kid = SigningKeyId::known(prepared);
            for _ in 0..20 {
                assert!(!server.authority.keyring.publishes(&kid));
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
        stop.send_replace(true);
        for reader in reading {
            assert!(reader.await.unwrap() > 20);
        }
    }
);

//! Whoever reads the audit log reads of its own space, of what it asked for, page by page.

use prost_types::Timestamp;
use token_authority::{
    clock,
    domain::ids::SpaceId,
    proto::{self, AuditOutcome, ListAuditEventsRequest, RevocationReason},
};
use tonic::Code;

use super::{listed, page};
use crate::support::{Server, Tenant, as_caller, both, key, minutes, refused};

fn proto_time(time: clock::Timestamp) -> Timestamp {
    Timestamp {
        seconds: time.seconds(),
        nanos: i32::try_from(time.micros() % 1_000_000 * 1000).unwrap(),
    }
}

/// Two tenants, in each of which some keys are made and one is ended.
async fn two_tenants(server: &Server) -> [Tenant; 2] {
    let tenants = [server.tenant("acme").await, server.tenant("globex").await];
    for tenant in &tenants {
        for _ in 0..3 {
            server.clock.advance(minutes(1));
            server.made_key(&tenant.alice_token, key(&[])).await;
        }
        let (id, _) = server.made_key(&tenant.boss_token, key(&[])).await;
        let request = proto::RevokeApiKeyRequest {
            api_key_id: id,
            reason: RevocationReason::Compromised.into(),
            ..Default::default()
        };
        let mut keys = server.api_keys().await;
        let revoked = keys.revoke_api_key(as_caller(&tenant.boss_token, request));
        revoked.await.unwrap();
    }
    tenants
}

fn moment(event: &proto::AuditEvent) -> (i64, i32) {
    let time = event.event_time.unwrap();
    (time.seconds, time.nanos)
}

fn ids(events: &[proto::AuditEvent]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.audit_event_id.as_str())
        .collect()
}

both!(
    x03_a_tenant_sees_what_was_done_in_it_and_nothing_else,
    async |server| {
        let tenants = two_tenants(server).await;
        for (tenant, other) in [(&tenants[0], &tenants[1]), (&tenants[1], &tenants[0])] {
            let (boss, own) = (&tenant.boss_token, tenant.space.as_str());
            for space in ["", own, &tenant.slug] {
                let request = ListAuditEventsRequest {
                    space: space.to_owned(),
                    ..Default::default()
                };
                let events = listed(server, boss, request).await;
                assert!(events.len() > 5);
                for event in &events {
                    assert_eq!(event.space_id, own);
                    let said = format!("{event:?}");
                    for foreign in [
                        other.space.as_str(),
                        other.alice.as_str(),
                        other.boss.as_str(),
                    ] {
                        assert!(!said.contains(foreign), "{said}");
                    }
                }
            }
            for foreign in [&other.slug, other.space.as_str(), "system", "nothing"] {
                let request = ListAuditEventsRequest {
                    space: foreign.to_owned(),
                    ..Default::default()
                };
                let answer = page(server, boss, &request).await;
                refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
            }
            for foreign in [&other.name("alice"), other.alice.as_str(), "nobody"] {
                let request = ListAuditEventsRequest {
                    actor_user_id: foreign.to_owned(),
                    ..Default::default()
                };
                assert!(listed(server, boss, request).await.is_empty(), "{foreign}");
            }
            let alice = page(
                server,
                &tenant.alice_token,
                &ListAuditEventsRequest::default(),
            )
            .await;
            refused(alice, Code::PermissionDenied, "PERMISSION_MISSING");
        }
        let everything = listed(
            server,
            &tenants[0].root_token,
            ListAuditEventsRequest::default(),
        )
        .await;
        for tenant in &tenants {
            assert!(
                everything
                    .iter()
                    .any(|event| event.space_id == tenant.space.as_str())
            );
        }
        assert!(
            everything
                .iter()
                .any(|event| event.action == "authority.bootstrap")
        );
    }
);

both!(pages_hold_every_event_once_newest_first, async |server| {
    let [acme, _] = two_tenants(server).await;
    for (caller, space) in [
        (&acme.root_token, ""),
        (&acme.boss_token, ""),
        (&acme.root_token, "globex"),
    ] {
        let request = |page_size| ListAuditEventsRequest {
            space: space.to_owned(),
            page_size,
            ..Default::default()
        };
        let whole = listed(server, caller, request(500)).await;
        let place = |event: &proto::AuditEvent| (moment(event), event.audit_event_id.clone());
        assert!(whole.windows(2).all(|two| place(&two[0]) > place(&two[1])));
        for page_size in [1, 3, 0] {
            let paged = listed(server, caller, request(page_size)).await;
            assert_eq!(ids(&paged), ids(&whole), "pages of {page_size}");
        }
        // What is done meanwhile does not move what is still to come.
        let first = page(server, caller, &request(2)).await.unwrap();
        server.clock.advance(minutes(1));
        server.made_key(&acme.alice_token, key(&[])).await;
        let rest = ListAuditEventsRequest {
            page_token: first.next_page_token,
            ..request(2)
        };
        let rest = listed(server, caller, rest).await;
        assert_eq!(ids(&rest), ids(&whole)[2..]);
    }
});

both!(filters_let_through_what_they_name, async |server| {
    let [acme, globex] = two_tenants(server).await;
    let root = &acme.root_token;
    let everything = listed(server, root, ListAuditEventsRequest::default()).await;
    let ended: Vec<_> = everything
        .iter()
        .filter(|event| event.action == "api_key.revoke")
        .collect();
    assert_eq!(ended.len(), 2);
    let (newer, older) = (ended[0], ended[1]);
    let by = |event: &proto::AuditEvent, name: &str| match name {
        "alice" => event.actor_user_id == acme.alice.as_str(),
        "globex" => event.space_id == globex.space.as_str(),
        "created" => event.action == "api_key.create",
        "key" => event.resource_id == newer.resource_id,
        "since" => moment(event) >= moment(older),
        "until" => moment(event) < moment(newer),
        other => panic!("{other}"),
    };
    let filters: [(&[&str], ListAuditEventsRequest); 8] = [
        (
            &["alice"],
            ListAuditEventsRequest {
                actor_user_id: acme.alice.to_string(),
                ..Default::default()
            },
        ),
        (
            &["alice"],
            ListAuditEventsRequest {
                actor_user_id: acme.name("ALICE"),
                ..Default::default()
            },
        ),
        (
            &["globex"],
            ListAuditEventsRequest {
                space: "globex".to_owned(),
                ..Default::default()
            },
        ),
        (
            &["created"],
            ListAuditEventsRequest {
                action: "api_key.create".to_owned(),
                ..Default::default()
            },
        ),
        (
            &["key"],
            ListAuditEventsRequest {
                resource_id: newer.resource_id.clone(),
                ..Default::default()
            },
        ),
        (
            &["since"],
            ListAuditEventsRequest {
                start_time: older.event_time,
                ..Default::default()
            },
        ),
        (
            &["until"],
            ListAuditEventsRequest {
                end_time: newer.event_time,
                ..Default::default()
            },
        ),
        (
            &["globex", "created", "since", "until"],
            ListAuditEventsRequest {
                space: globex.space.to_string(),
                action: "api_key.create".to_owned(),
                start_time: older.event_time,
                end_time: newer.event_time,
                ..Default::default()
            },
        ),
    ];
    for (names, request) in filters {
        let wanted: Vec<_> = everything
            .iter()
            .filter(|event| names.iter().all(|name| by(event, name)))
            .cloned()
            .collect();
        assert!(
            !wanted.is_empty() && wanted.len() < everything.len(),
            "{names:?}"
        );
        let found = listed(server, root, request).await;
        assert_eq!(ids(&found), ids(&wanted), "{names:?}");
    }
});

both!(an_event_says_all_that_is_known, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, api_key) = server
        .made_key(
            &tenant.boss_token,
            key(&["authority.self", "authority.audit.read"]),
        )
        .await;
    let mut keys = server.api_keys().await;
    let request = proto::CreateApiKeyRequest {
        api_key: Some(key(&["authority.self"])),
        ..Default::default()
    };
    let mut request = as_caller(&api_key, request);
    request
        .metadata_mut()
        .insert("x-request-id", "walk-7".parse().unwrap());
    let made = keys.create_api_key(request).await.unwrap().into_inner();
    super::kept(server).await;
    let request = ListAuditEventsRequest {
        resource_id: made.api_key.unwrap().api_key_id,
        ..Default::default()
    };
    let events = listed(server, &api_key, request).await;
    let event = &events[0];
    assert_eq!(events.len(), 1);
    assert!(event.audit_event_id.starts_with("aud_"));
    assert_eq!(event.event_time, Some(proto_time(server.clock.now())));
    assert_eq!(SpaceId::known(event.space_id.as_str()), tenant.space);
    assert_eq!(event.actor_user_id, tenant.boss.as_str());
    assert_eq!(event.actor_api_key_id, id);
    assert_eq!(event.action, "api_key.create");
    assert_eq!(event.outcome(), AuditOutcome::Success);
    assert_eq!(event.client_address, "127.0.0.1");
    assert_eq!(event.request_id, "walk-7");
    assert_eq!(event.details["user_id"], tenant.boss.as_str());
    assert!(event.sequence > 0 && event.digest.len() == 64);
});

both!(a_page_token_of_something_else_is_refused, async |server| {
    let [acme, globex] = two_tenants(server).await;
    let request = ListAuditEventsRequest {
        page_size: 2,
        ..Default::default()
    };
    let first = page(server, &acme.boss_token, &request).await.unwrap();
    let good = first.next_page_token;
    let mut altered = good.clone().into_bytes();
    let last = altered.len() - 1;
    altered[last] = if altered[last] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    let of_action = ListAuditEventsRequest {
        action: "api_key.create".to_owned(),
        ..request.clone()
    };
    for (what, caller, request, token) in [
        ("made up", &acme.boss_token, &request, "made-up"),
        ("altered", &acme.boss_token, &request, &altered),
        ("of another tenant", &globex.boss_token, &request, &good),
        ("of the operator", &acme.root_token, &request, &good),
        ("of another filter", &acme.boss_token, &of_action, &good),
    ] {
        let request = ListAuditEventsRequest {
            page_token: token.to_owned(),
            ..request.clone()
        };
        let answer = page(server, caller, &request).await;
        let status = refused(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        assert!(!status.message().is_empty(), "{what}");
    }
});

both!(
    x16_a_filter_that_nothing_can_be_called_is_refused,
    async |server| {
        let root = server.admin().await.access_token;
        for text in [
            "' OR 1=1 --",
            "api_key.*",
            "a;DROP TABLE audit_events",
            "%",
            "é",
            &"a".repeat(129),
        ] {
            for field in ["action", "actor_user_id", "resource_id"] {
                let mut request = ListAuditEventsRequest::default();
                match field {
                    "action" => request.action = text.to_owned(),
                    "actor_user_id" => request.actor_user_id = text.to_owned(),
                    _ => request.resource_id = text.to_owned(),
                }
                let answer = page(server, &root, &request).await;
                let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
                assert_eq!(crate::support::fields(&status), [field], "{text}");
            }
        }
        for (start, end, at_fault) in [
            (-1, 0, "start_time"),
            (0, 253_402_300_800, "end_time"),
            (7, 7, "end_time"),
        ] {
            let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
            let request = ListAuditEventsRequest {
                start_time: time(start),
                end_time: time(end),
                ..Default::default()
            };
            let status = refused(
                page(server, &root, &request).await,
                Code::InvalidArgument,
                "FIELD_INVALID",
            );
            assert_eq!(crate::support::fields(&status), [at_fault]);
        }
    }
);

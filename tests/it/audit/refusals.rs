//! Refusals to callers that are known are written down; a flood of them is counted.

use token_authority::{
    authority::audit::refusals::{ACTION, ONE_BY_ONE},
    proto::{self, AuditEvent, AuditOutcome, ListAuditEventsRequest, revocation_subject::Subject},
};
use tonic::Code;

use super::{kept, listed};
use crate::support::{Server, as_caller, both, minutes, refused, revocation_of};

/// The refusals that a caller can read of, oldest first.
async fn refusals(server: &Server, caller: &str) -> Vec<AuditEvent> {
    kept(server).await;
    let request = ListAuditEventsRequest {
        action: ACTION.to_owned(),
        ..Default::default()
    };
    let mut events = listed(server, caller, request).await;
    events.reverse();
    events
}

async fn get_space(server: &Server, caller: &str, space: &str) {
    let request = proto::GetSpaceRequest {
        space: space.to_owned(),
    };
    let mut spaces = server.operator().await.spaces();
    let answer = spaces.get_space(as_caller(caller, request)).await;
    let status = answer.unwrap_err();
    assert!(matches!(
        status.code(),
        Code::PermissionDenied | Code::NotFound
    ));
}

async fn revoke_what_it_may_not(server: &Server, caller: &str) {
    let subject = Subject::SessionId("a-session".to_owned());
    let mut revocations = server.revocations().await;
    let answer = revocations.create_revocation(as_caller(caller, revocation_of(subject, "")));
    refused(answer.await, Code::PermissionDenied, "PERMISSION_MISSING");
}

both!(
    a_lack_of_permission_is_written_down_in_the_callers_space,
    async |server| {
        let tenant = server.tenant("acme").await;
        revoke_what_it_may_not(server, &tenant.alice_token).await;
        for reader in [&tenant.boss_token, &tenant.root_token] {
            let events = refusals(server, reader).await;
            assert_eq!(events.len(), 1);
            let event = &events[0];
            assert_eq!(event.outcome(), AuditOutcome::Denied);
            assert_eq!(event.error_reason, "PERMISSION_MISSING");
            assert_eq!(event.space_id, tenant.space.as_str());
            assert_eq!(event.actor_user_id, tenant.alice.as_str());
            assert_eq!(event.client_address, "127.0.0.1");
            assert!(!event.request_id.is_empty());
            assert_eq!(
                event.details["method"],
                "RevocationService/CreateRevocation"
            );
            assert_eq!(event.details["permission"], "authority.revocations.create");
            assert!(event.sequence > 0);
        }
    }
);

both!(
    what_is_withheld_is_written_down_for_the_operators_alone,
    async |server| {
        let acme = server.tenant("acme").await;
        let globex = server.tenant("globex").await;
        for space in ["globex", "nothing"] {
            get_space(server, &acme.boss_token, space).await;
        }
        // Whoever was answered "not found" does not learn from the audit log that there was something.
        for boss in [&acme.boss_token, &globex.boss_token] {
            assert_eq!(refusals(server, boss).await, []);
        }
        let events = refusals(server, &acme.root_token).await;
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!(event.error_reason, "RESOURCE_NOT_FOUND");
        assert_eq!(event.resource_id, globex.space.as_str());
        assert_eq!(event.actor_user_id, acme.boss.as_str());
        assert_eq!(event.space_id, "");
    }
);

both!(
    what_is_no_refusal_to_a_known_caller_is_not_written_down,
    async |server| {
        let tenant = server.tenant("acme").await;
        for (caller, code) in [
            ("no-token", Code::Unauthenticated),
            (&tenant.boss_token, Code::InvalidArgument),
        ] {
            let request = ListAuditEventsRequest {
                page_size: -1,
                ..Default::default()
            };
            let answer = super::page(server, caller, &request).await;
            assert_eq!(answer.unwrap_err().code(), code);
        }
        assert_eq!(refusals(server, &tenant.root_token).await, []);
    }
);

both!(
    a_flood_of_refusals_is_counted_and_not_stored,
    async |server| {
        let tenant = server.tenant("acme").await;
        for _ in 0..50 {
            revoke_what_it_may_not(server, &tenant.alice_token).await;
        }
        let events = refusals(server, &tenant.boss_token).await;
        assert_eq!(events.len(), ONE_BY_ONE as usize);
        server.clock.advance(minutes(2));
        let events = refusals(server, &tenant.boss_token).await;
        assert_eq!(events.len(), ONE_BY_ONE as usize + 1);
        let counts: Vec<_> = events
            .iter()
            .filter_map(|event| event.details.get("count"))
            .collect();
        assert_eq!(counts, [&(50 - ONE_BY_ONE).to_string()]);
    }
);

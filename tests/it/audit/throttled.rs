//! Sign-ins that were throttled are written down for whoever may know of the user, and a flood of them is counted.

use std::collections::BTreeSet;

use token_authority::{
    authority::audit::refusals::{ACTION, ONE_BY_ONE},
    proto::{self, AuditEvent, AuditOutcome, ListAuditEventsRequest},
};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{kept, listed};
use crate::support::{
    PASSWORD, Server, Tenant, as_caller, both, minutes, password_request, reason, refused,
};

const WRONG: &str = "not the right one, by far";

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

async fn attempt(server: &Server, name: &str) -> tonic::Status {
    let request = password_request(name, WRONG, "");
    server.issue(request).await.unwrap_err()
}

/// Fails once, and is throttled so often.
async fn throttled(server: &Server, name: &str, times: usize) {
    assert_eq!(reason(&attempt(server, name).await), "CREDENTIALS_INVALID");
    for _ in 0..times {
        assert_eq!(reason(&attempt(server, name).await), "SIGN_IN_THROTTLED");
    }
}

/// That a token acts here, and changes its password with the wrong one.
async fn change_password(server: &Server, token: &str, reason: &str) {
    let request = proto::ChangePasswordRequest {
        current_password: WRONG.to_owned(),
        new_password: "ein ganz neues Wort im Juni".to_owned(),
    };
    let mut users = server.operator().await.users();
    let status = users.change_password(as_caller(token, request)).await;
    assert_eq!(crate::support::reason(&status.unwrap_err()), reason);
}

fn is_throttled_sign_in_of_alice(event: &AuditEvent, tenant: &Tenant) {
    assert_eq!(event.outcome(), AuditOutcome::Denied);
    assert_eq!(event.error_reason, "SIGN_IN_THROTTLED");
    assert_eq!(event.space_id, tenant.space.as_str());
    assert_eq!(event.resource_id, tenant.alice.as_str());
    assert_eq!(event.details["username"], tenant.name("alice"));
    assert_eq!(event.client_address, "127.0.0.1");
    assert!(!event.request_id.is_empty());
    assert!(event.sequence > 0);
}

both!(
    a_throttled_sign_in_is_written_down_in_the_users_home_space,
    async |server| {
        let acme = server.tenant("acme").await;
        let globex = server.tenant("globex").await;
        throttled(server, &acme.name("alice").to_uppercase(), 1).await;
        for reader in [&acme.boss_token, &acme.root_token] {
            let events = refusals(server, reader).await;
            assert_eq!(events.len(), 1);
            is_throttled_sign_in_of_alice(&events[0], &acme);
            // Nobody has shown to be her.
            assert_eq!(events[0].actor_user_id, "");
            assert_eq!(events[0].details["method"], "TokenService/IssueToken");
        }
        assert_eq!(refusals(server, &globex.boss_token).await, []);
    }
);

both!(
    a_throttled_change_of_password_is_written_down_in_the_users_home_space,
    async |server| {
        let acme = server.tenant("acme").await;
        let globex = server.tenant("globex").await;
        // A guest there.
        server.assign(&globex.space, &acme.alice, "auditor").await;
        let alice = acme.name("alice");
        let guest = server.sign_in(&alice, PASSWORD, "globex").await;
        change_password(server, &guest.access_token, "CREDENTIALS_INVALID").await;
        change_password(server, &guest.access_token, "SIGN_IN_THROTTLED").await;
        let events = refusals(server, &acme.boss_token).await;
        assert_eq!(events.len(), 1);
        is_throttled_sign_in_of_alice(&events[0], &acme);
        assert_eq!(events[0].actor_user_id, acme.alice.as_str());
        assert_eq!(events[0].details["method"], "UserService/ChangePassword");
        assert_eq!(refusals(server, &globex.boss_token).await, []);
    }
);

both!(
    names_that_nobody_bears_are_counted_for_the_operators_alone,
    async |server| {
        let tenant = server.tenant("acme").await;
        throttled(server, "nobody.at.all", 3).await;
        throttled(server, "not a name\0", 2).await;
        assert_eq!(refusals(server, &tenant.root_token).await, []);
        server.clock.advance(minutes(2));
        assert_eq!(refusals(server, &tenant.boss_token).await, []);
        let events = refusals(server, &tenant.root_token).await;
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!(event.error_reason, "SIGN_IN_THROTTLED");
        assert_eq!(event.details["count"], "5");
        assert_eq!(event.client_address, "127.0.0.1");
        let empty = [&event.space_id, &event.resource_id, &event.actor_user_id];
        assert_eq!(empty, ["", "", ""]);
        let event = format!("{event:?}");
        assert!(
            !event.contains("nobody") && !event.contains("a name"),
            "{event}"
        );
    }
);

both!(
    a_flood_of_throttled_sign_ins_is_counted_and_not_stored,
    async |server| {
        let tenant = server.tenant("acme").await;
        throttled(server, &tenant.name("alice"), 50).await;
        let events = refusals(server, &tenant.boss_token).await;
        assert_eq!(events.len(), ONE_BY_ONE as usize);
        server.clock.advance(minutes(2));
        let events = refusals(server, &tenant.boss_token).await;
        assert_eq!(events.len(), ONE_BY_ONE as usize + 1);
        for event in &events {
            is_throttled_sign_in_of_alice(event, &tenant);
        }
        let counts: Vec<_> = events
            .iter()
            .filter_map(|event| event.details.get("count"))
            .collect();
        assert_eq!(counts, [&(50 - ONE_BY_ONE).to_string()]);
    }
);

both!(
    the_answer_does_not_show_whether_there_is_something_to_write,
    async |server| {
        let tenant = server.tenant("acme").await;
        let mut answers = Vec::new();
        for name in [&*tenant.name("alice"), "nobody.at.all", "not a name\0"] {
            attempt(server, name).await;
            let status = attempt(server, name).await;
            let kinds: BTreeSet<String> = status
                .metadata()
                .keys()
                .map(|key| format!("{key:?}"))
                .collect();
            let told = (status.message().to_owned(), status.details().len());
            let info = status.get_details_error_info().unwrap().metadata;
            let wait = status.get_details_retry_info().unwrap().retry_delay;
            answers.push((told, kinds, info, wait));
            refused(
                Err::<(), _>(status),
                Code::ResourceExhausted,
                "SIGN_IN_THROTTLED",
            );
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0], answers[2]);
    }
);

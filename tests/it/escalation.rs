//! Nobody comes by more than they hold: not by granting, not by resetting, not by naming, not by being quick.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use token_authority::{
    domain::ids::{SpaceId, UserId},
    proto::{self, role_service_client::RoleServiceClient, user_service_client::UserServiceClient},
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{
    Count, PASSWORD, Server, as_caller, both, create_key, eventually, key, mask, password_request,
    refused, spawn,
};

fn role(space: &str, name: &str, permissions: &[&str]) -> proto::Role {
    proto::Role {
        space_id: space.to_owned(),
        name: name.to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn assignment(space: &SpaceId, user: &UserId, role: &str) -> proto::AssignRoleRequest {
    proto::AssignRoleRequest {
        assignment: Some(proto::RoleAssignment {
            space_id: space.to_string(),
            user_id: user.to_string(),
            role: role.to_owned(),
            create_time: None,
        }),
    }
}

async fn users(server: &Server) -> UserServiceClient<Channel> {
    UserServiceClient::new(server.connect().await)
}

async fn roles(server: &Server) -> RoleServiceClient<Channel> {
    RoleServiceClient::new(server.connect().await)
}

async fn create_role(server: &Server, caller: &str, role: proto::Role) -> Result<(), Status> {
    let request = as_caller(caller, proto::CreateRoleRequest { role: Some(role) });
    let mut client = roles(server).await;
    client.create_role(request).await.map(drop)
}

async fn reset(server: &Server, caller: &str, user: &UserId) -> Result<String, Status> {
    let request = proto::ResetPasswordRequest {
        user: user.to_string(),
        ..Default::default()
    };
    let mut client = users(server).await;
    let answer = client.reset_password(as_caller(caller, request)).await?;
    Ok(answer.into_inner().generated_password)
}

async fn enable(
    server: &Server,
    caller: &str,
    user: &UserId,
    disabled: bool,
) -> Result<(), Status> {
    let request = proto::UpdateUserRequest {
        user: Some(proto::User {
            user_id: user.to_string(),
            disabled,
            ..Default::default()
        }),
        update_mask: mask(&["disabled"]),
    };
    let mut client = users(server).await;
    client
        .update_user(as_caller(caller, request))
        .await
        .map(drop)
}

both!(
    an_admin_of_a_space_neither_resets_nor_enables_an_admin_of_system,
    async |server| {
        let acme = server.tenant("acme").await;
        let operator = server.operator().await;
        let system = server.system().await;
        // At home in acme, and an admin of system.
        let mighty = server.user(&acme.space, "mighty").await;
        operator.assign(&system, &mighty, "admin").await;
        for who in [&mighty, &acme.alice] {
            operator.set_disabled(who, true).await;
        }
        let denied = |answer| refused(answer, Code::PermissionDenied, "EXCEEDS_GRANT");
        denied(reset(server, &acme.boss_token, &mighty).await.map(drop));
        denied(enable(server, &acme.boss_token, &mighty, false).await);
        enable(server, &acme.boss_token, &acme.alice, false)
            .await
            .unwrap();
        let password = reset(server, &acme.boss_token, &acme.alice).await.unwrap();
        server.sign_in("alice.acme", &password, "").await;

        // Nor does it hold keys for one, or learn of the admins of system at all.
        let for_mighty = proto::ApiKey {
            user_id: mighty.to_string(),
            ..key(&[])
        };
        let made = server
            .create_key(&acme.boss_token, create_key(for_mighty))
            .await;
        denied(made.map(drop));
        let admin = server
            .who(&acme.root_token)
            .await
            .unwrap()
            .principal
            .unwrap();
        let admin = UserId::known(admin.user_id);
        let found = reset(server, &acme.boss_token, &admin).await;
        refused(found, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
);

both!(nobody_grants_what_they_do_not_hold, async |server| {
    let acme = server.tenant("acme").await;
    let operator = server.operator().await;
    operator
        .role(
            &acme.space,
            "manager",
            &["authority.roles.write", "orders.read"],
        )
        .await;
    let manager = server.user(&acme.space, "manager").await;
    operator.assign(&acme.space, &manager, "manager").await;
    let manager_token = server.token_of("manager").await;
    let denied = |answer| refused(answer, Code::PermissionDenied, "EXCEEDS_GRANT");

    create_role(
        server,
        &manager_token,
        role("acme", "peek", &["orders.read"]),
    )
    .await
    .unwrap();
    let wider = role("acme", "grab", &["orders.read", "orders.write"]);
    denied(create_role(server, &manager_token, wider).await);
    let mut client = roles(server).await;
    let update = proto::UpdateRoleRequest {
        role: Some(role("acme", "peek", &["orders.read", "billing.read"])),
        update_mask: mask(&["permissions"]),
    };
    denied(
        client
            .update_role(as_caller(&manager_token, update))
            .await
            .map(drop),
    );
    for name in ["clerk", "admin", "introspector"] {
        let request = assignment(&acme.space, &manager, name);
        let assigned = client.assign_role(as_caller(&manager_token, request)).await;
        denied(assigned.map(drop));
    }
    let request = assignment(&acme.space, &acme.alice, "peek");
    client
        .assign_role(as_caller(&manager_token, request))
        .await
        .unwrap();

    // What is of system alone is nobody's to give in a space, and narrowed credentials hold what they say.
    let request = role("acme", "spy", &["authority.system.read"]);
    let refusal = create_role(server, &acme.boss_token, request).await;
    refused(refusal, Code::InvalidArgument, "FIELD_INVALID");
    let narrowed = proto::IssueTokenRequest {
        scopes: vec!["authority.roles.write".to_owned()],
        ..password_request("boss.acme", PASSWORD, "")
    };
    let narrowed = server.issue(narrowed).await.unwrap().access_token;
    denied(create_role(server, &narrowed, role("acme", "own", &["orders.read"])).await);
    let made = server.create_key(&narrowed, create_key(key(&[]))).await;
    assert!(made.is_err(), "a narrowed credential makes no open key");
});

both!(x05_no_role_is_taken_for_another, async |server| {
    let acme = server.tenant("acme").await;
    for name in ["admin", "auditor", "introspector"] {
        let taken = create_role(server, &acme.boss_token, role("acme", name, &[])).await;
        refused(taken, Code::AlreadyExists, "RESOURCE_ALREADY_EXISTS");
        let mut client = roles(server).await;
        let delete = proto::DeleteRoleRequest {
            space: "acme".to_owned(),
            name: name.to_owned(),
        };
        let deleted = client
            .delete_role(as_caller(&acme.boss_token, delete))
            .await;
        refused(deleted, Code::FailedPrecondition, "BUILT_IN");
    }
    for name in [
        "Admin",
        "ADMIN",
        "admin ",
        " admin",
        "root/..",
        "\u{430}dmin",
        "",
    ] {
        let odd = create_role(server, &acme.boss_token, role("acme", name, &[])).await;
        let refusal = refused(odd, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(crate::support::fields(&refusal), ["role.name"], "{name:?}");
    }
});

/// Makes roles without a pause until that is refused. None that is begun when `over` is set may be made.
async fn make_roles(
    mut client: RoleServiceClient<Channel>,
    token: String,
    prefix: String,
    made: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
) {
    for number in 0.. {
        let late = over.load(Ordering::SeqCst);
        let request = proto::CreateRoleRequest {
            role: Some(role("acme", &format!("{prefix}-{number}"), &[])),
        };
        let answer = client.create_role(as_caller(&token, request)).await;
        if answer.is_err() {
            refused(answer, Code::Unauthenticated, "CREDENTIALS_INVALID");
            return;
        }
        assert!(!late, "made after the role was taken away");
        made.fetch_add(1, Ordering::SeqCst);
    }
}

both!(
    x15_with_the_role_goes_all_but_the_call_that_is_under_way,
    async |server| {
        const CLIENTS: usize = 4;
        const ROUNDS: Count = Count {
            quick: 10,
            full: 200,
        };
        let acme = server.tenant("acme").await;
        let operator = server.operator().await;
        for round in 0..ROUNDS.get() {
            let name = format!("deputy-{round}");
            let deputy = server.user(&acme.space, &name).await;
            operator.assign(&acme.space, &deputy, "admin").await;
            let token = server.token_of(&name).await;
            let made = Arc::new(AtomicUsize::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let mut working = Vec::new();
            for number in 0..CLIENTS {
                working.push(spawn(make_roles(
                    roles(server).await,
                    token.clone(),
                    format!("of-{round}-{number}"),
                    Arc::clone(&made),
                    Arc::clone(&over),
                )));
            }
            eventually("they are at work", async || {
                made.load(Ordering::SeqCst) >= CLIENTS
            })
            .await;
            // They share a lock without a pause that nobody else gets then: on a busy machine for longer than a call may take.
            let operator = operator.patient();
            let effect = operator.unassign(&acme.space, &deputy, "admin").await;
            over.store(true, Ordering::SeqCst);
            assert!(effect.unwrap().effective());
            for client in working {
                client.await.unwrap();
            }
        }
    }
);

both!(x07_the_last_admin_of_system_stays, async |server| {
    let operator = server.operator().await;
    let system = server.system().await;
    let admin = server
        .who(&operator.token)
        .await
        .unwrap()
        .principal
        .unwrap();
    let admin = UserId::known(admin.user_id);
    let last = async |who: &UserId| {
        let mut client = users(server).await;
        let gone = proto::DeleteUserRequest {
            user: who.to_string(),
        };
        let deleted = client.delete_user(as_caller(&operator.token, gone)).await;
        refused(deleted, Code::FailedPrecondition, "LAST_ADMIN");
        let disabled = enable(server, &operator.token, who, true).await;
        refused(disabled, Code::FailedPrecondition, "LAST_ADMIN");
        let request = proto::UnassignRoleRequest {
            assignment: assignment(&system, who, "admin").assignment,
        };
        let mut client = roles(server).await;
        let taken = client
            .unassign_role(as_caller(&operator.token, request))
            .await;
        refused(taken, Code::FailedPrecondition, "LAST_ADMIN");
    };
    last(&admin).await;

    // One that is switched off administers nothing; one that is not is enough, wherever it is at home.
    let space = server.space("away").await;
    let second = server.user(&space, "second").await;
    operator.assign(&system, &second, "admin").await;
    operator.set_disabled(&second, true).await;
    last(&admin).await;
    operator.set_disabled(&second, false).await;
    operator.unassign(&system, &admin, "admin").await.unwrap();

    // Then it is the last one, and its home cannot go either.
    let token = server
        .sign_in("second", PASSWORD, "system")
        .await
        .access_token;
    let mut spaces = operator.spaces();
    let request = proto::DeleteSpaceRequest {
        space: "away".to_owned(),
    };
    let deleted = spaces.delete_space(as_caller(&token, request)).await;
    refused(deleted, Code::FailedPrecondition, "LAST_ADMIN");
});

both!(
    of_two_admins_who_end_each_other_one_is_left,
    async |server| {
        let operator = server.operator().await;
        let system = server.system().await;
        for round in 0..20 {
            let (one, other) = (format!("one-{round}"), format!("other-{round}"));
            let mut calls = Vec::new();
            let mut admins = Vec::new();
            for name in [&one, &other] {
                let user = server.user(&system, name).await;
                operator.assign(&system, &user, "admin").await;
                admins.push((user, server.token_of(name).await));
            }
            for (mine, theirs) in [(0, 1), (1, 0)] {
                let (token, user) = (admins[mine].1.clone(), admins[theirs].0.clone());
                let mut client = users(server).await;
                calls.push(spawn(async move {
                    let request = proto::DeleteUserRequest {
                        user: user.to_string(),
                    };
                    client.delete_user(as_caller(&token, request)).await.is_ok()
                }));
            }
            let mut done = 0;
            for call in calls {
                done += usize::from(call.await.unwrap());
            }
            assert!(done <= 1, "round {round}: both are gone");
        }
    }
);

both!(
    no_key_outlives_a_user_who_was_deleted_while_it_was_made,
    async |server| {
        let acme = server.tenant("acme").await;
        let operator = server.operator().await;
        let times = crate::support::Count {
            quick: 60,
            full: 1_000,
        };
        let mut outrun = 0;
        for number in 0..times.get() {
            let name = format!("brief-{number}");
            let user = operator.user(&acme.space, &name, "").await;
            let mut keys = server.api_keys().await;
            let wanted = proto::ApiKey {
                user_id: user.to_string(),
                space_id: "acme".to_owned(),
                ..key(&[])
            };
            let request = as_caller(&operator.token, create_key(wanted));
            let making = spawn(async move { keys.create_api_key(request).await });
            let effect = operator.delete_user(&user).await.unwrap();
            assert!(effect.effective());
            if let Ok(made) = making.await.unwrap() {
                outrun += 1;
                let token = made.into_inner().api_key_token;
                assert!(!server.introspect(&operator.token, &token).await.active());
            }
        }
        eprintln!(
            "{} keys raced, {outrun} of them were made first",
            times.get()
        );
    }
);

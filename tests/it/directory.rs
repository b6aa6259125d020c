//! Spaces, users and roles: made, listed, changed and ended, each by whatever name it has.

use std::time::Duration;

use token_authority::proto::{self, revocation_subject::Subject};
use tonic::Code;

use crate::support::{
    Operator, PASSWORD, Watching, as_caller, both, events_of, fields, key, mask, password_request,
    refused,
};

async fn get_user(operator: &Operator, named: &str) -> Result<proto::User, tonic::Status> {
    let request = proto::GetUserRequest {
        user: named.to_owned(),
    };
    let mut client = operator.users();
    let found = client.get_user(as_caller(&operator.token, request)).await?;
    Ok(found.into_inner().user.unwrap())
}

both!(a_thing_is_found_by_each_of_its_names, async |server| {
    let operator = server.operator().await;
    let space = operator.space("acme").await;
    let user = operator.user(&space, "Ann", PASSWORD).await;
    for named in [user.as_str(), "ann", "ANN"] {
        let found = get_user(&operator, named).await.unwrap();
        assert_eq!(
            (found.user_id, found.username),
            (user.to_string(), "ann".to_owned())
        );
        assert_eq!(found.space_id, space.as_str());
        assert!(found.password_set);
    }
    for named in ["bob", "usr_nobody", "ann\0"] {
        let missing = get_user(&operator, named).await;
        refused(missing, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    for named in [space.as_str(), "acme", "ACME"] {
        let request = proto::GetSpaceRequest {
            space: named.to_owned(),
        };
        let mut client = operator.spaces();
        let found = client.get_space(as_caller(&operator.token, request)).await;
        let found = found.unwrap().into_inner().space.unwrap();
        assert_eq!(
            (found.slug, found.key_prefix),
            ("acme".to_owned(), "ta".to_owned())
        );
    }
});

both!(
    only_what_can_change_can_be_named_in_a_mask,
    async |server| {
        let operator = server.operator().await;
        operator.space("acme").await;
        let paths = [
            "*",
            "",
            "user_id",
            "username",
            "space_id",
            "password_set",
            "create_time",
            "nonsense",
        ];
        for path in paths {
            let request = proto::UpdateUserRequest {
                user: Some(proto::User {
                    username: "admin".to_owned(),
                    ..Default::default()
                }),
                update_mask: mask(&[path]),
            };
            let mut client = operator.users();
            let answer = client
                .update_user(as_caller(&operator.token, request))
                .await;
            let refusal = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&refusal), ["update_mask"], "{path:?}");
        }
        for path in ["*", "slug", "space_id", "create_time"] {
            let request = proto::UpdateSpaceRequest {
                space: Some(proto::Space {
                    slug: "acme".to_owned(),
                    ..Default::default()
                }),
                update_mask: mask(&[path]),
            };
            let mut client = operator.spaces();
            let answer = client
                .update_space(as_caller(&operator.token, request))
                .await;
            refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        }
        let request = proto::UpdateUserRequest {
            user: Some(proto::User {
                username: "admin".to_owned(),
                email: "root@example.org".to_owned(),
                display_name: "Root".to_owned(),
                disabled: true,
                ..Default::default()
            }),
            update_mask: mask(&["email", "display_name"]),
        };
        let mut client = operator.users();
        let updated = client
            .update_user(as_caller(&operator.token, request))
            .await;
        let updated = updated.unwrap().into_inner();
        let user = updated.user.unwrap();
        assert_eq!(
            (&*user.email, &*user.display_name),
            ("root@example.org", "Root")
        );
        assert!(
            !user.disabled && updated.effect.is_none(),
            "the mask names neither"
        );
        let token = server.admin().await;
        assert_eq!(token.principal.unwrap().email, "root@example.org");
    }
);

both!(listings_page_through_everything_once, async |server| {
    let operator = server.operator().await;
    let space = operator.space("acme").await;
    let other = operator.space("globex").await;
    for number in 0..12 {
        operator
            .user(&space, &format!("user-{number:02}"), "")
            .await;
        operator
            .user(&other, &format!("other-{number:02}"), "")
            .await;
        operator
            .role(&space, &format!("role-{number:02}"), &[])
            .await;
    }
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListUsersRequest {
            space: "acme".to_owned(),
            page_size: 5,
            page_token: page_token.clone(),
        };
        let mut client = operator.users();
        let page = client.list_users(as_caller(&operator.token, request)).await;
        let page = page.unwrap().into_inner();
        names.extend(page.users.into_iter().map(|user| user.username));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        // A page token of one listing is none of another.
        let request = proto::ListUsersRequest {
            space: "globex".to_owned(),
            page_size: 5,
            page_token: page_token.clone(),
        };
        let foreign = client.list_users(as_caller(&operator.token, request)).await;
        refused(foreign, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    let expected: Vec<String> = (0..12).map(|number| format!("user-{number:02}")).collect();
    assert_eq!(names, expected);

    let mut roles = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListRolesRequest {
            space: "acme".to_owned(),
            page_size: 4,
            page_token: page_token.clone(),
        };
        let mut client = operator.roles();
        let page = client.list_roles(as_caller(&operator.token, request)).await;
        let page = page.unwrap().into_inner();
        roles.extend(
            page.roles
                .into_iter()
                .map(|role| (role.name, role.built_in)),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(roles.len(), 15);
    assert!(roles.is_sorted());
    let built_in = roles.iter().filter(|(_, built_in)| *built_in).count();
    assert_eq!(built_in, 3);
});

both!(x10_what_is_deleted_never_comes_back, async |server| {
    let acme = server.tenant("acme").await;
    let operator = server.operator().await;
    let (_, key) = server.made_key(&acme.alice_token, key(&[])).await;
    let guest = server.space("globex").await;
    operator.assign(&guest, &acme.alice, "auditor").await;
    let elsewhere = server
        .sign_in("alice.acme", PASSWORD, "globex")
        .await
        .access_token;

    let request = proto::DeleteSpaceRequest {
        space: "acme".to_owned(),
    };
    let mut spaces = operator.spaces();
    let deleted = spaces
        .delete_space(as_caller(&operator.token, request))
        .await;
    assert!(deleted.unwrap().into_inner().effect.unwrap().effective());
    for token in [&acme.alice_token, &acme.boss_token, &key, &elsewhere] {
        assert!(!server.introspect(&operator.token, token).await.active());
    }
    let request = password_request("alice.acme", PASSWORD, "");
    refused(
        server.issue(request).await,
        Code::Unauthenticated,
        "CREDENTIALS_INVALID",
    );
    let missing = get_user(&operator, "alice.acme").await;
    refused(missing, Code::NotFound, "RESOURCE_NOT_FOUND");

    let again = proto::CreateSpaceRequest {
        space: Some(proto::Space {
            slug: "acme".to_owned(),
            ..Default::default()
        }),
    };
    let taken = spaces.create_space(as_caller(&operator.token, again)).await;
    refused(taken, Code::AlreadyExists, "RESOURCE_ALREADY_EXISTS");
    let again = proto::CreateUserRequest {
        user: Some(proto::User {
            username: "alice.acme".to_owned(),
            ..Default::default()
        }),
        password: PASSWORD.to_owned(),
    };
    let mut users = operator.users();
    let taken = users.create_user(as_caller(&operator.token, again)).await;
    refused(taken, Code::AlreadyExists, "RESOURCE_ALREADY_EXISTS");
    let request = proto::DeleteSpaceRequest {
        space: "system".to_owned(),
    };
    let kept = spaces
        .delete_space(as_caller(&operator.token, request))
        .await;
    refused(kept, Code::FailedPrecondition, "BUILT_IN");
});

both!(
    w15_no_space_learns_where_else_a_user_was_deleted,
    async |server| {
        let acme = server.tenant("acme").await;
        let globex = server.tenant("globex").await;
        let operator = server.operator().await;
        operator.assign(&globex.space, &acme.alice, "clerk").await;
        let mut watching = Watching::after(server, &globex.boss_token, "").await;
        watching.until_caught_up().await;
        let effect = operator.delete_user(&acme.alice).await.unwrap();
        let seen = events_of(&watching.until_position(effect.position).await);
        let of_alice: Vec<_> = seen
            .iter()
            .filter(|event| format!("{event:?}").contains(acme.alice.as_str()))
            .collect();
        assert_eq!(of_alice.len(), 1, "the user gone, from here");
        assert!(
            of_alice
                .iter()
                .all(|event| event.space_id == globex.space.as_str())
        );
    }
);

both!(l15_a_password_is_changed_by_who_knows_it, async |server| {
    let acme = server.tenant("acme").await;
    let (_, api_key) = server
        .made_key(&acme.alice_token, key(&["orders.read"]))
        .await;
    let new = "pewter lanterns over 3 lakes";
    let mut users = server.operator().await.users();
    let change = |current: &str, new: &str| proto::ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
    };
    for wrong in ["", "wrong", new] {
        let request = as_caller(&acme.alice_token, change(wrong, new));
        let refusal = users.change_password(request).await;
        refused(refusal, Code::Unauthenticated, "CREDENTIALS_INVALID");
        // The throttle is another test's.
        server.clock.advance(Duration::from_secs(10));
    }
    for weak in ["", "short", "alice.acme alice.acme", "aaaaaaaaaaaaaaaaaaaa"] {
        let request = as_caller(&acme.alice_token, change(PASSWORD, weak));
        let refusal = users.change_password(request).await;
        let refusal = refused(refusal, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&refusal), ["new_password"], "{weak:?}");
    }
    let request = as_caller(&acme.alice_token, change(PASSWORD, new));
    let changed = users.change_password(request).await.unwrap().into_inner();
    assert!(changed.effect.unwrap().effective());
    let fresh = changed.token.unwrap().access_token;
    let active = async |token: &str| server.introspect(&acme.root_token, token).await.active();
    assert!(!active(&acme.alice_token).await, "older tokens are dead");
    assert!(active(&fresh).await, "the fresh one is not");
    assert!(active(&api_key).await, "nor are API keys");
    let request = password_request("alice.acme", PASSWORD, "");
    refused(
        server.issue(request).await,
        Code::Unauthenticated,
        "CREDENTIALS_INVALID",
    );
    server.clock.advance(Duration::from_secs(10));
    server.sign_in("alice.acme", new, "").await;
});

both!(
    a_role_that_grants_less_ends_the_tokens_that_name_it_with_one_entry,
    async |server| {
        let acme = server.tenant("acme").await;
        let operator = server.operator().await;
        operator.role(&acme.space, "other", &["orders.read"]).await;
        let mut tokens = Vec::new();
        for number in 0..20 {
            let user = server.user(&acme.space, &format!("user-{number}")).await;
            let role = if number % 2 == 0 { "clerk" } else { "other" };
            operator.assign(&acme.space, &user, role).await;
            tokens.push(server.token_of(&format!("user-{number}")).await);
        }
        let before = server.authority.log.catch_up().await.unwrap().position.0;
        let effect = operator
            .set_permissions(&acme.space, "clerk", &["orders.read"])
            .await;
        let effect = effect.unwrap();
        assert_eq!(effect.position, before + 1, "one entry");
        assert!(effect.effective());
        for (number, token) in tokens.iter().enumerate() {
            let active = server.introspect(&operator.token, token).await.active();
            assert_eq!(active, number % 2 == 1, "user-{number}");
        }
        let entry = proto::revocation_subject::Subject::Role("clerk".to_owned());
        let mut watching = Watching::after(server, &acme.boss_token, "").await;
        let seen = events_of(&watching.until_caught_up().await);
        let last = seen
            .last()
            .unwrap()
            .subject
            .clone()
            .unwrap()
            .subject
            .unwrap();
        assert_eq!(last, entry);
        assert!(!matches!(last, Subject::UserId(_)));
    }
);

both!(
    c04_no_space_allows_more_than_the_authority_does,
    async |server| {
        let operator = server.operator().await;
        operator.space("acme").await;
        let mut spaces = operator.spaces();
        let day = 86_400;
        let decade = 10 * 365 * day;
        for (field, longest) in [
            ("max_token_ttl", day),
            ("max_session_age", decade),
            ("max_api_key_ttl", decade),
        ] {
            for (seconds, taken) in [
                (longest, true),
                (60, true),
                (longest + 1, false),
                (59, false),
                (0, false),
                (-1, false),
                (i64::MAX, false),
                (i64::MIN, false),
            ] {
                let span = Some(prost_types::Duration { seconds, nanos: 0 });
                let mut space = proto::Space {
                    slug: "acme".to_owned(),
                    ..Default::default()
                };
                match field {
                    "max_token_ttl" => space.max_token_ttl = span,
                    "max_session_age" => space.max_session_age = span,
                    _ => space.max_api_key_ttl = span,
                }
                let update = proto::UpdateSpaceRequest {
                    space: Some(space.clone()),
                    update_mask: mask(&[field]),
                };
                let updated = spaces
                    .update_space(as_caller(&operator.token, update))
                    .await;
                if taken {
                    updated.unwrap();
                    continue;
                }
                let refusal = refused(updated, Code::InvalidArgument, "FIELD_INVALID");
                assert_eq!(fields(&refusal), [format!("space.{field}")], "{seconds}");
                space.slug = "globex".to_owned();
                let create = proto::CreateSpaceRequest { space: Some(space) };
                let created = spaces
                    .create_space(as_caller(&operator.token, create))
                    .await;
                let refusal = refused(created, Code::InvalidArgument, "FIELD_INVALID");
                assert_eq!(fields(&refusal), [format!("space.{field}")], "{seconds}");
            }
        }
    }
);

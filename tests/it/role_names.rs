//! A role is what its name says, letter by letter, wherever it is named.

use token_authority::{
    domain::ids::UserId,
    proto::{self, revocation_subject::Subject, role_service_client::RoleServiceClient},
};
use tonic::{Code, Status};

use crate::support::{
    Server, as_caller, both, create_key, fields, key, mask, reason, refused, revocation_of,
};

/// What an admin of `acme` does with a role of this name, the field that it is named in, and what comes of it.
async fn everything_with_a_role(
    server: &Server,
    boss: &str,
    user: &UserId,
    name: &str,
) -> [(&'static str, &'static str, Result<(), Status>); 6] {
    let mut client = RoleServiceClient::new(server.connect().await);
    let assignment = || proto::RoleAssignment {
        space_id: "acme".to_owned(),
        user_id: user.to_string(),
        role: name.to_owned(),
        create_time: None,
    };
    let assign = proto::AssignRoleRequest {
        assignment: Some(assignment()),
    };
    let unassign = proto::UnassignRoleRequest {
        assignment: Some(assignment()),
    };
    let update = proto::UpdateRoleRequest {
        role: Some(proto::Role {
            space_id: "acme".to_owned(),
            name: name.to_owned(),
            permissions: vec!["orders.read".to_owned()],
            ..Default::default()
        }),
        update_mask: mask(&["permissions"]),
    };
    let delete = proto::DeleteRoleRequest {
        space: "acme".to_owned(),
        name: name.to_owned(),
    };
    let revocation = revocation_of(Subject::Role(name.to_owned()), "acme");
    let mut revocations = server.revocations().await;
    let bound = proto::ApiKey {
        roles: vec![name.to_owned()],
        ..key(&[])
    };
    let assigned = client.assign_role(as_caller(boss, assign)).await;
    let unassigned = client.unassign_role(as_caller(boss, unassign)).await;
    let updated = client.update_role(as_caller(boss, update)).await;
    let deleted = client.delete_role(as_caller(boss, delete)).await;
    let revoked = revocations.create_revocation(as_caller(boss, revocation));
    let made = server.create_key(boss, create_key(bound));
    [
        ("assign", "assignment.role", assigned.map(drop)),
        ("unassign", "assignment.role", unassigned.map(drop)),
        ("update", "role.name", updated.map(drop)),
        ("delete", "name", deleted.map(drop)),
        ("revoke", "subject.role", revoked.await.map(drop)),
        ("bind a key", "api_key.roles[0]", made.await.map(drop)),
    ]
}

both!(x05_a_role_is_named_by_its_own_name_alone, async |server| {
    let acme = server.tenant("acme").await;
    let boss = &acme.boss_token;
    let before = server.who(&acme.alice_token).await.unwrap().scopes;
    for name in [
        "Clerk",
        "CLERK ",
        " clerk",
        "clerk/..",
        "clerk\0",
        "\u{441}lerk",
        "Admin",
        "*",
        "",
    ] {
        for (what, field, answer) in everything_with_a_role(server, boss, &acme.alice, name).await {
            let refusal = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&refusal), [field], "{what} {name:?}");
        }
    }
    // What has the form of a name and is none is not taken for the nearest.
    for name in ["cler", "clerks", "clerk.", "clerk_", "root"] {
        for (what, _, answer) in everything_with_a_role(server, boss, &acme.alice, name).await {
            let expected = match what {
                // To take away what nobody has is done already, and ends no token.
                "unassign" => {
                    answer.unwrap();
                    continue;
                }
                // A key may have the roles that its user has.
                "bind a key" => (Code::PermissionDenied, "EXCEEDS_GRANT"),
                _ => (Code::NotFound, "RESOURCE_NOT_FOUND"),
            };
            let status = answer.expect_err(what);
            let told = (status.code(), &*reason(&status));
            assert_eq!(told, expected, "{what} {name}");
        }
    }
    let token = server.token_of("alice.acme").await;
    assert_eq!(server.who(&token).await.unwrap().scopes, before);
    server.who(&acme.alice_token).await.unwrap();
});

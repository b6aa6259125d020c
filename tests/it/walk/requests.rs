//! For each method a good request, about a thing of its own in `acme`.

use prost::Message;
use token_authority::{
    domain::{ids::UserId, signing_key::State},
    proto::{self, revocation_subject::Subject},
    storage::signing_keys,
};

use super::World;
use crate::support::{
    PASSWORD, create_key, introspect_request, key, mask, password_request, revocation_of,
    rotate_key, rotate_request, seconds,
};

/// The request, encoded.
pub(crate) async fn message(world: &World<'_>, path: &str) -> Vec<u8> {
    let (service, method) = path
        .trim_start_matches("/tokenauthority.v1.")
        .split_once('/')
        .unwrap();
    match service {
        "TokenService" => of_tokens(world, method).await,
        "ApiKeyService" => of_keys(world, method).await,
        "RevocationService" => of_revocations(method),
        "UserService" => of_users(world, method).await,
        "SpaceService" => of_spaces(world, method).await,
        "RoleService" => of_roles(world, method).await,
        "AuditService" => proto::ListAuditEventsRequest {
            space: "acme".to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        "SigningKeyService" => of_signing_keys(world, method).await,
        _ => Vec::new(),
    }
}

/// A name that nothing has.
fn name() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("walk-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn of_tokens(world: &World<'_>, method: &str) -> Vec<u8> {
    let alice = world.acme.name("alice");
    match method {
        "IssueToken" => password_request(&alice, PASSWORD, "").encode_to_vec(),
        "IntrospectToken" => introspect_request(&world.acme.alice_token).encode_to_vec(),
        "BatchIntrospectTokens" => proto::BatchIntrospectTokensRequest {
            tokens: vec![world.acme.alice_token.clone()],
            ..Default::default()
        }
        .encode_to_vec(),
        "RotateToken" => rotate_request(&world.server.token_of(&alice).await).encode_to_vec(),
        "RevokeToken" => proto::RevokeTokenRequest {
            token: world.server.token_of(&alice).await,
            wait: None,
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}

async fn of_keys(world: &World<'_>, method: &str) -> Vec<u8> {
    let alice = proto::ApiKey {
        space_id: "acme".to_owned(),
        user_id: world.acme.name("alice"),
        ..key(&["orders.read"])
    };
    if method == "CreateApiKey" {
        // What an API key may give is what it has itself.
        let narrow = proto::ApiKey {
            scopes: vec!["authority.api_keys.write".to_owned()],
            ..alice
        };
        return create_key(narrow).encode_to_vec();
    }
    if method == "ListApiKeys" {
        return proto::ListApiKeysRequest {
            space: "acme".to_owned(),
            user: world.acme.name("alice"),
            ..Default::default()
        }
        .encode_to_vec();
    }
    let made = world
        .server
        .made_key(&world.acme.alice_token, key(&["orders.read"]));
    let api_key_id = made.await.0;
    match method {
        "GetApiKey" => proto::GetApiKeyRequest { api_key_id }.encode_to_vec(),
        "UpdateApiKey" => proto::UpdateApiKeyRequest {
            api_key: Some(proto::ApiKey {
                api_key_id,
                ..alice
            }),
            update_mask: mask(&["display_name"]),
        }
        .encode_to_vec(),
        "RotateApiKey" => rotate_key(&api_key_id, seconds(600)).encode_to_vec(),
        _ => proto::RevokeApiKeyRequest {
            api_key_id,
            ..Default::default()
        }
        .encode_to_vec(),
    }
}

fn of_revocations(method: &str) -> Vec<u8> {
    match method {
        "CreateRevocation" => revocation_of(Subject::SessionId(name()), "acme").encode_to_vec(),
        "ListRevocations" => proto::ListRevocationsRequest {
            spaces: vec!["acme".to_owned()],
            ..Default::default()
        }
        .encode_to_vec(),
        _ => proto::WatchRevocationsRequest {
            spaces: vec!["acme".to_owned()],
            ..Default::default()
        }
        .encode_to_vec(),
    }
}

async fn someone(world: &World<'_>) -> UserId {
    world.operator.user(&world.acme.space, &name(), "").await
}

async fn of_users(world: &World<'_>, method: &str) -> Vec<u8> {
    match method {
        "CreateUser" => proto::CreateUserRequest {
            user: Some(proto::User {
                username: name(),
                space_id: "acme".to_owned(),
                ..Default::default()
            }),
            password: String::new(),
        }
        .encode_to_vec(),
        "GetUser" => proto::GetUserRequest {
            user: world.acme.name("alice"),
        }
        .encode_to_vec(),
        "ListUsers" => proto::ListUsersRequest {
            space: "acme".to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        "UpdateUser" => proto::UpdateUserRequest {
            user: Some(proto::User {
                user_id: someone(world).await.to_string(),
                display_name: "renamed".to_owned(),
                ..Default::default()
            }),
            update_mask: mask(&["display_name"]),
        }
        .encode_to_vec(),
        "DeleteUser" => proto::DeleteUserRequest {
            user: someone(world).await.to_string(),
        }
        .encode_to_vec(),
        "ChangePassword" => proto::ChangePasswordRequest {
            current_password: PASSWORD.to_owned(),
            new_password: "short".to_owned(),
        }
        .encode_to_vec(),
        // Somebody who may do more than reset passwords.
        _ => {
            let user = someone(world).await;
            world
                .operator
                .assign(&world.acme.space, &user, "clerk")
                .await;
            proto::ResetPasswordRequest {
                user: user.to_string(),
                ..Default::default()
            }
            .encode_to_vec()
        }
    }
}

async fn of_spaces(world: &World<'_>, method: &str) -> Vec<u8> {
    match method {
        "CreateSpace" => proto::CreateSpaceRequest {
            space: Some(proto::Space {
                slug: name(),
                ..Default::default()
            }),
        }
        .encode_to_vec(),
        "GetSpace" => proto::GetSpaceRequest {
            space: "acme".to_owned(),
        }
        .encode_to_vec(),
        "UpdateSpace" => proto::UpdateSpaceRequest {
            space: Some(proto::Space {
                slug: "acme".to_owned(),
                display_name: "renamed".to_owned(),
                ..Default::default()
            }),
            update_mask: mask(&["display_name"]),
        }
        .encode_to_vec(),
        "DeleteSpace" => proto::DeleteSpaceRequest {
            space: world.operator.space(&name()).await.to_string(),
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}

async fn of_roles(world: &World<'_>, method: &str) -> Vec<u8> {
    let space = "acme".to_owned();
    let role = |name: String| proto::Role {
        space_id: "acme".to_owned(),
        name,
        permissions: vec!["orders.read".to_owned()],
        ..Default::default()
    };
    let assigned = |user_id: String| proto::RoleAssignment {
        space_id: "acme".to_owned(),
        role: "clerk".to_owned(),
        user_id,
        create_time: None,
    };
    match method {
        "CreateRole" => proto::CreateRoleRequest {
            role: Some(role(name())),
        }
        .encode_to_vec(),
        "ListRoles" => proto::ListRolesRequest {
            space,
            ..Default::default()
        }
        .encode_to_vec(),
        "UpdateRole" => {
            let made = world.operator.role(&world.acme.space, &name(), &[]).await;
            proto::UpdateRoleRequest {
                role: Some(role(made.to_string())),
                update_mask: mask(&["permissions"]),
            }
            .encode_to_vec()
        }
        "DeleteRole" => {
            let made = world.operator.role(&world.acme.space, &name(), &[]).await;
            let name = made.to_string();
            proto::DeleteRoleRequest { space, name }.encode_to_vec()
        }
        "AssignRole" => proto::AssignRoleRequest {
            assignment: Some(assigned(someone(world).await.to_string())),
        }
        .encode_to_vec(),
        "UnassignRole" => {
            let user = someone(world).await;
            world
                .operator
                .assign(&world.acme.space, &user, "clerk")
                .await;
            proto::UnassignRoleRequest {
                assignment: Some(assigned(user.to_string())),
            }
            .encode_to_vec()
        }
        _ => proto::ListRoleAssignmentsRequest {
            space,
            ..Default::default()
        }
        .encode_to_vec(),
    }
}

/// About the oldest key that is prepared: there is always one.
async fn of_signing_keys(world: &World<'_>, method: &str) -> Vec<u8> {
    let keys = signing_keys::published(world.server.authority.db.reader());
    let keys = keys.await.unwrap();
    let mut prepared = keys
        .iter()
        .filter(|key| key.described.life.state == State::Prepared);
    let signing_key_id = prepared.next().unwrap().described.id.to_string();
    match method {
        "ActivateSigningKey" => proto::ActivateSigningKeyRequest {
            signing_key_id,
            force: true,
        }
        .encode_to_vec(),
        "RevokeSigningKey" => proto::RevokeSigningKeyRequest {
            signing_key_id,
            wait: None,
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}

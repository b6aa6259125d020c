//! Whoever runs the authority: `admin`, who makes spaces, users and roles, and ends them.

use token_authority::{
    domain::ids::{RoleName, SpaceId, UserId},
    proto::{
        self, role_service_client::RoleServiceClient, space_service_client::SpaceServiceClient,
        user_service_client::UserServiceClient,
    },
};
use tonic::transport::Channel;

use super::{Server, as_caller};

/// What becomes of tokens.
type Effect = Option<proto::RevocationEffect>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) token: String,
    channel: Channel,
}

impl Server {
    /// `admin`, signed in.
    pub(crate) async fn operator(&self) -> Operator {
        Operator {
            token: self.admin().await.access_token,
            channel: self.connect().await,
        }
    }
}

impl Operator {
    /// Whoever holds a token of `admin`, at a server.
    pub(crate) fn at(channel: Channel, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            channel,
        }
    }

    pub(crate) fn spaces(&self) -> SpaceServiceClient<Channel> {
        SpaceServiceClient::new(self.channel.clone())
    }

    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel.clone())
    }

    pub(crate) fn roles(&self) -> RoleServiceClient<Channel> {
        RoleServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn space(&self, slug: &str) -> SpaceId {
        let space = proto::Space {
            slug: slug.to_owned(),
            ..Default::default()
        };
        let request = proto::CreateSpaceRequest { space: Some(space) };
        let mut client = self.spaces();
        let made = client.create_space(as_caller(&self.token, request));
        SpaceId::known(made.await.unwrap().into_inner().space.unwrap().space_id)
    }

    /// A user; without a password where that is empty.
    pub(crate) async fn user(&self, home: &SpaceId, username: &str, password: &str) -> UserId {
        let user = proto::User {
            username: username.to_owned(),
            space_id: home.to_string(),
            ..Default::default()
        };
        let request = proto::CreateUserRequest {
            user: Some(user),
            password: password.to_owned(),
        };
        let mut client = self.users();
        let made = client.create_user(as_caller(&self.token, request));
        UserId::known(made.await.unwrap().into_inner().user.unwrap().user_id)
    }

    pub(crate) async fn set_disabled(&self, user: &UserId, disabled: bool) -> Effect {
        let user = proto::User {
            user_id: user.to_string(),
            disabled,
            ..Default::default()
        };
        let request = proto::UpdateUserRequest {
            user: Some(user),
            update_mask: mask(&["disabled"]),
        };
        let mut client = self.users();
        let updated = client.update_user(as_caller(&self.token, request));
        updated.await.unwrap().into_inner().effect
    }

    pub(crate) async fn delete_user(&self, user: &UserId) -> Effect {
        let request = proto::DeleteUserRequest {
            user: user.to_string(),
        };
        let mut client = self.users();
        let deleted = client.delete_user(as_caller(&self.token, request));
        deleted.await.unwrap().into_inner().effect
    }

    pub(crate) async fn set_password(&self, user: &UserId, password: &str) -> Effect {
        let request = proto::ResetPasswordRequest {
            user: user.to_string(),
            new_password: password.to_owned(),
            revoke_api_keys: false,
        };
        let mut client = self.users();
        let reset = client.reset_password(as_caller(&self.token, request));
        reset.await.unwrap().into_inner().effect
    }

    pub(crate) async fn role(&self, space: &SpaceId, name: &str, permissions: &[&str]) -> RoleName {
        let request = proto::CreateRoleRequest {
            role: Some(role(space, name, permissions)),
        };
        let mut client = self.roles();
        let made = client.create_role(as_caller(&self.token, request));
        RoleName::known(made.await.unwrap().into_inner().role.unwrap().name)
    }

    pub(crate) async fn set_permissions(
        &self,
        space: &SpaceId,
        name: &str,
        permissions: &[&str],
    ) -> Effect {
        let request = proto::UpdateRoleRequest {
            role: Some(role(space, name, permissions)),
            update_mask: mask(&["permissions"]),
        };
        let mut client = self.roles();
        let updated = client.update_role(as_caller(&self.token, request));
        updated.await.unwrap().into_inner().effect
    }

    pub(crate) async fn assign(&self, space: &SpaceId, user: &UserId, role: &str) {
        let request = proto::AssignRoleRequest {
            assignment: Some(assignment(space, user, role)),
        };
        let mut client = self.roles();
        let assigned = client.assign_role(as_caller(&self.token, request));
        assigned.await.unwrap();
    }

    pub(crate) async fn unassign(&self, space: &SpaceId, user: &UserId, role: &str) -> Effect {
        let request = proto::UnassignRoleRequest {
            assignment: Some(assignment(space, user, role)),
        };
        let mut client = self.roles();
        let unassigned = client.unassign_role(as_caller(&self.token, request));
        unassigned.await.unwrap().into_inner().effect
    }
}

/// The fields to change.
pub(crate) fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: paths.iter().map(ToString::to_string).collect(),
    })
}

fn role(space: &SpaceId, name: &str, permissions: &[&str]) -> proto::Role {
    proto::Role {
        space_id: space.to_string(),
        name: name.to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn assignment(space: &SpaceId, user: &UserId, role: &str) -> proto::RoleAssignment {
    proto::RoleAssignment {
        space_id: space.to_string(),
        user_id: user.to_string(),
        role: role.to_owned(),
        create_time: None,
    }
}

//! Whoever runs the authority: `admin`, who makes spaces, users and roles, and ends them.

use std::time::Duration;

use token_authority::{
    domain::ids::{RoleName, SpaceId, UserId},
    proto::{
        self, role_service_client::RoleServiceClient, space_service_client::SpaceServiceClient,
        user_service_client::UserServiceClient,
    },
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, transport::Channel};

use super::{Server, as_caller};

/// How long a patient operator asks: longer than a server takes to join again.
const PATIENCE: Duration = Duration::from_mins(1);

/// What becomes of tokens.
type Effect = Option<proto::RevocationEffect>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) token: String,
    channel: Channel,
    /// For how long it asks again where the answer is UNAVAILABLE.
    patience: Duration,
}

impl Server {
    /// `admin`, signed in.
    pub(crate) async fn operator(&self) -> Operator {
        Operator {
            token: self.admin().await.access_token,
            channel: self.connect().await,
            patience: Duration::ZERO,
        }
    }
}

impl Operator {
    /// Whoever holds a token of `admin`, at one of several servers: a patient one.
    pub(crate) fn at(channel: Channel, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            channel,
            patience: PATIENCE,
        }
    }

    /// The same, who asks again where the answer is UNAVAILABLE.
    pub(crate) fn patient(&self) -> Self {
        Self {
            patience: PATIENCE,
            ..self.clone()
        }
    }

    /// What it is told, at once or within its patience.
    async fn told<R: Clone, T, Answer>(&self, request: R, call: impl Fn(Request<R>) -> Answer) -> T
    where
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + self.patience;
        loop {
            let answer = call(as_caller(&self.token, request.clone())).await;
            let unavailable = matches!(&answer, Err(status) if status.code() == Code::Unavailable);
            if !unavailable || Instant::now() >= end {
                return answer.unwrap().into_inner();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
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
        let made = self.told(request, |request| {
            let mut client = self.spaces();
            async move { client.create_space(request).await }
        });
        SpaceId::known(made.await.space.unwrap().space_id)
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
        let made = self.told(request, |request| {
            let mut client = self.users();
            async move { client.create_user(request).await }
        });
        UserId::known(made.await.user.unwrap().user_id)
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
        let updated = self.told(request, |request| {
            let mut client = self.users();
            async move { client.update_user(request).await }
        });
        updated.await.effect
    }

    pub(crate) async fn delete_user(&self, user: &UserId) -> Effect {
        let request = proto::DeleteUserRequest {
            user: user.to_string(),
        };
        let deleted = self.told(request, |request| {
            let mut client = self.users();
            async move { client.delete_user(request).await }
        });
        deleted.await.effect
    }

    pub(crate) async fn set_password(&self, user: &UserId, password: &str) -> Effect {
        let request = proto::ResetPasswordRequest {
            user: user.to_string(),
            new_password: password.to_owned(),
            revoke_api_keys: false,
        };
        let reset = self.told(request, |request| {
            let mut client = self.users();
            async move { client.reset_password(request).await }
        });
        reset.await.effect
    }

    pub(crate) async fn role(&self, space: &SpaceId, name: &str, permissions: &[&str]) -> RoleName {
        let request = proto::CreateRoleRequest {
            role: Some(role(space, name, permissions)),
        };
        let made = self.told(request, |request| {
            let mut client = self.roles();
            async move { client.create_role(request).await }
        });
        RoleName::known(made.await.role.unwrap().name)
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
        let updated = self.told(request, |request| {
            let mut client = self.roles();
            async move { client.update_role(request).await }
        });
        updated.await.effect
    }

    pub(crate) async fn assign(&self, space: &SpaceId, user: &UserId, role: &str) {
        let request = proto::AssignRoleRequest {
            assignment: Some(assignment(space, user, role)),
        };
        let assigned = self.told(request, |request| {
            let mut client = self.roles();
            async move { client.assign_role(request).await }
        });
        assigned.await;
    }

    pub(crate) async fn unassign(&self, space: &SpaceId, user: &UserId, role: &str) -> Effect {
        let request = proto::UnassignRoleRequest {
            assignment: Some(assignment(space, user, role)),
        };
        let unassigned = self.told(request, |request| {
            let mut client = self.roles();
            async move { client.unassign_role(request).await }
        });
        unassigned.await.effect
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

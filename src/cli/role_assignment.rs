//! Who has which role: assign, unassign, list.

use clap::Args;

use crate::{
    cli::{client::Client, failure::Failure, paging::Paging},
    proto::{
        AssignRoleRequest, ListRoleAssignmentsRequest, ListRoleAssignmentsResponse, RoleAssignment,
        UnassignRoleRequest,
    },
};

/// What is shown of an assignment in a list.
pub(crate) const COLUMNS: &[&str] = &["user_id", "role", "space_id", "create_time"];

/// Who has which role, and where.
#[derive(Debug, Args)]
struct Assignment {
    /// The role's name
    role: String,
    /// The user's id or name
    user: String,
    /// The space in which it counts (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
}

impl Assignment {
    fn proto(self) -> RoleAssignment {
        RoleAssignment {
            space_id: self.space.unwrap_or_default(),
            role: self.role,
            user_id: self.user,
            create_time: None,
        }
    }
}

/// Give a user a role
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority role assign clerk carla --space shop
  token-authority role assign auditor bob")]
pub(crate) struct AssignArguments {
    #[command(flatten)]
    assignment: Assignment,
}

impl AssignArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let request = connection.request(AssignRoleRequest {
            assignment: Some(self.assignment.proto()),
        });
        let answer = connection.roles().assign_role(request).await?;
        client.output.show(&answer.into_inner())
    }
}

/// Take a role from a user, and kill the user's JWTs in that space
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  token-authority role unassign clerk carla --space shop")]
pub(crate) struct UnassignArguments {
    #[command(flatten)]
    assignment: Assignment,
}

impl UnassignArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let request = connection.request(UnassignRoleRequest {
            assignment: Some(self.assignment.proto()),
        });
        let answer = connection.roles().unassign_role(request).await?;
        let answer = answer.into_inner();
        if answer.effect.is_none() {
            client
                .output
                .notice("nothing to take away: the user does not have the role");
        }
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), None)
    }
}

/// List who has which role
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority role assignments --user carla
  token-authority role assignments --space shop --role clerk --quiet    # ids of users alone")]
pub(crate) struct AssignmentsArguments {
    /// In this space (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Of this user (id or username) alone
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Of this role alone
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

impl AssignmentsArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let wanted = ListRoleAssignmentsRequest {
            space: self.space.unwrap_or_default(),
            user: self.user.unwrap_or_default(),
            role: self.role.unwrap_or_default(),
            ..Default::default()
        };
        let connection = client.connect().await?;
        let page = async |page_size, page_token| {
            let request = connection.request(ListRoleAssignmentsRequest {
                page_size,
                page_token,
                ..wanted.clone()
            });
            let page = connection.roles().list_role_assignments(request).await?;
            let page = page.into_inner();
            Ok((page.assignments, page.next_page_token))
        };
        let (assignments, next_page_token) = self.paging.collect(500, page).await?;
        let listed = ListRoleAssignmentsResponse {
            assignments,
            next_page_token,
        };
        client.output.list(&listed, "assignments", COLUMNS)?;
        client.output.more(&listed.next_page_token);
        Ok(())
    }
}

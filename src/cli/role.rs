//! Roles: create, list, update, delete. Who has which is in `role_assignment`.

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        client::Client,
        confirmation::Confirmation,
        failure::Failure,
        paging::Paging,
        role_assignment::{AssignArguments, AssignmentsArguments, UnassignArguments},
        update_mask::update_mask,
    },
    proto::{
        CreateRoleRequest, DeleteRoleRequest, ListRolesRequest, ListRolesResponse, Role,
        UpdateRoleRequest,
    },
};

/// What is shown of a role in a list.
pub(crate) const COLUMNS: &[&str] = &["name", "built_in", "description", "permissions"];

/// Create, show, change and delete roles, and say who has which
#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    Create(CreateArguments),
    List(ListArguments),
    Update(UpdateArguments),
    Delete(DeleteArguments),
    Assign(AssignArguments),
    Unassign(UnassignArguments),
    Assignments(AssignmentsArguments),
}

impl RoleCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => arguments.run(client).await,
            Self::List(arguments) => arguments.run(client).await,
            Self::Update(arguments) => arguments.run(client).await,
            Self::Delete(arguments) => arguments.run(client).await,
            Self::Assign(arguments) => arguments.run(client).await,
            Self::Unassign(arguments) => arguments.run(client).await,
            Self::Assignments(arguments) => arguments.run(client).await,
        }
    }
}

/// Create a role; nobody grants what they do not hold
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority role create clerk --space shop --permission orders.read --permission orders.write
  token-authority role create helpdesk --permission authority.users.write --description 'resets passwords'")]
pub(crate) struct CreateArguments {
    /// Its name, for good: 1 to 63 of a-z, 0-9 and `._-`, beginning with a letter
    name: String,
    /// The space it belongs to (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Free text
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// What it lets its holders do; may be given several times
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
}

impl CreateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let role = Role {
            space_id: self.space.unwrap_or_default(),
            name: self.name,
            description: self.description.unwrap_or_default(),
            permissions: self.permissions,
            ..Default::default()
        };
        let connection = client.connect().await?;
        let request = connection.request(CreateRoleRequest { role: Some(role) });
        let answer = connection.roles().create_role(request).await?;
        client.output.show(&answer.into_inner())
    }
}

/// List the roles of a space by name, the built-in ones among them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority role list
  token-authority role list --space shop -o json")]
pub(crate) struct ListArguments {
    /// Of this space (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

impl ListArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let space = self.space.unwrap_or_default();
        let connection = client.connect().await?;
        let page = async |page_size, page_token| {
            let request = connection.request(ListRolesRequest {
                space: space.clone(),
                page_size,
                page_token,
            });
            let page = connection.roles().list_roles(request).await?.into_inner();
            Ok((page.roles, page.next_page_token))
        };
        let (roles, next_page_token) = self.paging.collect(500, page).await?;
        let listed = ListRolesResponse {
            roles,
            next_page_token,
        };
        client.output.list(&listed, "roles", COLUMNS)?;
        client.output.more(&listed.next_page_token);
        Ok(())
    }
}

/// Change a role; what is not given stays as it is
///
/// The permissions that are given take the place of all before. Where that takes one away, the JWTs that name the role are
/// dead.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority role update clerk --space shop --permission orders.read
  token-authority role update clerk --space shop --clear permissions")]
pub(crate) struct UpdateArguments {
    /// The role's name
    name: String,
    /// The space it belongs to (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Free text
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// What it lets its holders do; may be given several times
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// Empty this field; may be given several times
    #[arg(long, value_enum, value_name = "FIELD")]
    clear: Vec<Clearable>,
}

/// What can be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Clearable {
    /// The description
    Description,
    /// The permissions: it grants nothing
    Permissions,
}

impl Clearable {
    fn path(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Permissions => "permissions",
        }
    }
}

impl UpdateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let message = self.request()?;
        let connection = client.connect().await?;
        let request = connection.request(message);
        let answer = connection.roles().update_role(request).await?.into_inner();
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), None)
    }

    fn request(self) -> Result<UpdateRoleRequest, Failure> {
        let given = [
            ("description", self.description.is_some()),
            ("permissions", !self.permissions.is_empty()),
        ];
        let mask = update_mask(&given, self.clear.into_iter().map(Clearable::path))?;
        let role = Role {
            space_id: self.space.unwrap_or_default(),
            name: self.name,
            description: self.description.unwrap_or_default(),
            permissions: self.permissions,
            ..Default::default()
        };
        Ok(UpdateRoleRequest {
            role: Some(role),
            update_mask: Some(mask),
        })
    }
}

/// Delete a role and take it from all who have it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  token-authority role delete clerk --space shop --yes")]
pub(crate) struct DeleteArguments {
    /// The role's name
    name: String,
    /// The space it belongs to (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    #[command(flatten)]
    confirmation: Confirmation,
}

impl DeleteArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let question = format!(
            "Delete the role {} and take it from all who have it?",
            self.name
        );
        self.confirmation.ask(&question)?;
        let connection = client.connect().await?;
        let request = connection.request(DeleteRoleRequest {
            space: self.space.unwrap_or_default(),
            name: self.name,
        });
        let answer = connection.roles().delete_role(request).await?.into_inner();
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), None)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        update: UpdateArguments,
    }

    #[test]
    fn the_mask_names_what_was_given_and_nothing_else() {
        for (line, paths, permissions) in [
            ("--permission b --permission a", ["permissions"], 2),
            ("--clear permissions", ["permissions"], 0),
            ("--description x", ["description"], 0),
        ] {
            let line = format!("update clerk --space shop {line}");
            let line = Line::parse_from(line.split_whitespace());
            let request = line.update.request().unwrap();
            assert_eq!(request.update_mask.unwrap_or_default().paths, paths);
            let role = request.role.unwrap_or_default();
            assert_eq!(
                (role.space_id.as_str(), role.name.as_str()),
                ("shop", "clerk")
            );
            assert_eq!(role.permissions.len(), permissions);
        }
    }
}

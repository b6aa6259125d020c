//! Users: create, get, list, update, delete. Their passwords are in `user_password`.

use clap::{Args, Subcommand, ValueEnum};
use secrecy::ExposeSecret as _;

use crate::{
    cli::{
        client::Client,
        confirmation::Confirmation,
        failure::Failure,
        paging::Paging,
        secret::NewPassword,
        update_mask::update_mask,
        user_password::{ChangePasswordArguments, ResetPasswordArguments},
    },
    proto::{
        CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse,
        UpdateUserRequest, User,
    },
};

/// What is shown of a user in a list.
pub(crate) const COLUMNS: &[&str] = &[
    "user_id",
    "username",
    "display_name",
    "email",
    "disabled",
    "password_set",
    "last_sign_in_time",
];

/// Create, show, change and delete users, and set passwords
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    Create(CreateArguments),
    Get(GetArguments),
    List(ListArguments),
    Update(UpdateArguments),
    Delete(DeleteArguments),
    ResetPassword(ResetPasswordArguments),
    ChangePassword(ChangePasswordArguments),
}

impl UserCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => arguments.run(client).await,
            Self::Get(arguments) => arguments.run(client).await,
            Self::List(arguments) => arguments.run(client).await,
            Self::Update(arguments) => arguments.run(client).await,
            Self::Delete(arguments) => arguments.run(client).await,
            Self::ResetPassword(arguments) => arguments.run(client).await,
            Self::ChangePassword(arguments) => arguments.run(client).await,
        }
    }
}

/// Create a user; without a password it can hold API keys but not sign in
///
/// A password is 15 to 256 characters long, not a common one, and does not contain the username.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority user create carla --space shop --email carla@shop.example --ask-password
  token-authority user create batch --name 'nightly jobs'    # a service account
  token-authority user create carla && token-authority user reset-password carla --quiet > first-password")]
pub(crate) struct CreateArguments {
    /// What the user signs in with: 1 to 64 of a-z, 0-9 and `._@+-`
    username: String,
    /// The home space (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// The e-mail address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// What people call the user
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    password: NewPassword,
    /// Make it switched off
    #[arg(long)]
    disabled: bool,
}

impl CreateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let password = self.password.read(&self.username)?;
        let user = User {
            username: self.username,
            space_id: self.space.unwrap_or_default(),
            email: self.email.unwrap_or_default(),
            display_name: self.name.unwrap_or_default(),
            disabled: self.disabled,
            ..Default::default()
        };
        let connection = client.connect().await?;
        let request = connection.request(CreateUserRequest {
            user: Some(user),
            password: password
                .map(|password| password.expose_secret().to_owned())
                .unwrap_or_default(),
        });
        let answer = connection.users().create_user(request).await?;
        client.output.show(&answer.into_inner())
    }
}

/// Show a user
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  token-authority user get carla -o json")]
pub(crate) struct GetArguments {
    /// The user's id or name
    user: String,
}

impl GetArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let request = connection.request(GetUserRequest { user: self.user });
        let answer = connection.users().get_user(request).await?;
        client.output.show(&answer.into_inner())
    }
}

/// List users by name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority user list --space shop
  token-authority user list --limit 0 --quiet    # ids alone")]
pub(crate) struct ListArguments {
    /// With this home space (slug or id) alone
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
            let request = connection.request(ListUsersRequest {
                space: space.clone(),
                page_size,
                page_token,
            });
            let page = connection.users().list_users(request).await?.into_inner();
            Ok((page.users, page.next_page_token))
        };
        let (users, next_page_token) = self.paging.collect(500, page).await?;
        let listed = ListUsersResponse {
            users,
            next_page_token,
        };
        client.output.list(&listed, "users", COLUMNS)?;
        client.output.more(&listed.next_page_token);
        Ok(())
    }
}

/// Change a user; what is not given stays as it is
///
/// Switching a user off kills its JWTs and switches its API keys off, too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority user update carla --disable
  token-authority user update carla --email carla@shop.example --clear name")]
pub(crate) struct UpdateArguments {
    /// The user's id or name
    user: String,
    /// The e-mail address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// What people call the user
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Switch it off
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Switch it on
    #[arg(long)]
    enable: bool,
    /// Empty this field; may be given several times
    #[arg(long, value_enum, value_name = "FIELD")]
    clear: Vec<Clearable>,
}

/// What can be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Clearable {
    /// The e-mail address
    Email,
    /// What people call the user
    Name,
}

impl Clearable {
    fn path(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Name => "display_name",
        }
    }
}

impl UpdateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let message = self.request()?;
        let connection = client.connect().await?;
        let request = connection.request(message);
        let answer = connection.users().update_user(request).await?.into_inner();
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), None)
    }

    fn request(self) -> Result<UpdateUserRequest, Failure> {
        let given = [
            ("email", self.email.is_some()),
            ("display_name", self.name.is_some()),
            ("disabled", self.disable || self.enable),
        ];
        let mask = update_mask(&given, self.clear.into_iter().map(Clearable::path))?;
        let user = User {
            user_id: self.user,
            email: self.email.unwrap_or_default(),
            display_name: self.name.unwrap_or_default(),
            disabled: self.disable,
            ..Default::default()
        };
        Ok(UpdateUserRequest {
            user: Some(user),
            update_mask: Some(mask),
        })
    }
}

/// Delete a user with its keys, roles and tokens; its name and id are never given out again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  token-authority user delete carla --yes")]
pub(crate) struct DeleteArguments {
    /// The user's id or name
    user: String,
    #[command(flatten)]
    confirmation: Confirmation,
}

impl DeleteArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let question = format!(
            "Delete the user {} with its keys, roles and tokens, for good?",
            self.user
        );
        self.confirmation.ask(&question)?;
        let connection = client.connect().await?;
        let request = connection.request(DeleteUserRequest { user: self.user });
        let answer = connection.users().delete_user(request).await?.into_inner();
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

    fn request(line: &str) -> UpdateUserRequest {
        let line = format!("update carla {line}");
        let line = Line::parse_from(line.split_whitespace());
        line.update.request().unwrap()
    }

    #[test]
    fn the_mask_names_what_was_given_and_nothing_else() {
        for (line, paths) in [
            ("--disable", ["disabled"].as_slice()),
            ("--enable --clear email", &["disabled", "email"]),
            ("--email a@b --name x", &["email", "display_name"]),
        ] {
            let mask = request(line).update_mask.unwrap_or_default();
            assert_eq!(mask.paths, paths, "{line}");
        }
    }

    #[test]
    fn switching_on_is_sent_as_an_empty_field() {
        assert!(!request("--enable").user.unwrap_or_default().disabled);
        assert!(request("--disable").user.unwrap_or_default().disabled);
    }
}

//! Spaces: create, get, list, update, delete.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        client::Client,
        confirmation::Confirmation,
        failure::Failure,
        input::{self, proto_duration},
        paging::Paging,
        update_mask::update_mask,
    },
    proto::{
        CreateSpaceRequest, DeleteSpaceRequest, GetSpaceRequest, ListSpacesRequest,
        ListSpacesResponse, Space, UpdateSpaceRequest,
    },
};

/// What is shown of a space in a list.
pub(crate) const COLUMNS: &[&str] = &[
    "space_id",
    "slug",
    "display_name",
    "key_prefix",
    "max_token_ttl",
    "max_session_age",
    "max_api_key_ttl",
];

/// Create, show, change and delete spaces, the tenants
#[derive(Debug, Subcommand)]
pub(crate) enum SpaceCommand {
    Create(CreateArguments),
    Get(GetArguments),
    List(ListArguments),
    Update(UpdateArguments),
    Delete(DeleteArguments),
}

impl SpaceCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => arguments.run(client).await,
            Self::Get(arguments) => arguments.run(client).await,
            Self::List(arguments) => arguments.run(client).await,
            Self::Update(arguments) => arguments.run(client).await,
            Self::Delete(arguments) => arguments.run(client).await,
        }
    }
}

/// What holds for all that a space has.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// What people call it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What its new API keys begin with: 2 to 12 of a-z and 0-9; `ta` otherwise
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<String>,
    /// Longest life of a JWT, 1m to 24h; 24h otherwise
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    max_token_ttl: Option<Duration>,
    /// How long a sign-in can be carried on by rotating its JWT; 30d otherwise
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    max_session_age: Option<Duration>,
    /// Longest life of an API key; otherwise any, and keys without expiry
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    max_api_key_ttl: Option<Duration>,
    /// Whom a JWT is for that asks for nobody; may be given several times; this service otherwise
    #[arg(long = "default-audience", value_name = "AUDIENCE")]
    default_audiences: Vec<String>,
}

impl Rules {
    fn given(&self) -> [(&'static str, bool); 6] {
        [
            ("display_name", self.name.is_some()),
            ("key_prefix", self.key_prefix.is_some()),
            ("max_token_ttl", self.max_token_ttl.is_some()),
            ("max_session_age", self.max_session_age.is_some()),
            ("max_api_key_ttl", self.max_api_key_ttl.is_some()),
            ("default_audiences", !self.default_audiences.is_empty()),
        ]
    }

    fn space(self) -> Space {
        Space {
            display_name: self.name.unwrap_or_default(),
            key_prefix: self.key_prefix.unwrap_or_default(),
            max_token_ttl: self.max_token_ttl.map(proto_duration),
            max_session_age: self.max_session_age.map(proto_duration),
            max_api_key_ttl: self.max_api_key_ttl.map(proto_duration),
            default_audiences: self.default_audiences,
            ..Default::default()
        }
    }
}

/// Create a space
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority space create shop --name 'The shop'
  token-authority space create shop --max-token-ttl 1h --max-api-key-ttl 90d --key-prefix shop")]
pub(crate) struct CreateArguments {
    /// Its short name, for good: 3 to 63 of a-z, 0-9 and `-`, beginning with a letter
    slug: String,
    #[command(flatten)]
    rules: Rules,
}

impl CreateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let space = Space {
            slug: self.slug,
            ..self.rules.space()
        };
        let connection = client.connect().await?;
        let request = connection.request(CreateSpaceRequest { space: Some(space) });
        let answer = connection.spaces().create_space(request).await?;
        client.output.show(&answer.into_inner())
    }
}

/// Show a space
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  token-authority space get shop")]
pub(crate) struct GetArguments {
    /// The space's slug or id
    space: String,
}

impl GetArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let request = connection.request(GetSpaceRequest { space: self.space });
        let answer = connection.spaces().get_space(request).await?;
        client.output.show(&answer.into_inner())
    }
}

/// List the spaces that the caller may read, by slug
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority space list
  token-authority space list --limit 0 -o json")]
pub(crate) struct ListArguments {
    #[command(flatten)]
    paging: Paging,
}

impl ListArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let page = async |page_size, page_token| {
            let request = connection.request(ListSpacesRequest {
                page_size,
                page_token,
            });
            let page = connection.spaces().list_spaces(request).await?.into_inner();
            Ok((page.spaces, page.next_page_token))
        };
        let (spaces, next_page_token) = self.paging.collect(500, page).await?;
        let listed = ListSpacesResponse {
            spaces,
            next_page_token,
        };
        client.output.list(&listed, "spaces", COLUMNS)?;
        client.output.more(&listed.next_page_token);
        Ok(())
    }
}

/// Change a space; what is not given stays as it is
///
/// The audiences that are given take the place of all before. Keys that exist keep their prefix.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority space update shop --max-token-ttl 15m
  token-authority space update shop --clear max-api-key-ttl --clear default-audiences")]
pub(crate) struct UpdateArguments {
    /// The space's slug or id
    space: String,
    #[command(flatten)]
    rules: Rules,
    /// Put this field back to what holds otherwise; may be given several times
    #[arg(long, value_enum, value_name = "FIELD")]
    clear: Vec<Clearable>,
}

/// What can be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Clearable {
    /// What people call it
    Name,
    /// The prefix of new keys: `ta`
    KeyPrefix,
    /// The longest life of a JWT: 24 hours
    MaxTokenTtl,
    /// How long a sign-in can be carried on: 30 days
    MaxSessionAge,
    /// The longest life of an API key: any
    MaxApiKeyTtl,
    /// The audiences of a JWT that asks for none: this service
    DefaultAudiences,
}

impl Clearable {
    fn path(self) -> &'static str {
        match self {
            Self::Name => "display_name",
            Self::KeyPrefix => "key_prefix",
            Self::MaxTokenTtl => "max_token_ttl",
            Self::MaxSessionAge => "max_session_age",
            Self::MaxApiKeyTtl => "max_api_key_ttl",
            Self::DefaultAudiences => "default_audiences",
        }
    }
}

impl UpdateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let message = self.request()?;
        let connection = client.connect().await?;
        let request = connection.request(message);
        let answer = connection.spaces().update_space(request).await?;
        client.output.show(&answer.into_inner())
    }

    fn request(self) -> Result<UpdateSpaceRequest, Failure> {
        let cleared = self.clear.into_iter().map(Clearable::path);
        let mask = update_mask(&self.rules.given(), cleared)?;
        let space = Space {
            space_id: self.space,
            ..self.rules.space()
        };
        Ok(UpdateSpaceRequest {
            space: Some(space),
            update_mask: Some(mask),
        })
    }
}

/// Delete a space with its users, keys, roles and tokens; neither ids nor names are ever given out again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  token-authority space delete shop --yes")]
pub(crate) struct DeleteArguments {
    /// The space's slug or id
    space: String,
    #[command(flatten)]
    confirmation: Confirmation,
}

impl DeleteArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let question = format!(
            "Delete the space {} with its users, keys, roles and tokens, for good?",
            self.space
        );
        self.confirmation.ask(&question)?;
        let connection = client.connect().await?;
        let request = connection.request(DeleteSpaceRequest { space: self.space });
        let answer = connection.spaces().delete_space(request).await?;
        let answer = answer.into_inner();
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

    fn request(line: &str) -> UpdateSpaceRequest {
        let line = format!("update shop {line}");
        let line = Line::parse_from(line.split_whitespace());
        line.update.request().unwrap()
    }

    #[test]
    fn every_field_that_a_space_can_change_has_its_option() {
        let line = "--name x --key-prefix ab --max-token-ttl 1h --max-session-age 7d \
            --max-api-key-ttl 90d --default-audience a --default-audience b";
        let request = request(line);
        let paths = request.update_mask.unwrap_or_default().paths;
        assert_eq!(
            paths,
            [
                "display_name",
                "key_prefix",
                "max_token_ttl",
                "max_session_age",
                "max_api_key_ttl",
                "default_audiences"
            ]
        );
        let space = request.space.unwrap_or_default();
        assert_eq!(
            space.max_api_key_ttl.map(|ttl| ttl.seconds),
            Some(7_776_000)
        );
        assert_eq!(space.default_audiences, ["a", "b"]);
    }

    #[test]
    fn what_is_cleared_is_sent_empty() {
        let request = request("--clear max-token-ttl --name x");
        let paths = request.update_mask.unwrap_or_default().paths;
        assert_eq!(paths, ["display_name", "max_token_ttl"]);
        assert_eq!(request.space.unwrap_or_default().max_token_ttl, None);
    }
}

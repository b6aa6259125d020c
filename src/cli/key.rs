//! API keys: create, get, list, rotate, revoke. Changing them is in `key_change`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        client::Client,
        failure::Failure,
        input::{self, Reason, When, proto_duration, proto_reason, proto_time},
        key_change::UpdateArguments,
        paging::Paging,
    },
    domain::ids::ApiKeyId,
    proto::{
        ApiKey, ApiKeyState, CreateApiKeyRequest, GetApiKeyRequest, ListApiKeysRequest,
        ListApiKeysResponse, RevokeApiKeyRequest, RotateApiKeyRequest,
    },
};

/// What is shown of a key in a list.
pub(crate) const COLUMNS: &[&str] = &[
    "api_key_id",
    "display_name",
    "state",
    "hint",
    "user_id",
    "expire_time",
    "last_use_time",
];

/// Create, show, change, rotate and revoke API keys
///
/// A key is named by its id, the 16 characters between the underscores; a whole key is a secret and is never an argument.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    Create(CreateArguments),
    Get(GetArguments),
    List(ListArguments),
    Update(UpdateArguments),
    Rotate(RotateArguments),
    Revoke(RevokeArguments),
}

impl KeyCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => arguments.run(client).await,
            Self::Get(arguments) => arguments.run(client).await,
            Self::List(arguments) => arguments.run(client).await,
            Self::Update(arguments) => arguments.run(client).await,
            Self::Rotate(arguments) => arguments.run(client).await,
            Self::Revoke(arguments) => arguments.run(client).await,
        }
    }
}

/// Which key a verb is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The key's id
    id: Option<String>,
    /// The key that the caller came by
    #[arg(long)]
    own: bool,
}

impl Which {
    /// The id as the contract takes it: empty for the caller's own.
    fn id(self) -> Result<String, Failure> {
        self.id.map_or(Ok(String::new()), key_id)
    }
}

/// Takes an id. What else was given is not repeated: it may well be the whole key.
pub(crate) fn key_id(text: String) -> Result<String, Failure> {
    if ApiKeyId::parse(&text).is_none() {
        return Err(Failure::usage(
            "not the id of an API key, which is 16 letters and digits: the part between the underscores",
        ));
    }
    Ok(text)
}

/// Create a key and print it, this once
///
/// It speaks for the caller, in the caller's space, for 90 days, unless told otherwise. Permissions that begin with
/// `authority.` it has only where --scope names them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority key create ci --scope orders.read --expires 30d
  token-authority key create gateway --scope authority.tokens.introspect --quiet > gateway.key
  token-authority key create nightly --user batch --role reader --no-expiry
  token-authority key create office --allow 192.0.2.0/24 --label team=finance")]
pub(crate) struct CreateArguments {
    /// What people call it
    name: String,
    /// Free text
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The space it belongs to (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// The user it speaks for (id or username); the caller otherwise
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    bounds: Bounds,
    /// Never stop being good
    #[arg(long, conflicts_with = "expires")]
    no_expiry: bool,
    /// Make it switched off
    #[arg(long)]
    disabled: bool,
    /// A UUID: for 10 minutes, a retry with the same one gets the same key
    #[arg(long, value_name = "UUID")]
    idempotency_key: Option<String>,
}

/// What a key is good for.
#[derive(Debug, Args)]
pub(crate) struct Bounds {
    /// Act with this role of the user alone; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Allow this scope alone; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Good for this audience alone; may be given several times
    #[arg(long = "audience", value_name = "AUDIENCE")]
    pub(crate) audiences: Vec<String>,
    /// Good from this source network alone; may be given several times
    #[arg(long = "allow", value_name = "CIDR")]
    pub(crate) allowed_cidrs: Vec<String>,
    /// A label of your own; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = input::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// When it stops being good: a time (RFC 3339), a date, or a duration from now (90d)
    #[arg(long, value_name = "TIME", value_parser = input::when)]
    pub(crate) expires: Option<When>,
}

impl CreateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let now = client.clock.now();
        let api_key = ApiKey {
            space_id: self.space.unwrap_or_default(),
            user_id: self.user.unwrap_or_default(),
            display_name: self.name,
            description: self.description.unwrap_or_default(),
            roles: self.bounds.roles,
            scopes: self.bounds.scopes,
            audiences: self.bounds.audiences,
            allowed_cidrs: self.bounds.allowed_cidrs,
            labels: self.bounds.labels.into_iter().collect(),
            disabled: self.disabled,
            expire_time: self
                .bounds
                .expires
                .map(|when| proto_time(when.ahead_of(now))),
            ..Default::default()
        };
        let connection = client.connect().await?;
        let request = connection.request(CreateApiKeyRequest {
            api_key: Some(api_key),
            no_expiry: self.no_expiry,
            idempotency_key: self.idempotency_key.unwrap_or_default(),
        });
        let answer = connection.api_keys().create_api_key(request).await?;
        let answer = answer.into_inner();
        client.output.show(&answer)?;
        warn_of_scopes_not_granted(client, answer.api_key.as_ref(), &answer.granted_scopes);
        Ok(())
    }
}

/// A key may name scopes that its user does not have yet; whoever made it should know.
pub(crate) fn warn_of_scopes_not_granted(
    client: &Client,
    key: Option<&ApiKey>,
    granted: &[String],
) {
    let named = key.map_or(&[][..], |key| &key.scopes);
    let lacking: Vec<&str> = named
        .iter()
        .filter(|scope| !granted.contains(scope))
        .map(String::as_str)
        .collect();
    if !lacking.is_empty() {
        client.output.warning(&format!(
            "the key does not have {} until a role of its user grants it",
            lacking.join(", ")
        ));
    }
}

/// Show a key's description, never the key itself
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority key get XkQBXKr652MV1VF9
  token-authority key get --own --token-file ci.key")]
pub(crate) struct GetArguments {
    #[command(flatten)]
    which: Which,
}

impl GetArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let api_key_id = self.which.id()?;
        let connection = client.connect().await?;
        let request = connection.request(GetApiKeyRequest { api_key_id });
        let answer = connection.api_keys().get_api_key(request).await?;
        client.output.show(&answer.into_inner())
    }
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Good
    Active,
    /// Switched off
    Disabled,
    /// Past its expiry
    Expired,
    /// Ended for good
    Revoked,
}

impl State {
    fn proto(self) -> i32 {
        let state = match self {
            Self::Active => ApiKeyState::Active,
            Self::Disabled => ApiKeyState::Disabled,
            Self::Expired => ApiKeyState::Expired,
            Self::Revoked => ApiKeyState::Revoked,
        };
        state.into()
    }
}

/// List keys, newest first
///
/// When a key was last used is written once a minute: `last_use_time` lags up to a minute behind.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority key list --user alice
  token-authority key list --state active --expire-before 14d
  token-authority key list --unused-since 90d --quiet    # ids alone")]
pub(crate) struct ListArguments {
    /// Of this space (slug or id); the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Of this user alone (id or username)
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// In this state; may be given several times; all but revoked otherwise
    #[arg(long = "state", value_enum)]
    states: Vec<State>,
    /// That expire before this time, or within this duration (14d)
    #[arg(long, value_name = "TIME", value_parser = input::when)]
    expire_before: Option<When>,
    /// Not used since this time, or for this duration (90d)
    #[arg(long, value_name = "TIME", value_parser = input::when)]
    unused_since: Option<When>,
    #[command(flatten)]
    paging: Paging,
}

impl ListArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let now = client.clock.now();
        let mut wanted = ListApiKeysRequest {
            space: self.space.unwrap_or_default(),
            user: self.user.unwrap_or_default(),
            page_size: self.paging.page_size(500),
            page_token: self.paging.first_page(),
            states: self.states.into_iter().map(State::proto).collect(),
            expire_before: self
                .expire_before
                .map(|when| proto_time(when.ahead_of(now))),
            unused_since: self
                .unused_since
                .map(|when| proto_time(when.back_from(now))),
        };
        let connection = client.connect().await?;
        let mut listed = ListApiKeysResponse::default();
        loop {
            let request = connection.request(wanted.clone());
            let page = connection.api_keys().list_api_keys(request).await?;
            let mut page = page.into_inner();
            listed.api_keys.append(&mut page.api_keys);
            listed.next_page_token = page.next_page_token;
            if self
                .paging
                .is_done(listed.api_keys.len(), &listed.next_page_token)
            {
                break;
            }
            wanted.page_token.clone_from(&listed.next_page_token);
        }
        client.output.list(&listed, "api_keys", COLUMNS)?;
        client.output.more(&listed.next_page_token);
        Ok(())
    }
}

/// Give a key a new secret and print it, this once
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority key rotate XkQBXKr652MV1VF9 --overlap 1h --quiet > ci.key
  token-authority key rotate --own --token-file ci.key --quiet > new.key")]
pub(crate) struct RotateArguments {
    #[command(flatten)]
    which: Which,
    /// How long the old secret stays good, up to 30d; 24h otherwise, 0 not at all
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    overlap: Option<Duration>,
    /// A UUID: for 10 minutes, a retry with the same one gets the same secret
    #[arg(long, value_name = "UUID")]
    idempotency_key: Option<String>,
}

impl RotateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let message = RotateApiKeyRequest {
            api_key_id: self.which.id()?,
            overlap: self.overlap.map(proto_duration),
            idempotency_key: self.idempotency_key.unwrap_or_default(),
        };
        let connection = client.connect().await?;
        let request = connection.request(message);
        let answer = connection.api_keys().rotate_api_key(request).await?;
        let answer = answer.into_inner();
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), None)
    }
}

/// End a key for good, with every secret it has and every JWT issued from it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority key revoke XkQBXKr652MV1VF9 --reason compromised --wait 30s")]
pub(crate) struct RevokeArguments {
    #[command(flatten)]
    which: Which,
    /// Why
    #[arg(long, value_enum)]
    reason: Option<Reason>,
    /// How long to wait for it to be effective, up to 30s; 5s otherwise, 0 does not wait
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    wait: Option<Duration>,
}

impl RevokeArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let message = RevokeApiKeyRequest {
            api_key_id: self.which.id()?,
            reason: proto_reason(self.reason),
            wait: self.wait.map(proto_duration),
        };
        let connection = client.connect().await?;
        let request = connection.waiting_request(message, self.wait);
        let answer = connection.api_keys().revoke_api_key(request).await?;
        let answer = answer.into_inner();
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_key_is_refused_and_not_repeated() {
        let failure = key_id("ta_XkQBXKr652MV1VF9_secret".to_owned()).unwrap_err();
        assert!(!failure.to_string().contains("secret"));
        assert!(key_id("XkQBXKr652MV1VF9".to_owned()).is_ok());
    }
}

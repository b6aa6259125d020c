//! Tokens: issue, introspect, rotate, revoke.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    cli::{
        client::Client,
        failure::{Exit, Failure},
        input::{self, proto_duration},
        login::{self, Wanted, password_credential},
        secret::{self, PasswordSource, TokenSource},
        stored_login::LoginStore,
    },
    proto::{
        InactiveReason, IntrospectTokenRequest, RevokeTokenRequest, RotateTokenRequest,
        issue_token_request,
    },
};

/// Issue, introspect, rotate and revoke tokens
///
/// Tokens are read from stdin (--stdin), from a file (--file) or are the caller's own (--own), never from an argument.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    Issue(IssueArguments),
    Introspect(IntrospectArguments),
    Rotate(RotateArguments),
    Revoke(RevokeArguments),
}

impl TokenCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Issue(arguments) => arguments.run(client).await,
            Self::Introspect(arguments) => arguments.run(client).await,
            Self::Rotate(arguments) => arguments.run(client).await,
            Self::Revoke(arguments) => arguments.run(client).await,
        }
    }
}

/// Exchange a password or an API key for a JWT, and print it
///
/// With --username it is a password that is exchanged, otherwise an API key: of --api-key-file, otherwise the caller's own
/// (--token-file or `TOKEN_AUTHORITY_TOKEN`). The stored login is left as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority token issue --username alice --ttl 15m --quiet
  token-authority token issue --api-key-file ci.key --audience orders --scope orders.read
  TOKEN_AUTHORITY_TOKEN_FILE=ci.key token-authority token issue -o json")]
pub(crate) struct IssueArguments {
    /// Exchange the password of this user
    #[arg(long, value_name = "NAME", conflicts_with = "api_key_file")]
    username: Option<String>,
    #[command(flatten)]
    password: PasswordSource,
    /// Exchange the API key that this file holds, `-` for stdin
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
}

impl IssueArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let credential = match self.username {
            Some(username) => password_credential(username, &self.password)?,
            None if self.password.is_given() => {
                return Err(Failure::usage("a password takes --username"));
            }
            None => {
                let given = match &self.api_key_file {
                    Some(path) => Some(secret::from_file(path)?),
                    None => client.given_token()?,
                };
                let key = given.ok_or_else(nothing_to_exchange)?;
                issue_token_request::Credential::ApiKeyToken(key.expose_secret().to_owned())
            }
        };
        let connection = client.connect_anonymously().await?;
        let request = connection.request(self.wanted.of(credential));
        let answer = connection.tokens().issue_token(request).await?;
        client.output.show(&answer.into_inner())
    }
}

/// The stored login is a JWT, and no JWT is exchanged for another one here.
fn nothing_to_exchange() -> Failure {
    Failure::usage(
        "nothing to exchange: give --username for a password, or an API key by --api-key-file, --token-file or \
         TOKEN_AUTHORITY_TOKEN; `token rotate --own` renews the stored login",
    )
}

/// Say whether a token is active now, and what it allows
///
/// Takes a JWT or an API key. The exit code is 0 for an active token and 1 for any other, which still prints the answer. The
/// caller needs the permission authority.tokens.introspect; the reason why a token is inactive takes authority.tokens.explain.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority token introspect --stdin < token.jwt
  token-authority token introspect --file ci.key --audience orders --require-scope orders.read
  token-authority token introspect --own -o json")]
pub(crate) struct IntrospectArguments {
    #[command(flatten)]
    token: TokenSource,
    /// Take a token that is not meant for this audience for inactive
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// Take a token that lacks this scope for inactive; may be given several times
    #[arg(long = "require-scope", value_name = "SCOPE")]
    required_scopes: Vec<String>,
    /// Reflect at least every revocation up to this cursor
    #[arg(long, value_name = "CURSOR")]
    min_cursor: Option<String>,
    /// From where the token was presented, for API keys that are bound to networks
    #[arg(long, value_name = "ADDRESS")]
    client_address: Option<String>,
}

impl IntrospectArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let token = subject(client, &self.token)?.token;
        let connection = client.connect().await?;
        let request = connection.request(IntrospectTokenRequest {
            token: token.expose_secret().to_owned(),
            audience: self.audience.unwrap_or_default(),
            required_scopes: self.required_scopes,
            min_cursor: self.min_cursor.unwrap_or_default(),
            client_address: self.client_address.unwrap_or_default(),
        });
        let answer = connection.tokens().introspect_token(request).await?;
        let answer = answer.into_inner();
        client.output.show(&answer)?;
        let verdict = answer.introspection.unwrap_or_default();
        if verdict.active() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Failed,
            inactive(verdict.inactive_reason()),
        ))
    }
}

fn inactive(reason: InactiveReason) -> String {
    let why = match reason {
        InactiveReason::Unspecified => return "the token is not active".to_owned(),
        InactiveReason::Malformed => "malformed",
        InactiveReason::Unknown => "unknown",
        InactiveReason::Expired => "expired",
        InactiveReason::Revoked => "revoked",
        InactiveReason::Disabled => "disabled",
        InactiveReason::AudienceMismatch => "not meant for this audience",
        InactiveReason::ScopeMissing => "lacks a required scope",
        InactiveReason::NotYetValid => "not yet valid",
        InactiveReason::AddressNotAllowed => "not allowed from this address",
    };
    format!("the token is not active: {why}")
}

/// Exchange a live JWT for a fresh one of the same session
///
/// The old one is dead at once, or after --overlap. The fresh one is printed; where the old one was the stored login
/// (--own), the fresh one takes its place instead.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority token rotate --own
  token-authority token rotate --stdin --overlap 1m --quiet < old.jwt > new.jwt")]
pub(crate) struct RotateArguments {
    #[command(flatten)]
    token: TokenSource,
    /// How long the old token stays active, up to 5m; not at all otherwise
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    overlap: Option<Duration>,
    /// A UUID: for 10 minutes, a retry with the same one gets the same answer
    #[arg(long, value_name = "UUID")]
    idempotency_key: Option<String>,
}

impl RotateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let old = subject(client, &self.token)?;
        let connection = client.connect_anonymously().await?;
        let request = connection.request(RotateTokenRequest {
            access_token: old.token.expose_secret().to_owned(),
            overlap: self.overlap.map(proto_duration),
            idempotency_key: self.idempotency_key.unwrap_or_default(),
        });
        let answer = connection.tokens().rotate_token(request).await?;
        let mut answer = answer.into_inner();
        if let Some(token) = answer.token.as_mut().filter(|_| old.stored) {
            login::keep(client, token)?;
        }
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), None)
    }
}

/// Revoke a JWT with its whole session, or an API key, by holding it
///
/// Returns once nobody can call the token active any more, or when --wait is over. A token that this authority does not know
/// is a success.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority token revoke --stdin < leaked.jwt
  token-authority token revoke --file ci.key --wait 30s")]
pub(crate) struct RevokeArguments {
    #[command(flatten)]
    token: TokenSource,
    /// How long to wait for it to be effective, up to 30s; 5s otherwise, 0 does not wait
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    wait: Option<Duration>,
}

impl RevokeArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let token = subject(client, &self.token)?;
        let connection = client.connect_anonymously().await?;
        let message = RevokeTokenRequest {
            token: token.token.expose_secret().to_owned(),
            wait: self.wait.map(proto_duration),
        };
        let request = connection.waiting_request(message, self.wait);
        let answer = connection.tokens().revoke_token(request).await?;
        let answer = answer.into_inner();
        if token.stored {
            LoginStore::of_the_user()?.remove(&client.options.address)?;
        }
        if answer.effect.is_none() {
            let notice = "nothing to revoke: not a token of this authority, or expired";
            client.output.notice(notice);
        }
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), self.wait)
    }
}

/// The token that a verb is about.
struct Subject {
    token: SecretString,
    stored: bool,
}

fn subject(client: &Client, source: &TokenSource) -> Result<Subject, Failure> {
    if let Some(token) = source.read()? {
        return Ok(Subject {
            token,
            stored: false,
        });
    }
    let own = client.credential()?;
    Ok(Subject {
        token: own.token,
        stored: own.stored,
    })
}

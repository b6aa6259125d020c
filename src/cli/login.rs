//! Signing in and out, and who one is.

use std::time::Duration;

use clap::Args;
use secrecy::ExposeSecret as _;

use crate::{
    cli::{
        client::Client,
        failure::{Exit, Failure},
        input::{self, proto_duration},
        secret::PasswordSource,
        stored_login::{LoginStore, StoredLogin},
    },
    proto::{
        GetCallerIdentityRequest, IssueTokenRequest, IssuedToken, PasswordCredential,
        RevokeTokenRequest, issue_token_request,
    },
};

/// Sign in with a password and keep the token for the verbs to come
///
/// The token is kept in a file of mode 0600 below $XDG_STATE_HOME/token-authority (~/.local/state/token-authority), one for
/// each --address, and is not printed; `token issue` prints one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority login alice
  token-authority login admin --password-file data/bootstrap-password
  vault read -field=password secret/alice | token-authority login alice --password-stdin")]
pub(crate) struct LoginArguments {
    /// Who signs in
    username: String,
    #[command(flatten)]
    password: PasswordSource,
    #[command(flatten)]
    wanted: Wanted,
}

/// What a new token shall be good for.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Act in this space (slug or id) instead of the home space
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// A recipient of the token; may be given several times
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// Narrow the token to this scope; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How long the token lives, for example 15m or 8h; the space's maximum otherwise
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    ttl: Option<Duration>,
}

impl Wanted {
    /// The request for such a token.
    pub(crate) fn of(self, credential: issue_token_request::Credential) -> IssueTokenRequest {
        IssueTokenRequest {
            credential: Some(credential),
            space: self.space.unwrap_or_default(),
            audiences: self.audiences,
            scopes: self.scopes,
            ttl: self.ttl.map(proto_duration),
        }
    }
}

/// A user's name and the password that `source` has.
pub(crate) fn password_credential(
    username: String,
    source: &PasswordSource,
) -> Result<issue_token_request::Credential, Failure> {
    let password = source.read(&username)?.expose_secret().to_owned();
    Ok(issue_token_request::Credential::Password(
        PasswordCredential { username, password },
    ))
}

impl LoginArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let store = LoginStore::of_the_user()?;
        let credential = password_credential(self.username, &self.password)?;
        let connection = client.connect_anonymously().await?;
        let request = connection.request(self.wanted.of(credential));
        let mut answer = connection.tokens().issue_token(request).await?.into_inner();
        if let Some(token) = &mut answer.token {
            store.save(&StoredLogin::new(&client.options.address, token))?;
            token.access_token.clear();
        }
        client.output.show(&answer)
    }
}

/// Puts a fresh token in the place of the stored login, and takes it out of what is printed. Where it cannot be stored, it is
/// printed after all: the old one is dead.
pub(crate) fn keep(client: &Client, token: &mut IssuedToken) -> Result<(), Failure> {
    let login = StoredLogin::new(&client.options.address, token);
    match LoginStore::of_the_user()?.save(&login) {
        Ok(()) => token.access_token.clear(),
        Err(failure) => client
            .output
            .warning(&format!("the fresh token is not stored: {failure}")),
    }
    Ok(())
}

/// Revoke the stored login with its whole session, and remove it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority logout
  token-authority logout --local    # the server is gone for good")]
pub(crate) struct LogoutArguments {
    /// Remove the file alone, without asking the server to revoke the token
    #[arg(long)]
    local: bool,
}

impl LogoutArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let store = LoginStore::of_the_user()?;
        let address = &client.options.address;
        let effect = match store.load(address)? {
            _ if self.local => None,
            None => {
                let message = format!("not signed in at {address}");
                return Err(Failure::new(Exit::Denied, message));
            }
            Some(login) => {
                let connection = client.connect_anonymously().await?;
                let request = connection.request(RevokeTokenRequest {
                    token: login.access_token.clone(),
                    wait: None,
                });
                let answer = connection.tokens().revoke_token(request).await?;
                answer.into_inner().effect
            }
        };
        store.remove(address)?;
        client.output.notice(&format!("signed out of {address}"));
        Client::require_effective(effect.as_ref(), None)
    }
}

/// Say who the caller is, what it may do, and until when
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority whoami
  token-authority whoami --token-file ci.key -o json")]
pub(crate) struct WhoamiArguments {}

impl WhoamiArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let request = connection.request(GetCallerIdentityRequest {});
        let answer = connection.tokens().get_caller_identity(request).await?;
        client.output.show(&answer.into_inner())
    }
}

//! Passwords of users: another's is set, one's own is changed.

use clap::Args;
use secrecy::ExposeSecret as _;

use crate::{
    cli::{
        client::Client,
        failure::Failure,
        login,
        secret::{CurrentPassword, NewPassword, PasswordSource},
    },
    proto::{ChangePasswordRequest, ResetPasswordRequest},
};

/// Set a user's password, or have one made up and print it, this once
///
/// The user's JWTs are dead afterwards, and sign-ins under the name are not throttled any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority user reset-password carla --quiet > password
  token-authority user reset-password carla --ask-password --revoke-api-keys")]
pub(crate) struct ResetPasswordArguments {
    /// The user's id or name
    user: String,
    #[command(flatten)]
    password: NewPassword,
    /// End the user's API keys as well, for good
    #[arg(long)]
    revoke_api_keys: bool,
}

impl ResetPasswordArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let password = self.password.read(&self.user)?;
        let connection = client.connect().await?;
        let request = connection.request(ResetPasswordRequest {
            user: self.user,
            new_password: password
                .map(|password| password.expose_secret().to_owned())
                .unwrap_or_default(),
            revoke_api_keys: self.revoke_api_keys,
        });
        let answer = connection.users().reset_password(request).await?;
        let answer = answer.into_inner();
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), None)
    }
}

/// Change one's own password, which takes the current one
///
/// The options --password-… are about the new one; what is not given is asked for on the terminal. Every JWT of the user is
/// dead afterwards, the caller's among them. A fresh one is printed; where the caller's was the stored login, the fresh one
/// takes its place instead.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority user change-password
  token-authority user change-password --current-password-file old --password-file new")]
pub(crate) struct ChangePasswordArguments {
    #[command(flatten)]
    current: CurrentPassword,
    #[command(flatten)]
    new: PasswordSource,
}

impl ChangePasswordArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let stored = client.credential()?.stored;
        let current = self.current.read()?;
        let new = self.new.read_new()?;
        let connection = client.connect().await?;
        let request = connection.request(ChangePasswordRequest {
            current_password: current.expose_secret().to_owned(),
            new_password: new.expose_secret().to_owned(),
        });
        let answer = connection.users().change_password(request).await?;
        let mut answer = answer.into_inner();
        if let Some(token) = answer.token.as_mut().filter(|_| stored) {
            login::keep(client, token)?;
        }
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), None)
    }
}

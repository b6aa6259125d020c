//! Signing keys: list, prepare, activate, revoke.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        client::Client,
        failure::Failure,
        input::{self, proto_duration},
        paging::Paging,
    },
    proto::{
        ActivateSigningKeyRequest, ListSigningKeysRequest, ListSigningKeysResponse,
        PrepareSigningKeyRequest, RevokeSigningKeyRequest, SigningAlgorithm,
    },
};

/// What is shown of a key in a list.
pub(crate) const COLUMNS: &[&str] = &[
    "signing_key_id",
    "algorithm",
    "state",
    "prepare_time",
    "activate_time",
    "retire_time",
    "remove_time",
];

/// List, prepare, activate and revoke the keys that sign JWTs
#[derive(Debug, Subcommand)]
pub(crate) enum SigningKeyCommand {
    List(ListArguments),
    Prepare(PrepareArguments),
    Activate(ActivateArguments),
    Revoke(RevokeArguments),
}

impl SigningKeyCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(arguments) => arguments.run(client).await,
            Self::Prepare(arguments) => arguments.run(client).await,
            Self::Activate(arguments) => arguments.run(client).await,
            Self::Revoke(arguments) => arguments.run(client).await,
        }
    }
}

/// List keys, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority signing-key list
  token-authority signing-key list --limit 0 -o json")]
pub(crate) struct ListArguments {
    #[command(flatten)]
    paging: Paging,
}

impl ListArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let mut listed = ListSigningKeysResponse {
            next_page_token: self.paging.first_page(),
            ..Default::default()
        };
        loop {
            let request = connection.request(ListSigningKeysRequest {
                page_size: self.paging.page_size(500),
                page_token: listed.next_page_token,
            });
            let page = connection.signing_keys().list_signing_keys(request).await?;
            let mut page = page.into_inner();
            listed.signing_keys.append(&mut page.signing_keys);
            listed.next_page_token = page.next_page_token;
            if self
                .paging
                .is_done(listed.signing_keys.len(), &listed.next_page_token)
            {
                break;
            }
        }
        client.output.list(&listed, "signing_keys", COLUMNS)?;
        client.output.more(&listed.next_page_token);
        Ok(())
    }
}

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    /// `EdDSA` over Ed25519
    Eddsa,
    /// ECDSA over P-256 with SHA-256
    Es256,
}

/// Make a key and publish it; it does not sign yet
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority signing-key prepare
  token-authority signing-key prepare --algorithm es256")]
pub(crate) struct PrepareArguments {
    /// How it signs; as the server is configured otherwise
    #[arg(long, value_enum)]
    algorithm: Option<Algorithm>,
}

impl PrepareArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let algorithm = match self.algorithm {
            None => SigningAlgorithm::Unspecified,
            Some(Algorithm::Eddsa) => SigningAlgorithm::Eddsa,
            Some(Algorithm::Es256) => SigningAlgorithm::Es256,
        };
        let connection = client.connect().await?;
        let request = connection.request(PrepareSigningKeyRequest {
            algorithm: algorithm.into(),
        });
        let answer = connection
            .signing_keys()
            .prepare_signing_key(request)
            .await?;
        client.output.show(&answer.into_inner())
    }
}

/// Make a prepared key the one that signs; the one before stays published until its last token has expired
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority signing-key activate BE8XmtcM2rz9tSZ2hZ4PvlDM6C2eUjyGnd0oz5Wd2VY")]
pub(crate) struct ActivateArguments {
    /// The key's id
    // One in 64 ids begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    id: String,
    /// Do not wait until verifiers have learned of the key: those that have not refuse its tokens until they fetch the keys
    #[arg(long)]
    force: bool,
}

impl ActivateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let request = connection.request(ActivateSigningKeyRequest {
            signing_key_id: self.id,
            force: self.force,
        });
        let answer = connection
            .signing_keys()
            .activate_signing_key(request)
            .await?;
        client.output.show(&answer.into_inner())
    }
}

/// Withdraw a key at once and kill every JWT that it signed
///
/// Where it is the one that signs, the oldest prepared one takes over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority signing-key revoke BE8XmtcM2rz9tSZ2hZ4PvlDM6C2eUjyGnd0oz5Wd2VY --wait 30s")]
pub(crate) struct RevokeArguments {
    /// The key's id
    #[arg(allow_hyphen_values = true)]
    id: String,
    /// How long to wait for it to be effective, up to 30s; 5s otherwise, 0 does not wait
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    wait: Option<Duration>,
}

impl RevokeArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let message = RevokeSigningKeyRequest {
            signing_key_id: self.id,
            wait: self.wait.map(proto_duration),
        };
        let connection = client.connect().await?;
        let request = connection.waiting_request(message, self.wait);
        let answer = connection
            .signing_keys()
            .revoke_signing_key(request)
            .await?
            .into_inner();
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), self.wait)
    }
}

//! The servers over the database.

use clap::{Args, Subcommand};

use crate::{
    cli::{client::Client, failure::Failure},
    proto::ListReplicasRequest,
};

/// List the servers over the database
#[derive(Debug, Subcommand)]
pub(crate) enum ReplicaCommand {
    List(ListArguments),
}

impl ReplicaCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(arguments) => arguments.run(client).await,
        }
    }
}

/// What is shown of a server.
pub(crate) const COLUMNS: &[&str] = &[
    "replica_id",
    "name",
    "self",
    "applied_position",
    "lag",
    "beat_age",
    "fenced",
];

/// List the servers that hold a lease, or lost it within the hour
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority replica list
  token-authority replica list -o json")]
pub(crate) struct ListArguments {}

impl ListArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let request = connection.request(ListReplicasRequest {});
        let answer = connection.system().list_replicas(request).await?;
        client
            .output
            .list(&answer.into_inner(), "replicas", COLUMNS)
    }
}

//! Whether the server serves.

use clap::Args;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::cli::{
    client::Client,
    failure::{Exit, Failure},
};

/// Say whether the server serves; takes no credential
///
/// The exit code is 0 where it serves and 5 where it does not, or cannot be reached.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority health
  token-authority health tokenauthority.v1.TokenService --timeout 2s")]
pub(crate) struct HealthArguments {
    /// The full name of a service; the server as a whole otherwise
    service: Option<String>,
}

impl HealthArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect_anonymously().await?;
        let request = connection.request(HealthCheckRequest {
            service: self.service.unwrap_or_default(),
        });
        let answer = HealthClient::new(connection.channel())
            .check(request)
            .await?
            .into_inner();
        client.output.show(&answer)?;
        if answer.status() == ServingStatus::Serving {
            return Ok(());
        }
        Err(Failure::new(Exit::Unavailable, "the server does not serve"))
    }
}

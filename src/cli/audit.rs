//! The audit log: list it over gRPC, verify it out of the database.

use clap::{Args, Subcommand};

use crate::{
    cli::{
        client::Client,
        failure::{Exit, Failure},
        input::{self, When, proto_time},
        local::SettingsArguments,
        output::Output,
        paging::Paging,
    },
    proto::{ListAuditEventsRequest, ListAuditEventsResponse},
    server,
};

/// List the audit log, or verify that nobody has tampered with it
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    List(ListArguments),
    Verify(VerifyArguments),
}

impl AuditCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(arguments) => arguments.run(client).await,
            Self::Verify(arguments) => arguments.run().await,
        }
    }
}

/// What is shown of an event.
pub(crate) const COLUMNS: &[&str] = &[
    "audit_event_id",
    "event_time",
    "action",
    "outcome",
    "actor_user_id",
    "resource_id",
    "space_id",
    "error_reason",
    "details",
];

/// List what was done and refused, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority audit list --since 24h
  token-authority audit list --actor alice --action api_key.create
  token-authority audit list --resource XkQBXKr652MV1VF9 -o json")]
pub(crate) struct ListArguments {
    /// Of this space (slug or id) alone; of all that the caller may audit otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// With this action alone, for example `api_key.rotate`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// By this user alone (id or username)
    #[arg(long, value_name = "USER")]
    actor: Option<String>,
    /// About this thing alone, by its id
    #[arg(long, value_name = "ID")]
    resource: Option<String>,
    /// At or after this time, or within this duration (24h)
    #[arg(long, value_name = "TIME", value_parser = input::when)]
    since: Option<When>,
    /// Before this time, or longer ago than this duration (1h)
    #[arg(long, value_name = "TIME", value_parser = input::when)]
    until: Option<When>,
    #[command(flatten)]
    paging: Paging,
}

impl ListArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let now = client.clock.now();
        let moment = |when: When| proto_time(when.back_from(now));
        let mut wanted = ListAuditEventsRequest {
            space: self.space.unwrap_or_default(),
            page_size: self.paging.page_size(500),
            page_token: self.paging.first_page(),
            action: self.action.unwrap_or_default(),
            actor_user_id: self.actor.unwrap_or_default(),
            resource_id: self.resource.unwrap_or_default(),
            start_time: self.since.map(moment),
            end_time: self.until.map(moment),
        };
        let connection = client.connect().await?;
        let mut listed = ListAuditEventsResponse::default();
        loop {
            let request = connection.request(wanted.clone());
            let page = connection.audit().list_audit_events(request).await?;
            let mut page = page.into_inner();
            listed.audit_events.append(&mut page.audit_events);
            listed.next_page_token = page.next_page_token;
            let next = &listed.next_page_token;
            if self.paging.is_done(listed.audit_events.len(), next) {
                break;
            }
            wanted.page_token.clone_from(next);
        }
        client.output.list(&listed, "audit_events", COLUMNS)?;
        client.output.more(&listed.next_page_token);
        Ok(())
    }
}

/// Verify that nobody has changed, moved or taken out an event, without a server or beside one
///
/// Opens the database itself, for reading alone, with the master key, and goes along the whole chain. Exits with 0 where it
/// is good, and prints how long it is and where it ends; keep that line elsewhere to know the chain again. Exits with 1
/// where it is not, and names the first event at fault.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority audit verify
  token-authority audit verify --config /etc/token-authority.toml")]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    settings: SettingsArguments,
}

impl VerifyArguments {
    async fn run(self) -> Result<(), Failure> {
        let verdict = server::verify_audit(&self.settings.settings()?).await?;
        let head = verdict.chain.map_err(|fault| {
            Failure::new(Exit::Failed, format!("the audit log is not good: {fault}"))
        })?;
        Output::text(&format!(
            "good\t{} events, the last one has the digest {}; {} not chained yet\n",
            head.sequence, head.digest, verdict.not_chained
        ))
    }
}

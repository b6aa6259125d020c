//! Revocations: create by reference, list, watch.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        client::Client,
        failure::Failure,
        input::{self, Reason, When, proto_duration, proto_reason, proto_time},
        paging::Paging,
        watch::WatchArguments,
    },
    proto::{
        CreateRevocationRequest, ListRevocationsRequest, ListRevocationsResponse,
        RevocationSubject, revocation_subject::Subject,
    },
};

/// Revoke by reference, list and watch revocations
#[derive(Debug, Subcommand)]
pub(crate) enum RevocationCommand {
    Create(CreateArguments),
    List(ListArguments),
    Watch(WatchArguments),
}

impl RevocationCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => arguments.run(client).await,
            Self::List(arguments) => arguments.run(client).await,
            Self::Watch(arguments) => arguments.run(client).await,
        }
    }
}

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One JWT, by its `jti`
    Token,
    /// A sign-in with every JWT that rotation made of it, by its `sid`
    Session,
    /// Everything of a user, by id or username
    User,
    /// An API key with every JWT issued from it, by the key's id
    ApiKey,
    /// Every JWT that names this role
    Role,
    /// Everything of a space, by id or slug
    Space,
    /// Every JWT with this `kid`
    SigningKey,
}

impl Kind {
    fn subject(self, id: String) -> RevocationSubject {
        let subject = match self {
            Self::Token => Subject::TokenId(id),
            Self::Session => Subject::SessionId(id),
            Self::User => Subject::UserId(id),
            Self::ApiKey => Subject::ApiKeyId(id),
            Self::Role => Subject::Role(id),
            Self::Space => Subject::SpaceId(id),
            Self::SigningKey => Subject::SigningKeyId(id),
        };
        RevocationSubject {
            subject: Some(subject),
        }
    }
}

/// Revoke by reference: a token or session by its id, or everything that a user, key, role or space stands behind
///
/// Returns once nobody can call what is revoked active any more, or when --wait is over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority revocation create user alice --reason compromised --comment 'laptop lost'
  token-authority revocation create user alice --space '*' --keep-api-keys
  token-authority revocation create session WmFyYXRodXN0cmEgMTg4Mw --wait 30s
  token-authority revocation create space acme --sessions-until 1h")]
pub(crate) struct CreateArguments {
    /// What is revoked
    #[arg(value_enum)]
    kind: Kind,
    /// Which one
    // One in 64 ids of tokens and sessions begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    id: String,
    /// JWTs of this space alone (slug or id), `*` for every space; the caller's otherwise
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// End only sessions that began up to this time (RFC 3339, a date), or longer ago than this duration (1h): who signed in
    /// since then stays signed in
    #[arg(long, value_name = "TIME", value_parser = input::when)]
    sessions_until: Option<When>,
    /// Leave the API keys of the user or space as they are; otherwise they end for good
    #[arg(long)]
    keep_api_keys: bool,
    /// Why
    #[arg(long, value_enum)]
    reason: Option<Reason>,
    /// For the audit log
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// How long to wait for it to be effective, up to 30s; 5s otherwise, 0 does not wait
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    wait: Option<Duration>,
    /// A UUID: for 10 minutes, a retry with the same one makes no second entry
    #[arg(long, value_name = "UUID")]
    idempotency_key: Option<String>,
}

impl CreateArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let now = client.clock.now();
        let message = CreateRevocationRequest {
            subject: Some(self.kind.subject(self.id)),
            space: self.space.unwrap_or_default(),
            sessions_until: self
                .sessions_until
                .map(|when| proto_time(when.back_from(now))),
            keep_api_keys: self.keep_api_keys,
            reason: proto_reason(self.reason),
            comment: self.comment.unwrap_or_default(),
            wait: self.wait.map(proto_duration),
            idempotency_key: self.idempotency_key.unwrap_or_default(),
        };
        let connection = client.connect().await?;
        let request = connection.waiting_request(message, self.wait);
        let answer = connection.revocations().create_revocation(request).await?;
        let answer = answer.into_inner();
        client.output.show(&answer)?;
        Client::require_effective(answer.effect.as_ref(), self.wait)
    }
}

/// What is shown of an entry, with widths that keep a stream of them aligned.
pub(crate) const COLUMNS: &[(&str, usize)] = &[
    ("position", 10),
    ("create_time", 20),
    ("kind", 10),
    ("subject", 42),
    ("space_id", 30),
    ("reason", 10),
];

/// List the revocations in force, oldest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority revocation list --limit 0
  token-authority revocation list --space acme -o json")]
pub(crate) struct ListArguments {
    /// Of this space (slug or id) alone; may be given several times
    #[arg(long = "space", value_name = "SPACE")]
    spaces: Vec<String>,
    #[command(flatten)]
    paging: Paging,
}

impl ListArguments {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let connection = client.connect().await?;
        let mut listed = ListRevocationsResponse {
            next_page_token: self.paging.first_page(),
            ..Default::default()
        };
        loop {
            let request = connection.request(ListRevocationsRequest {
                spaces: self.spaces.clone(),
                page_size: self.paging.page_size(10_000),
                page_token: listed.next_page_token,
            });
            let page = connection.revocations().list_revocations(request).await?;
            let mut page = page.into_inner();
            listed.events.append(&mut page.events);
            listed.next_page_token = page.next_page_token;
            listed.cursor = page.cursor;
            if self
                .paging
                .is_done(listed.events.len(), &listed.next_page_token)
            {
                break;
            }
        }
        let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        client.output.list(&listed, "events", &columns)?;
        client.output.more(&listed.next_page_token);
        Ok(())
    }
}

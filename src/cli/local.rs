//! The verbs that need no running server: they work on the configuration and the database themselves.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Subcommand};
use clap_complete::Shell;

use crate::{
    cli::{
        Cli,
        client::Client,
        failure::{Exit, Failure},
        output::Output,
    },
    clock::Clock,
    config::{self, Settings},
    error::{Error, Reason},
    server::{self, Kept, Listeners},
    shutdown::Shutdown,
    storage::{self, Database},
    telemetry,
};

/// The verbs without a server.
#[derive(Debug, Subcommand)]
pub(crate) enum LocalCommand {
    /// Run the server until Ctrl-C or SIGTERM
    ///
    /// Without any setting it serves on loopback, keeps its database, master key and first password in ./data, and says
    /// on one line where it listens. Settings come from the TOML file, then variables (`TOKEN_AUTHORITY_GRPC_LISTEN` for
    /// `grpc.listen`), then options, each over the one before.
    #[command(after_help = "\
Examples:
  token-authority serve
  token-authority serve --config /etc/token-authority.toml
  token-authority serve --database-url-file /run/secrets/url --issuer https://auth.example")]
    Serve(SettingsArguments),
    /// Bring the database's schema up to date, or say where it stands
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Give a user a new password, without a server
    ///
    /// Opens the database itself and refuses while a server runs on it. The user's JWTs are dead afterwards. The new password
    /// is left in a file of mode 0600.
    #[command(after_help = "\
Examples:
  token-authority recover admin
  token-authority recover admin --password-file /root/admin-password")]
    Recover(RecoverArguments),
    /// Make a restored backup safe, before a server runs on it
    ///
    /// What was revoked after the backup was made would be good again. So every JWT ends, the signing keys are replaced, every
    /// API key ends unless it is to be kept, and the revocation log begins anew, so that nobody resumes where entries are
    /// missing. Opens the database itself and refuses while a server runs on it.
    #[command(after_help = "\
Examples:
  token-authority restore
  token-authority restore --keep-api-keys --config /etc/token-authority.toml")]
    Restore(RestoreArguments),
    /// Print a script that completes commands in a shell
    #[command(after_help = "\
Examples:
  token-authority completions bash > /etc/bash_completion.d/token-authority
  token-authority completions zsh > ~/.zfunc/_token-authority")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Migrations of the schema.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Apply the migrations that are pending
    #[command(
        after_help = "Example:\n  token-authority migrate up --config /etc/token-authority.toml"
    )]
    Up(SettingsArguments),
    /// Say which migrations are applied and which are pending; changes nothing
    #[command(after_help = "Example:\n  token-authority migrate status")]
    Status(SettingsArguments),
}

/// The configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the server would take the configuration, and everything for which it would not
    ///
    /// Reads the files that it names and makes nothing. A database is not asked, and nothing is listened to.
    #[command(
        after_help = "Example:\n  token-authority config check --config /etc/token-authority.toml"
    )]
    Check(SettingsArguments),
    /// Print every setting as it stands, as TOML, secrets masked, and what is not set as a comment
    #[command(after_help = "Example:\n  token-authority config show > token-authority.toml")]
    Show(SettingsArguments),
}

/// Whose password is made anew.
#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    /// The user's id or name
    user: String,
    /// Leave the new password in this file; `recovered-password` in the data directory otherwise
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArguments,
}

/// What a restored backup keeps.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// Keep the API keys of the backup, those included that were revoked after it was made
    #[arg(long)]
    keep_api_keys: bool,
    #[command(flatten)]
    settings: SettingsArguments,
}

/// Settings that are given as options. None of them is a secret.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SettingsArguments {
    /// The TOML file [variable: `TOKEN_AUTHORITY_CONFIG`]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the database file, the generated master key and the first password
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// A file with the database's URL (postgres://…); otherwise it is a file in the data directory
    #[arg(long, value_name = "FILE")]
    database_url_file: Option<String>,
    /// `iss` of the tokens
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Where gRPC is served, IP:PORT or `off`
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<String>,
    /// Where HTTP is served, IP:PORT or `off`
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// Where metrics and probes are served, IP:PORT or `off`
    #[arg(long, value_name = "ADDRESS")]
    ops_listen: Option<String>,
}

impl SettingsArguments {
    /// The settings that file, variables and options make together, checked.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Settings::load(self.config.as_deref(), config::environment(), self.flags()).map_err(refused)
    }

    /// Everything for which the server would refuse to start.
    fn check(&self) -> Result<(), Failure> {
        let (file, variables) = (self.config.as_deref(), config::environment());
        let loaded = Settings::load_what_is_good(file, variables, self.flags()).map_err(refused)?;
        let mut refusals = loaded.refusals;
        refusals.extend(server::check(&loaded.settings).err());
        Error::together(refusals).map_or(Ok(()), |refusal| Err(refused(refusal)))
    }

    /// The options that were given, as pairs of a key's path and its text.
    fn flags(&self) -> Vec<(String, String)> {
        [
            ("data_dir", &self.data_dir),
            ("database.url_file", &self.database_url_file),
            ("issuer", &self.issuer),
            ("grpc.listen", &self.grpc_listen),
            ("http.listen", &self.http_listen),
            ("ops.listen", &self.ops_listen),
        ]
        .into_iter()
        .filter_map(|(path, text)| Some((path.to_owned(), text.clone()?)))
        .collect()
    }
}

/// A file that cannot be read is no wrong usage.
fn refused(error: Error) -> Failure {
    let exit = match error.reason() {
        Reason::FieldInvalid => Exit::Usage,
        _ => Exit::Failed,
    };
    let failure = Failure::from(error);
    Failure::new(exit, format!("configuration: {failure}"))
}

impl LocalCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Serve(arguments) => Box::pin(serve(arguments)).await,
            Self::Migrate(MigrateCommand::Up(arguments)) => migrate_up(client, arguments).await,
            Self::Migrate(MigrateCommand::Status(arguments)) => migrate_status(arguments).await,
            Self::Config(ConfigCommand::Check(arguments)) => config_check(client, &arguments),
            Self::Config(ConfigCommand::Show(arguments)) => config_show(&arguments),
            Self::Recover(arguments) => Box::pin(recover(client, arguments)).await,
            Self::Restore(arguments) => Box::pin(restore(client, arguments)).await,
            Self::Completions { shell } => completions(shell),
        }
    }
}

async fn serve(arguments: SettingsArguments) -> Result<(), Failure> {
    let settings = arguments.settings()?;
    telemetry::log::start(&settings.log)?;
    telemetry::metrics::start();
    let shutdown = Shutdown::on_signals()?;
    let listeners = Listeners::bind(&settings).await?;
    let served = server::run(settings, listeners, shutdown, Clock::system()).await;
    telemetry::log::flush();
    Ok(served?)
}

async fn migrate_up(client: &Client, arguments: SettingsArguments) -> Result<(), Failure> {
    let db = Database::open(&server::database_settings(&arguments.settings()?)).await?;
    storage::migrate_up(&db).await?;
    db.close().await;
    client.output.notice("the schema is up to date");
    Ok(())
}

async fn migrate_status(arguments: SettingsArguments) -> Result<(), Failure> {
    let database = server::database_settings(&arguments.settings()?);
    if database.is_missing() {
        return Output::text("no database yet\n");
    }
    let db = Database::open(&database).await?;
    let steps = storage::migration_status(&db).await?;
    db.close().await;
    let mut lines = String::new();
    for step in steps {
        let state = if step.applied { "applied" } else { "pending" };
        lines.extend([state, "\t", &step.name, "\n"]);
    }
    Output::text(&lines)
}

async fn recover(client: &Client, arguments: RecoverArguments) -> Result<(), Failure> {
    let settings = arguments.settings.settings()?;
    let file = arguments
        .password_file
        .unwrap_or_else(|| settings.data_dir.join("recovered-password"));
    let user = server::recover(&settings, &arguments.user, &file).await?;
    client
        .output
        .notice(&format!("{user} has a new password, in {}", file.display()));
    Ok(())
}

async fn restore(client: &Client, arguments: RestoreArguments) -> Result<(), Failure> {
    let kept = Kept {
        api_keys: arguments.keep_api_keys,
    };
    server::restore(&arguments.settings.settings()?, kept, &Clock::system()).await?;
    client.output.notice(if kept.api_keys {
        "every JWT has ended; the API keys of the backup are good, whatever was revoked since"
    } else {
        "every JWT and every API key has ended"
    });
    Ok(())
}

fn config_check(client: &Client, arguments: &SettingsArguments) -> Result<(), Failure> {
    arguments.check()?;
    client.output.notice("the configuration is good");
    Ok(())
}

fn config_show(arguments: &SettingsArguments) -> Result<(), Failure> {
    Output::text(&arguments.settings()?.show())
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    clap_complete::generate(shell, &mut command, "token-authority", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        // clap_complete 4 spells a name with a hyphen in two ways, and then finds no subcommand of it.
        script = script.replace("token__subcmd__authority", "token__authority");
    }
    Output::text(&script)
}

//! The command line. Most verbs are one call to a running server; the local ones need none.
//!
//! In reading order: [`Cli`] (the verbs), `options` (what all of them take), `local` (the verbs without a server), then one
//! file a noun: `login`, `token`, `key` with `key_change`, `user` with `user_password`, `space`, `role` with `role_assignment`,
//! `revocation` with `watch`, `signing_key`, `audit`, `replica`, `health`. They stand on `client` (the call), `secret` and `stored_login`
//! (where credentials come from and stay), `input` (times and durations as people write them), `update_mask`, `confirmation`,
//! `paging`, `render` and `output` (what is printed), `failure` (the error line and the exit code).
//!
//! No secret is ever taken from an argument: other users of the machine see those, and shells remember them.

mod audit;
mod client;
mod confirmation;
mod failure;
mod health;
mod input;
mod key;
mod key_change;
mod local;
mod login;
mod options;
mod output;
mod paging;
mod render;
mod replica;
mod revocation;
mod role;
mod role_assignment;
mod secret;
mod signing_key;
mod space;
mod stored_login;
mod token;
mod update_mask;
mod user;
mod user_password;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::{client::Client, failure::Failure, options::Options, output::Output};

const MORE_HELP: &str = "\
Output:
  On a terminal `-o table` draws tables. Elsewhere it prints plain lines for scripts: no header,
  columns separated by one tab, control characters escaped. `-o json` prints messages in
  proto3's JSON form, as grpcurl does. --quiet prints secrets alone, the new key or token and
  nothing else, so that it can be piped; lists shrink to their ids.

Exit codes:
  0  done
  1  failed, as where a file cannot be read; `token introspect`: the token is not active
  2  wrong usage, or arguments or settings that are refused
  3  not signed in, or not allowed
  4  not found
  5  unavailable, overloaded, throttled or out of time: try again later
  6  revoked, but not known to be effective everywhere in time: run it again to wait anew

Examples:
  token-authority serve
  token-authority login admin --password-file data/bootstrap-password
  token-authority key create ci --scope orders.read --expires 90d --quiet > ci.key
  token-authority token introspect --stdin < ci.key
  token-authority revocation watch --cursor-file cursor -o json";

/// Issues, introspects, rotates and revokes tokens over gRPC, and streams every revocation.
#[derive(Debug, Parser)]
#[command(name = "token-authority", version, after_long_help = MORE_HELP)]
#[command(after_help = "See --help for output formats, exit codes and examples.")]
#[command(max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Local(local::LocalCommand),
    Login(login::LoginArguments),
    Logout(login::LogoutArguments),
    Whoami(login::WhoamiArguments),
    Health(health::HealthArguments),
    #[command(subcommand)]
    Token(token::TokenCommand),
    #[command(subcommand)]
    Key(key::KeyCommand),
    #[command(subcommand)]
    User(user::UserCommand),
    #[command(subcommand)]
    Space(space::SpaceCommand),
    #[command(subcommand)]
    Role(role::RoleCommand),
    #[command(subcommand)]
    Revocation(revocation::RevocationCommand),
    #[command(subcommand)]
    SigningKey(signing_key::SigningKeyCommand),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(subcommand)]
    Replica(replica::ReplicaCommand),
}

/// Does what the arguments say. A failure becomes one line on stderr, and the exit code.
pub async fn run(cli: Cli) -> ExitCode {
    let client = Client::new(cli.options);
    match cli.command.run(&client).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            Output::failure(&failure);
            failure.exit().into()
        }
    }
}

impl Command {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Local(command) => command.run(client).await,
            Self::Login(arguments) => arguments.run(client).await,
            Self::Logout(arguments) => arguments.run(client).await,
            Self::Whoami(arguments) => arguments.run(client).await,
            Self::Health(arguments) => arguments.run(client).await,
            Self::Token(command) => command.run(client).await,
            Self::Key(command) => command.run(client).await,
            Self::User(command) => command.run(client).await,
            Self::Space(command) => command.run(client).await,
            Self::Role(command) => command.run(client).await,
            Self::Revocation(command) => command.run(client).await,
            Self::SigningKey(command) => command.run(client).await,
            Self::Audit(command) => command.run(client).await,
            Self::Replica(command) => command.run(client).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use prost_reflect::ReflectMessage as _;

    use super::*;

    fn refusal(line: &str) -> clap::error::ErrorKind {
        let arguments = line.split_whitespace();
        Cli::try_parse_from(arguments).unwrap_err().kind()
    }

    fn takes(line: &str) {
        if let Err(error) = Cli::try_parse_from(line.split_whitespace()) {
            panic!("{line}: {error}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_and_every_option_has_a_help_text() {
        let mut left = vec![Cli::command()];
        while let Some(command) = left.pop() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says nothing");
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(
                    argument.get_help().is_some(),
                    "{name}: {id} says nothing of itself"
                );
            }
            left.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn ordinary_lines_are_taken() {
        for line in [
            "token-authority serve --grpc-listen 127.0.0.1:0 --data-dir /tmp/x",
            "token-authority migrate up",
            "token-authority config show -o json",
            "token-authority recover admin",
            "token-authority restore --keep-api-keys",
            "token-authority completions bash",
            "token-authority login alice --password-stdin --space acme --ttl 1h",
            "token-authority token issue --username alice --password-file p --scope a --scope b",
            "token-authority token introspect --stdin --audience orders",
            "token-authority token rotate --own --overlap 1m",
            "token-authority token revoke --file - --wait 0",
            "token-authority --address https://a.example key list --state active --limit 10",
            "token-authority key create ci --expires 2030-01-02T03:04:05Z --label team=a --quiet",
            "token-authority key update XkQBXKr652MV1VF9 --disable --clear roles",
            "token-authority key rotate --own --overlap 24h",
            "token-authority user create carla --space shop --email c@shop.example --name Carla",
            "token-authority user create carla --password-variable PASSWORD --disabled",
            "token-authority user get carla -o json",
            "token-authority user list --space shop --limit 0 --quiet",
            "token-authority user update carla --disable --clear email --clear name",
            "token-authority user delete carla --yes",
            "token-authority user reset-password carla --quiet --revoke-api-keys",
            "token-authority user reset-password carla --ask-password",
            "token-authority user change-password --current-password-file a --password-stdin",
            "token-authority space create shop --max-token-ttl 1h --default-audience orders",
            "token-authority space get shop",
            "token-authority space list --page-token x",
            "token-authority space update shop --key-prefix sh --clear max-api-key-ttl",
            "token-authority space delete shop -y",
            "token-authority role create clerk --space shop --permission a --permission b",
            "token-authority role list --space shop",
            "token-authority role update clerk --clear permissions --description x",
            "token-authority role delete clerk --yes",
            "token-authority role assign clerk carla --space shop",
            "token-authority role unassign clerk carla",
            "token-authority role assignments --user carla --role clerk",
            "token-authority revocation create user alice --space * --sessions-until 1h",
            "token-authority revocation create session -qIq9orx9b3Wdv_lLr95gQ --wait 0",
            "token-authority revocation create token --reason logout -- -pIq9orx9b3Wdv_lLr95gQ",
            "token-authority revocation create token --reason logout -o json --Iq9orx9b3Wdv_lLr95gQ",
            "token-authority revocation watch --cursor-file c --heartbeat 5s",
            "token-authority signing-key list --limit 0",
            "token-authority signing-key prepare --algorithm es256",
            "token-authority signing-key activate -qIq9orx9b3Wdv_lLr95gQqIq9orx9b3Wdv_lLr95gQ --force",
            "token-authority signing-key revoke --wait 0 -qIq9orx9b3Wdv_lLr95gQqIq9orx9b3Wdv_lLr95gQ",
            "token-authority audit list --space acme --actor alice --since 24h --until 1h --limit 0",
            "token-authority audit verify --data-dir /tmp/x",
            "token-authority replica list -o json",
            "token-authority health --timeout 2s",
            "token-authority whoami",
        ] {
            takes(line);
        }
    }

    #[test]
    fn every_column_of_a_list_is_a_field() {
        let missing = |message: &prost_reflect::MessageDescriptor, columns: &[&str]| {
            columns
                .iter()
                .filter(|column| message.get_field_by_name(column).is_none())
                .count()
        };
        let key = render::described(&crate::proto::ApiKey::default()).unwrap();
        assert_eq!(missing(&key.descriptor(), key::COLUMNS), 0);
        let event = render::described(&crate::proto::AuditEvent::default()).unwrap();
        assert_eq!(missing(&event.descriptor(), audit::COLUMNS), 0);
        let event = render::described(&crate::proto::RevocationEvent::default()).unwrap();
        let signing_key = render::described(&crate::proto::SigningKey::default()).unwrap();
        assert_eq!(missing(&signing_key.descriptor(), signing_key::COLUMNS), 0);
        let user = render::described(&crate::proto::User::default()).unwrap();
        assert_eq!(missing(&user.descriptor(), user::COLUMNS), 0);
        let space = render::described(&crate::proto::Space::default()).unwrap();
        assert_eq!(missing(&space.descriptor(), space::COLUMNS), 0);
        let role = render::described(&crate::proto::Role::default()).unwrap();
        assert_eq!(missing(&role.descriptor(), role::COLUMNS), 0);
        let held = render::described(&crate::proto::RoleAssignment::default()).unwrap();
        assert_eq!(missing(&held.descriptor(), role_assignment::COLUMNS), 0);
        let replica = render::described(&crate::proto::Replica::default()).unwrap();
        assert_eq!(missing(&replica.descriptor(), replica::COLUMNS), 0);
        let columns: Vec<&str> = revocation::COLUMNS.iter().map(|(name, _)| *name).collect();
        assert_eq!(missing(&event.descriptor(), &columns), 0);
    }

    #[test]
    fn ambiguous_lines_are_refused() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument, UnknownArgument};
        for (line, kind) in [
            ("token-authority token revoke", MissingRequiredArgument),
            (
                "token-authority token revoke --own --stdin",
                ArgumentConflict,
            ),
            ("token-authority token revoke eyJ", UnknownArgument),
            ("token-authority login a --password secret", UnknownArgument),
            ("token-authority whoami --token x", UnknownArgument),
            ("token-authority key revoke", MissingRequiredArgument),
            (
                "token-authority key create a --expires 1d --no-expiry",
                ArgumentConflict,
            ),
            (
                "token-authority key update a --enable --disable",
                ArgumentConflict,
            ),
            (
                "token-authority user create a --password secret",
                UnknownArgument,
            ),
            (
                "token-authority user create a --ask-password --password-stdin",
                ArgumentConflict,
            ),
            (
                "token-authority user reset-password a --password-file f --password-variable V",
                ArgumentConflict,
            ),
            (
                "token-authority user change-password secret",
                UnknownArgument,
            ),
            ("token-authority role assign clerk", MissingRequiredArgument),
            (
                "token-authority revocation watch --live --since-cursor c",
                ArgumentConflict,
            ),
        ] {
            assert_eq!(refusal(line), kind, "{line}");
        }
    }
}

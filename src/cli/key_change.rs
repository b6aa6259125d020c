//! Changing an API key: what was given becomes the update mask.

use clap::{Args, ValueEnum};

use crate::{
    cli::{
        client::Client,
        failure::Failure,
        input::proto_time,
        key::{Bounds, key_id, warn_of_scopes_not_granted},
        update_mask::update_mask,
    },
    clock::Timestamp,
    proto::{ApiKey, UpdateApiKeyRequest},
};

/// Change a key; what is not given stays as it is
///
/// A list that is given (--role, --scope, --audience, --allow, --label) takes the place of the whole list before. Where that
/// takes something away, the JWTs issued from the key are dead.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority key update XkQBXKr652MV1VF9 --disable
  token-authority key update XkQBXKr652MV1VF9 --scope orders.read --expires 30d
  token-authority key update XkQBXKr652MV1VF9 --clear audiences --clear labels")]
pub(crate) struct UpdateArguments {
    /// The key's id
    id: String,
    /// What people call it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Free text
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    bounds: Bounds,
    /// Never stop being good
    #[arg(long, conflicts_with = "expires")]
    no_expiry: bool,
    /// Switch it off
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Switch it on
    #[arg(long)]
    enable: bool,
    /// Empty this field; may be given several times
    #[arg(long, value_enum, value_name = "FIELD")]
    clear: Vec<Clearable>,
}

/// What can be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Clearable {
    /// The description
    Description,
    /// The roles: act with all that the user has
    Roles,
    /// The scopes: allow all that the roles grant
    Scopes,
    /// The audiences: good for any
    Audiences,
    /// The source networks: good from any
    Networks,
    /// The labels
    Labels,
}

impl Clearable {
    fn path(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Roles => "roles",
            Self::Scopes => "scopes",
            Self::Audiences => "audiences",
            Self::Networks => "allowed_cidrs",
            Self::Labels => "labels",
        }
    }
}

impl UpdateArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let message = self.request(client.clock.now())?;
        let connection = client.connect().await?;
        let request = connection.request(message);
        let answer = connection.api_keys().update_api_key(request).await?;
        let answer = answer.into_inner();
        client.output.show(&answer)?;
        warn_of_scopes_not_granted(client, answer.api_key.as_ref(), &answer.granted_scopes);
        Client::require_effective(answer.effect.as_ref(), None)
    }

    fn request(self, now: Timestamp) -> Result<UpdateApiKeyRequest, Failure> {
        let bounds = self.bounds;
        let given = [
            ("display_name", self.name.is_some()),
            ("description", self.description.is_some()),
            ("roles", !bounds.roles.is_empty()),
            ("scopes", !bounds.scopes.is_empty()),
            ("audiences", !bounds.audiences.is_empty()),
            ("allowed_cidrs", !bounds.allowed_cidrs.is_empty()),
            ("labels", !bounds.labels.is_empty()),
            ("expire_time", bounds.expires.is_some() || self.no_expiry),
            ("disabled", self.disable || self.enable),
        ];
        let mask = update_mask(&given, self.clear.into_iter().map(Clearable::path))?;
        let api_key = ApiKey {
            api_key_id: key_id(self.id)?,
            display_name: self.name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            roles: bounds.roles,
            scopes: bounds.scopes,
            audiences: bounds.audiences,
            allowed_cidrs: bounds.allowed_cidrs,
            labels: bounds.labels.into_iter().collect(),
            disabled: self.disable,
            expire_time: bounds.expires.map(|when| proto_time(when.ahead_of(now))),
            ..Default::default()
        };
        Ok(UpdateApiKeyRequest {
            api_key: Some(api_key),
            update_mask: Some(mask),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        update: UpdateArguments,
    }

    fn request(line: &str) -> Result<UpdateApiKeyRequest, Failure> {
        let line = format!("update XkQBXKr652MV1VF9 {line}");
        let line = Line::parse_from(line.split_whitespace());
        line.update.request(Timestamp::from_seconds(1_000))
    }

    fn mask(line: &str) -> Vec<String> {
        request(line).unwrap().update_mask.unwrap_or_default().paths
    }

    #[test]
    fn the_mask_names_what_was_given_and_nothing_else() {
        assert_eq!(mask("--disable"), ["disabled"]);
        assert_eq!(mask("--enable --name x"), ["display_name", "disabled"]);
        assert_eq!(mask("--no-expiry"), ["expire_time"]);
        assert_eq!(
            mask("--scope a --clear networks"),
            ["scopes", "allowed_cidrs"]
        );
    }

    #[test]
    fn switching_on_and_never_expiring_are_sent_as_empty_fields() {
        let key = request("--enable --no-expiry")
            .unwrap()
            .api_key
            .unwrap_or_default();
        assert!(!key.disabled);
        assert_eq!(key.expire_time, None);
        let key = request("--expires 1h").unwrap().api_key.unwrap_or_default();
        assert_eq!(key.expire_time.map(|time| time.seconds), Some(4_600));
    }

    #[test]
    fn a_change_of_nothing_and_a_contradiction_are_refused() {
        assert!(request("").is_err());
        assert!(request("--role a --clear roles").is_err());
    }
}

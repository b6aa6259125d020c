//! Messages of the contract as JSON and as text. Both come from the descriptors, so that a new field shows by itself.

use std::{fmt::Write as _, sync::LazyLock, time::Duration};

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    ReflectMessage as _, SerializeOptions, Value,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    cli::failure::{Exit, Failure},
    proto,
};

/// A message that the command line prints.
pub(crate) trait Shown: prost::Message {
    /// Its full name, as the descriptors have it.
    const NAME: &'static str;
}

macro_rules! shown {
    ($($message:ident),* $(,)?) => {
        $(impl Shown for proto::$message {
            const NAME: &'static str = concat!("tokenauthority.v1.", stringify!($message));
        })*
    };
}

shown!(
    ActivateSigningKeyResponse,
    ApiKey,
    AssignRoleResponse,
    AuditEvent,
    ChangePasswordResponse,
    CreateApiKeyResponse,
    CreateRevocationResponse,
    CreateRoleResponse,
    CreateSpaceResponse,
    CreateUserResponse,
    DeleteRoleResponse,
    DeleteSpaceResponse,
    DeleteUserResponse,
    GetApiKeyResponse,
    GetCallerIdentityResponse,
    GetSpaceResponse,
    GetUserResponse,
    IntrospectTokenResponse,
    IssueTokenResponse,
    ListApiKeysResponse,
    ListAuditEventsResponse,
    ListReplicasResponse,
    ListRevocationsResponse,
    ListRoleAssignmentsResponse,
    ListRolesResponse,
    ListSigningKeysResponse,
    ListSpacesResponse,
    ListUsersResponse,
    PrepareSigningKeyResponse,
    Replica,
    ResetPasswordResponse,
    RevocationEvent,
    RevokeApiKeyResponse,
    RevokeSigningKeyResponse,
    RevokeTokenResponse,
    Role,
    RoleAssignment,
    RotateApiKeyResponse,
    RotateTokenResponse,
    SigningKey,
    Space,
    UnassignRoleResponse,
    UpdateApiKeyResponse,
    UpdateRoleResponse,
    UpdateSpaceResponse,
    UpdateUserResponse,
    User,
    WatchRevocationsResponse,
);

impl Shown for tonic_health::pb::HealthCheckResponse {
    const NAME: &'static str = "grpc.health.v1.HealthCheckResponse";
}

static POOL: LazyLock<Result<DescriptorPool, prost_reflect::DescriptorError>> =
    LazyLock::new(|| {
        let mut pool = DescriptorPool::decode(proto::DESCRIPTORS)?;
        pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)?;
        Ok(pool)
    });

/// The message with its description.
pub(crate) fn described<M: Shown>(message: &M) -> Result<DynamicMessage, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("cannot show {}: {error}", M::NAME))
    };
    let pool = POOL.as_ref().map_err(|error| broken(error))?;
    let descriptor = pool
        .get_message_by_name(M::NAME)
        .ok_or_else(|| broken(&"it is not described"))?;
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| broken(&error))
}

/// Proto3's JSON form, as grpcurl prints it: fields that are not set are left out. On one line unless `pretty`.
pub(crate) fn json(message: &DynamicMessage, pretty: bool) -> Result<String, Failure> {
    let broken =
        |error: serde_json::Error| Failure::new(Exit::Failed, format!("cannot show JSON: {error}"));
    let mut text = Vec::new();
    let options = SerializeOptions::new();
    if pretty {
        let mut serializer = serde_json::Serializer::pretty(&mut text);
        message.serialize_with_options(&mut serializer, &options)
    } else {
        let mut serializer = serde_json::Serializer::new(&mut text);
        message.serialize_with_options(&mut serializer, &options)
    }
    .map_err(broken)?;
    String::from_utf8(text).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Every field that is set, with those of inner messages in their place. A name that is taken gets its message's before it.
pub(crate) fn fields(message: &DynamicMessage) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect_fields(message, "", &mut found);
    found
}

fn collect_fields(message: &DynamicMessage, within: &str, found: &mut Vec<(String, String)>) {
    for field in message.descriptor().fields() {
        if !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        if let Some(inner) = inner_message(&value) {
            collect_fields(inner, field.name(), found);
            continue;
        }
        let mut name = field.name().to_owned();
        if found.iter().any(|(taken, _)| *taken == name) {
            name = format!("{within}.{name}");
        }
        found.push((name, cell(&field, &value)));
    }
}

fn inner_message(value: &Value) -> Option<&DynamicMessage> {
    let message = value.as_message()?;
    (message.descriptor().package_name() != "google.protobuf").then_some(message)
}

/// What fields marked as secret hold, in order.
pub(crate) fn secrets(message: &DynamicMessage) -> Vec<String> {
    let mut found = Vec::new();
    for field in message.descriptor().fields() {
        let value = message.get_field(&field);
        if let Some(inner) = inner_message(&value) {
            found.append(&mut secrets(inner));
        } else if is_secret(&field)
            && let Some(text) = value.as_str().filter(|text| !text.is_empty())
        {
            found.push(text.to_owned());
        }
    }
    found
}

fn is_secret(field: &FieldDescriptor) -> bool {
    field
        .options()
        .get_field_by_name("debug_redact")
        .is_some_and(|value| value.as_bool() == Some(true))
}

/// The columns named by `columns` of every entry in `list`.
pub(crate) fn rows(message: &DynamicMessage, list: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let Some(value) = message.get_field_by_name(list) else {
        return Vec::new();
    };
    value
        .as_list()
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_message)
        .map(|entry| row(entry, columns))
        .collect()
}

/// The fields named by `columns`; empty where a field is not set. A number is shown in any case.
pub(crate) fn row(message: &DynamicMessage, columns: &[&str]) -> Vec<String> {
    columns
        .iter()
        .map(|column| column_of(message, column))
        .collect()
}

fn column_of(message: &DynamicMessage, column: &str) -> String {
    message
        .descriptor()
        .get_field_by_name(column)
        .filter(|field| message.has_field(field) || is_number(field))
        .map_or_else(String::new, |field| {
            cell(&field, &message.get_field(&field))
        })
}

fn is_number(field: &FieldDescriptor) -> bool {
    let number = matches!(
        field.kind(),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64
    );
    number && !field.is_list() && !field.supports_presence()
}

/// A value in one line.
fn cell(field: &FieldDescriptor, value: &Value) -> String {
    match value {
        Value::List(values) => joined(values.iter().map(|value| single(field, value))),
        Value::Map(entries) => {
            let mut pairs: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}={}", map_key(key), single(field, value)))
                .collect();
            pairs.sort_unstable();
            joined(pairs.into_iter())
        }
        _ => single(field, value),
    }
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(",")
}

fn single(field: &FieldDescriptor, value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Bool(value) => value.to_string(),
        Value::I32(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::EnumNumber(number) => match field.kind() {
            Kind::Enum(enumeration) => enum_word(&enumeration, *number),
            _ => number.to_string(),
        },
        Value::Message(message) => message_text(message),
        _ => value.to_string(),
    }
}

fn message_text(message: &DynamicMessage) -> String {
    let text = match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => message.transcode_to().ok().and_then(|t| time_text(&t)),
        "google.protobuf.Duration" => message.transcode_to().ok().and_then(duration_text),
        _ => None,
    };
    text.unwrap_or_else(|| {
        fields(message)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    })
}

/// RFC 3339, to the second: JSON has the rest.
fn time_text(time: &prost_types::Timestamp) -> Option<String> {
    let moment = OffsetDateTime::from_unix_timestamp(time.seconds).ok()?;
    moment.format(&Rfc3339).ok()
}

/// To the millisecond: JSON has the rest.
fn duration_text(duration: prost_types::Duration) -> Option<String> {
    let duration = Duration::try_from(duration).ok()?;
    let duration = Duration::from_millis(u64::try_from(duration.as_millis()).ok()?);
    Some(humantime::format_duration(duration).to_string())
}

/// `API_KEY_STATE_ACTIVE` of `ApiKeyState` is `active`.
fn enum_word(enumeration: &EnumDescriptor, number: i32) -> String {
    let Some(value) = enumeration.get_value(number) else {
        return number.to_string();
    };
    let mut prefix = String::new();
    for letter in enumeration.name().chars() {
        if letter.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix.push('_');
    let word = value.name().strip_prefix(&prefix).unwrap_or(value.name());
    word.to_ascii_lowercase().replace('_', "-")
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => printable(text),
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(number) => number.to_string(),
        MapKey::I64(number) => number.to_string(),
        MapKey::U32(number) => number.to_string(),
        MapKey::U64(number) => number.to_string(),
    }
}

/// The text with control characters escaped: a name that somebody chose must not steer the terminal or make up lines.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            // Writing to a String cannot fail.
            write!(printable, "{}", character.escape_default()).unwrap_or_default();
        } else {
            printable.push(character);
        }
    }
    printable
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn created() -> proto::CreateApiKeyResponse {
        proto::CreateApiKeyResponse {
            api_key: Some(proto::ApiKey {
                api_key_id: "XkQBXKr652MV1VF9".to_owned(),
                display_name: "nightly\tjob\u{1b}[31m".to_owned(),
                scopes: vec!["orders.read".to_owned(), "orders.write".to_owned()],
                labels: [("team".to_owned(), "a".to_owned())].into(),
                state: proto::ApiKeyState::Active.into(),
                create_time: Some(prost_types::Timestamp {
                    seconds: 1_700_000_000,
                    nanos: 250_000_000,
                }),
                ..Default::default()
            }),
            api_key_token: "ta_XkQBXKr652MV1VF9_secret".to_owned(),
            granted_scopes: Vec::new(),
        }
    }

    #[test]
    fn json_is_what_grpcurl_shows() {
        let json = json(&described(&created()).unwrap(), true).unwrap();
        insta::assert_snapshot!(json, @r#"
        {
          "apiKey": {
            "apiKeyId": "XkQBXKr652MV1VF9",
            "displayName": "nightly\tjob\u001b[31m",
            "scopes": [
              "orders.read",
              "orders.write"
            ],
            "labels": {
              "team": "a"
            },
            "state": "API_KEY_STATE_ACTIVE",
            "createTime": "2023-11-14T22:13:20.250Z"
          },
          "apiKeyToken": "ta_XkQBXKr652MV1VF9_secret"
        }
        "#);
    }

    #[test]
    fn json_has_big_numbers_as_text_and_keeps_an_answer_that_is_no() {
        let effect = proto::RevocationEffect {
            effective: Some(false),
            position: 1 << 60,
            replicas_total: 2,
            ..Default::default()
        };
        let answer = proto::RevokeTokenResponse {
            effect: Some(effect),
        };
        let json = json(&described(&answer).unwrap(), false).unwrap();
        insta::assert_snapshot!(json, @r#"{"effect":{"effective":false,"replicasTotal":2,"position":"1152921504606846976"}}"#);
    }

    #[test]
    fn json_has_durations_in_seconds() {
        let closing = proto::StreamClosing {
            reconnect_delay: Some(prost_types::Duration {
                seconds: 300,
                nanos: 0,
            }),
        };
        let message = proto::WatchRevocationsResponse {
            message: Some(proto::watch_revocations_response::Message::Closing(closing)),
            ..Default::default()
        };
        let json = json(&described(&message).unwrap(), false).unwrap();
        insta::assert_snapshot!(json, @r#"{"closing":{"reconnectDelay":"300s"}}"#);
    }

    #[test]
    fn text_has_one_line_a_field_and_no_control_characters() {
        let fields = fields(&described(&created()).unwrap());
        let lines: Vec<String> = fields.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        api_key_id: XkQBXKr652MV1VF9
        display_name: nightly\tjob\u{1b}[31m
        scopes: orders.read,orders.write
        labels: team=a
        state: active
        create_time: 2023-11-14T22:13:20Z
        api_key_token: ta_XkQBXKr652MV1VF9_secret
        ");
    }

    #[test]
    fn a_name_that_comes_twice_is_told_apart() {
        let answer = proto::CreateRevocationResponse {
            event: Some(proto::RevocationEvent {
                position: 7,
                ..Default::default()
            }),
            effect: Some(proto::RevocationEffect {
                position: 7,
                ..Default::default()
            }),
        };
        let fields = fields(&described(&answer).unwrap());
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["position", "effect.position"]);
    }

    #[test]
    fn a_password_that_was_made_up_is_a_secret() {
        let reset = proto::ResetPasswordResponse {
            generated_password: "made up".to_owned(),
            effect: Some(proto::RevocationEffect::default()),
        };
        assert_eq!(secrets(&described(&reset).unwrap()), ["made up"]);
    }

    #[test]
    fn secrets_are_found_wherever_they_are() {
        let found = secrets(&described(&created()).unwrap());
        assert_eq!(found, ["ta_XkQBXKr652MV1VF9_secret"]);
        let issued = proto::IssueTokenResponse {
            token: Some(proto::IssuedToken {
                access_token: "eyJ".to_owned(),
                ..Default::default()
            }),
        };
        assert_eq!(secrets(&described(&issued).unwrap()), ["eyJ"]);
    }
}

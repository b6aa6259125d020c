//! The contract's messages from the authority's types, and what requests have in common taken apart.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;

use crate::{
    authority::{
        caller::Caller,
        credentials::Credential,
        page::{Listing, Wanted},
        tokens::IssuedToken,
    },
    clock::Timestamp,
    domain::{
        ids::RoleName,
        revocation::{Entry, Kind, Subject},
    },
    error::{Error, Result},
    log::Effect,
    proto,
};

/// The longest that a caller may ask to wait for a revocation.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);
/// The longest page of an ordinary listing.
pub(super) const PAGE_MAX: usize = 500;
/// The most tokens in one batch.
pub(super) const BATCH_MAX: usize = 256;
/// How long is waited where nothing is asked.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(5);

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.micros().rem_euclid(1_000_000);
    prost_types::Timestamp {
        seconds: time.seconds(),
        nanos: i32::try_from(micros * 1000).unwrap_or_default(),
    }
}

/// INVALID_ARGUMENT about `field` for a moment before 1970 or after 9999.
pub(super) fn moment(
    time: Option<prost_types::Timestamp>,
    field: &str,
) -> Result<Option<Timestamp>> {
    let Some(time) = time else { return Ok(None) };
    let good =
        (0..=253_402_300_799).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    if !good {
        return Err(Error::field(field, "must be a moment from 1970 to 9999"));
    }
    Ok(Some(Timestamp::from_micros(
        time.seconds * 1_000_000 + i64::from(time.nanos / 1000),
    )))
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// INVALID_ARGUMENT about `field` for a span that is negative, ill-formed, or outside `from..=to`.
pub(super) fn span(
    span: Option<prost_types::Duration>,
    field: &str,
    from: Duration,
    to: Duration,
) -> Result<Option<Duration>> {
    let Some(span) = span else { return Ok(None) };
    let parsed = u64::try_from(span.seconds)
        .ok()
        .zip(
            u32::try_from(span.nanos)
                .ok()
                .filter(|nanos| *nanos < 1_000_000_000),
        )
        .map(|(seconds, nanos)| Duration::new(seconds, nanos));
    parsed
        .filter(|parsed| (from..=to).contains(parsed))
        .map(Some)
        .ok_or_else(|| {
            Error::field(
                field,
                format!(
                    "must be from {} to {} seconds",
                    from.as_secs(),
                    to.as_secs()
                ),
            )
        })
}

/// How long to wait for a revocation.
pub(super) fn wait(wait: Option<prost_types::Duration>) -> Result<Duration> {
    Ok(span(wait, "wait", Duration::ZERO, MAX_WAIT)?.unwrap_or(DEFAULT_WAIT))
}

/// How many on a page: up to `max`, 0 means `default`. INVALID_ARGUMENT for others.
pub(super) fn page_size(asked: i32, default: usize, max: usize) -> Result<usize> {
    match usize::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(size) if size <= max => Ok(size),
        Ok(_) | Err(_) => Err(Error::field(
            "page_size",
            format!("must be from 0 to {max}"),
        )),
    }
}

/// The page that a listing asks for; `asked` is its request without page size and page token.
pub(super) fn page(
    caller: &Caller,
    method: &str,
    size: i32,
    token: &str,
    asked: &impl prost::Message,
) -> Result<Wanted> {
    Ok(Wanted {
        size: page_size(size, 50, PAGE_MAX)?,
        token: token.to_owned(),
        listing: Listing::new(caller.space_id().as_str(), method, asked),
    })
}

/// INVALID_ARGUMENT about `field` for nothing.
pub(super) fn required<'a>(text: &'a str, field: &str) -> Result<&'a str> {
    Some(text)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Error::field(field, "is required"))
}

/// The first of two names that is there. INVALID_ARGUMENT about `field` where neither is.
pub(super) fn either<'a>(id: &'a str, name: &'a str, field: &str) -> Result<&'a str> {
    required(if id.is_empty() { name } else { id }, field)
}

/// What an update mask names. INVALID_ARGUMENT for an empty one.
pub(super) fn mask(mask: Option<prost_types::FieldMask>) -> Result<Vec<String>> {
    mask.map(|mask| mask.paths)
        .filter(|paths| !paths.is_empty())
        .ok_or_else(|| Error::field("update_mask", "is required"))
}

/// INVALID_ARGUMENT for what a mask names and nobody can change. It is quoted where it may be the path of a field, and not
/// whatever else somebody has put there.
pub(super) fn unchangeable(path: &str) -> Error {
    let letters = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.' | b'*');
    if path.len() <= 64 && path.bytes().all(letters) {
        return Error::field("update_mask", format!("{path:?} cannot be changed"));
    }
    Error::field("update_mask", "names what is no field")
}

/// INVALID_ARGUMENT about `field` for a text of more than `max` characters, or with control characters.
pub(super) fn text(text: &str, field: &str, max: usize) -> Result<()> {
    if text.chars().count() > max {
        return Err(Error::field(
            field,
            format!("must have at most {max} characters"),
        ));
    }
    if text
        .chars()
        .any(|letter| letter.is_control() && letter != '\n' && letter != '\t')
    {
        return Err(Error::field(field, "must not hold control characters"));
    }
    Ok(())
}

/// INVALID_ARGUMENT about `field` for a list of more than `max`.
pub(super) fn at_most<T>(list: &[T], field: &str, max: usize) -> Result<()> {
    if list.len() <= max {
        Ok(())
    } else {
        Err(Error::field(field, format!("must be at most {max}")))
    }
}

/// Audiences: at most 16, each 1 to 255 characters without spaces.
pub(super) fn audiences(audiences: &[String], field: &str) -> Result<Vec<String>> {
    at_most(audiences, field, 16)?;
    for (index, audience) in audiences.iter().enumerate() {
        let good = (1..=255).contains(&audience.len())
            && audience.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            let field = format!("{field}[{index}]");
            return Err(Error::field(
                field,
                "must be 1 to 255 visible ASCII characters",
            ));
        }
    }
    Ok(audiences.to_vec())
}

pub(super) fn role_names(names: &[String], field: &str) -> Result<Vec<RoleName>> {
    at_most(names, field, 64)?;
    names
        .iter()
        .enumerate()
        .map(|(index, name)| RoleName::parse(name, &format!("{field}[{index}]")))
        .collect()
}

pub(super) fn networks(cidrs: &[String], field: &str) -> Result<Vec<IpNet>> {
    at_most(cidrs, field, 64)?;
    cidrs
        .iter()
        .enumerate()
        .map(|(index, cidr)| {
            let parsed = cidr.parse::<IpNet>().map(|network| network.trunc());
            parsed.map_err(|_| {
                Error::field(
                    format!("{field}[{index}]"),
                    "must be a network in CIDR form",
                )
            })
        })
        .collect()
}

pub(super) fn labels(
    labels: &BTreeMap<String, String>,
    field: &str,
) -> Result<BTreeMap<String, String>> {
    if labels.len() > 32 {
        return Err(Error::field(field, "must be at most 32"));
    }
    for (key, value) in labels {
        if key.is_empty() {
            return Err(Error::field(field, "a label needs a name"));
        }
        text(key, field, 63)?;
        text(value, field, 255)?;
    }
    Ok(labels.clone())
}

/// Whom a credential speaks for.
pub(super) fn principal(credential: &Credential) -> proto::Principal {
    match credential {
        Credential::AccessToken(held) => principal_of(&held.token),
        Credential::ApiKey(key) => {
            let standing = &key.standing;
            proto::Principal {
                user_id: standing.user.id.as_str().to_owned(),
                username: standing.user.username.as_str().to_owned(),
                email: standing.user.email.clone(),
                space_id: standing.space.id.as_str().to_owned(),
                space_slug: standing.space.slug.as_str().to_owned(),
                roles: names(standing.roles.keys()),
                api_key_id: key.id.as_str().to_owned(),
            }
        }
    }
}

fn principal_of(token: &crate::domain::jwt::AccessToken) -> proto::Principal {
    proto::Principal {
        user_id: token.subject.as_str().to_owned(),
        username: token.username.as_str().to_owned(),
        email: token.email.clone().unwrap_or_default(),
        space_id: token.space_id.as_str().to_owned(),
        space_slug: token.space_slug.as_str().to_owned(),
        roles: names(&token.roles),
        api_key_id: token
            .api_key_id
            .as_ref()
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
    }
}

fn names<'a>(roles: impl IntoIterator<Item = &'a RoleName>) -> Vec<String> {
    roles
        .into_iter()
        .map(|role| role.as_str().to_owned())
        .collect()
}

/// A new token, as its holder gets it.
pub(super) fn issued(token: IssuedToken) -> proto::IssuedToken {
    let claims = &token.claims;
    proto::IssuedToken {
        token_type: "Bearer".to_owned(),
        token_id: claims.token_id.to_string(),
        signing_key_id: claims.signing_key_id.to_string(),
        principal: Some(principal_of(claims)),
        scopes: claims.scopes.to_strings(),
        issue_time: Some(timestamp(claims.issue_time)),
        expire_time: Some(timestamp(claims.expire_time)),
        session_id: claims.session_id.to_string(),
        access_token: token.access_token,
    }
}

/// How far a revocation has reached.
pub(super) fn effect(effect: Effect) -> proto::RevocationEffect {
    proto::RevocationEffect {
        cursor: effect.cursor,
        commit_time: Some(timestamp(effect.commit_time)),
        effective: Some(effect.effective),
        replicas_applied: effect.replicas_applied,
        replicas_total: effect.replicas_total,
        position: effect.position.map_or(0, |position| position.0),
    }
}

/// An entry of the log, as subscribers get it.
pub(super) fn event(entry: &Entry) -> proto::RevocationEvent {
    let decision = &entry.decision;
    let kind = match decision.kind {
        Kind::Revocation => proto::RevocationKind::Revocation,
        Kind::Change => proto::RevocationKind::Change,
    };
    proto::RevocationEvent {
        event_id: entry.event_id.to_string(),
        position: entry.position.0,
        kind: kind.into(),
        subject: Some(subject(&decision.subject)),
        space_id: decision
            .space_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        sessions_until: decision.sessions_until.map(timestamp),
        effective_time: decision.effective_time.map(timestamp),
        create_time: Some(timestamp(entry.create_time)),
        forget_time: Some(timestamp(entry.forget_time)),
        reason: decision.reason.into(),
    }
}

fn subject(subject: &Subject) -> proto::RevocationSubject {
    use proto::revocation_subject::Subject as Told;
    let told = match subject {
        Subject::Token(id) => Some(Told::TokenId(id.to_string())),
        Subject::Session(id) => Some(Told::SessionId(id.to_string())),
        Subject::User(id) => Some(Told::UserId(id.to_string())),
        Subject::ApiKey(id) => Some(Told::ApiKeyId(id.to_string())),
        Subject::Role(name) => Some(Told::Role(name.to_string())),
        Subject::Space(id) => Some(Told::SpaceId(id.to_string())),
        Subject::SigningKey(id) => Some(Told::SigningKeyId(id.to_string())),
        Subject::Everything => Some(Told::Everything(true)),
        // A reader takes a subject that it does not know for everything in the entry's space.
        Subject::Unknown => None,
    };
    proto::RevocationSubject { subject: told }
}

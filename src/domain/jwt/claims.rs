//! What an access token says: the claims of RFC 9068 section 2.2 and this service's own.

use std::{borrow::Cow, collections::BTreeSet, fmt, sync::Arc, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{MAX_LIFETIME, Rejection};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{
            ApiKeyId, RoleName, SessionId, SigningKeyId, SpaceId, SpaceSlug, TokenId, UserId,
            Username,
        },
        permission::PermissionSet,
    },
    error::{Error, Result},
};

/// How far `iat` and `nbf` may lie ahead of this machine's clock. `exp` has no such leeway.
const CLOCK_LEEWAY: Duration = Duration::from_secs(30);

/// The largest integer that every JSON reader keeps exact (RFC 8259 section 6).
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The last second of the year 9999: no honest date is later, and none that far overflows.
const MAX_SECONDS: u64 = 253_402_300_799;

/// The claims of a token that was accepted, or that is to be signed. Times count in whole seconds: a token says no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// `iss`: the authority.
    pub issuer: Arc<str>,
    /// `sub`: whom it speaks for.
    pub subject: UserId,
    /// `aud`: whom it is meant for; at least one.
    pub audiences: Vec<String>,
    /// `exp`: from then on it is worth nothing.
    pub expire_time: Timestamp,
    /// `iat`: when it was made.
    pub issue_time: Timestamp,
    /// `nbf`: before that it is worth nothing.
    pub not_before: Timestamp,
    /// `jti`.
    pub token_id: TokenId,
    /// `client_id`: the API key's id, or `password`.
    pub client_id: String,
    /// `scope`: what it allows.
    pub scopes: PermissionSet,
    /// `space`: where it acts.
    pub space_id: SpaceId,
    /// `space_slug`: that space's short name when it was made.
    pub space_slug: SpaceSlug,
    /// `username`: the subject's name when it was made.
    pub username: Username,
    /// `email`: the subject's address, where it has one.
    pub email: Option<String>,
    /// `roles`: the subject's roles in the space when it was made.
    pub roles: Vec<RoleName>,
    /// `api_key_id`: the API key that it was made from, if any.
    pub api_key_id: Option<ApiKeyId>,
    /// `narrowed`: whether it allows less than the subject may.
    pub narrowed: bool,
    /// `sid`: the sign-in that it comes from.
    pub session_id: SessionId,
    /// `auth_time`: when that sign-in was; survives rotation.
    pub auth_time: Timestamp,
    /// `rev`: the position of the revocation log up to which all is considered in it.
    pub rev: u64,
    /// `kid` of the header: the key that signed it. [`super::SigningKey::sign`] writes its own instead.
    pub signing_key_id: SigningKeyId,
}

impl AccessToken {
    /// Whether its time is `now`: no leeway on `exp`, 30 seconds on `iat` and `nbf`.
    pub fn check_times(&self, now: Timestamp) -> Result<(), Rejection> {
        if now >= self.expire_time {
            return Err(Rejection::Expired);
        }
        if self.issue_time.max(self.not_before) > now + CLOCK_LEEWAY {
            return Err(Rejection::NotYetValid);
        }
        Ok(())
    }

    /// The claims as the token carries them. `INTERNAL` where a claim cannot be written.
    pub fn to_claims_json(&self) -> Result<Vec<u8>> {
        let claims = Claims::of(self)
            .ok_or_else(|| Error::internal("the claims of a token are out of their range"))?;
        serde_json::to_vec(&claims).map_err(|error| {
            Error::internal("the claims of a token cannot be written").because(error)
        })
    }

    /// Reads claims as strictly as [`super::verify`] does, without regard to issuer and time.
    pub fn from_claims_json(json: &[u8], signing_key_id: &SigningKeyId) -> Result<Self, Rejection> {
        // Checked once as a whole, so that not even a part that is passed over can be anything but UTF-8.
        let json = std::str::from_utf8(json).map_err(|_| Rejection::Malformed)?;
        let claims: Claims<'_> = serde_json::from_str(json).map_err(|_| Rejection::Malformed)?;
        claims.check()?;
        Ok(claims.into_access_token(signing_key_id.clone()))
    }
}

/// The claims set as JSON. A claim that is not known here is passed over, so that a release which adds one can run beside
/// this one; a claim that comes twice is not.
#[derive(Serialize, Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(deserialize_with = "one_or_more")]
    aud: Cow<'a, [String]>,
    exp: u64,
    iat: u64,
    nbf: u64,
    #[serde(borrow)]
    jti: Cow<'a, str>,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    #[serde(borrow)]
    space: Cow<'a, str>,
    #[serde(borrow)]
    space_slug: Cow<'a, str>,
    #[serde(borrow)]
    username: Cow<'a, str>,
    #[serde(
        borrow,
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    email: Option<Cow<'a, str>>,
    roles: Cow<'a, [RoleName]>,
    #[serde(
        borrow,
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    api_key_id: Option<Cow<'a, str>>,
    narrowed: bool,
    #[serde(borrow)]
    sid: Cow<'a, str>,
    auth_time: u64,
    rev: u64,
    #[serde(flatten, skip_serializing)]
    #[expect(dead_code, reason = "reading it is the check")]
    others: Others,
}

impl<'a> Claims<'a> {
    /// None where a time lies before 1970.
    fn of(token: &'a AccessToken) -> Option<Self> {
        let seconds = |time: Timestamp| u64::try_from(time.seconds()).ok();
        Some(Self {
            iss: Cow::Borrowed(&*token.issuer),
            sub: token.subject.as_str().into(),
            aud: token.audiences.as_slice().into(),
            exp: seconds(token.expire_time)?,
            iat: seconds(token.issue_time)?,
            nbf: seconds(token.not_before)?,
            jti: token.token_id.as_str().into(),
            client_id: token.client_id.as_str().into(),
            scope: token.scopes.to_claim().into(),
            space: token.space_id.as_str().into(),
            space_slug: token.space_slug.as_str().into(),
            username: token.username.as_str().into(),
            email: token.email.as_deref().map(Cow::Borrowed),
            roles: token.roles.as_slice().into(),
            api_key_id: token.api_key_id.as_ref().map(|id| id.as_str().into()),
            narrowed: token.narrowed,
            sid: token.session_id.as_str().into(),
            auth_time: seconds(token.auth_time)?,
            rev: token.rev,
            others: Others,
        })
    }

    fn check(&self) -> Result<(), Rejection> {
        let texts = [
            &self.iss,
            &self.sub,
            &self.jti,
            &self.client_id,
            &self.space,
            &self.space_slug,
            &self.username,
            &self.sid,
        ];
        let filled = texts.iter().all(|text| !text.is_empty());
        let meant = !self.aud.is_empty() && self.aud.iter().all(|audience| !audience.is_empty());
        let dated = [self.exp, self.iat, self.nbf, self.auth_time]
            .iter()
            .all(|seconds| *seconds <= MAX_SECONDS);
        let lives = self
            .exp
            .checked_sub(self.iat)
            .is_some_and(|seconds| seconds <= MAX_LIFETIME.as_secs());
        let placed = self.rev <= MAX_SAFE_INTEGER;
        if filled && meant && dated && lives && placed {
            Ok(())
        } else {
            Err(Rejection::Malformed)
        }
    }

    fn into_access_token(self, signing_key_id: SigningKeyId) -> AccessToken {
        AccessToken {
            issuer: self.iss.into(),
            subject: UserId::known(self.sub),
            audiences: self.aud.into_owned(),
            expire_time: at(self.exp),
            issue_time: at(self.iat),
            not_before: at(self.nbf),
            token_id: TokenId::known(self.jti),
            client_id: self.client_id.into_owned(),
            scopes: PermissionSet::from_claim(&self.scope),
            space_id: SpaceId::known(self.space),
            space_slug: SpaceSlug::known(self.space_slug),
            username: Username::known(self.username),
            email: self.email.map(Cow::into_owned),
            roles: self.roles.into_owned(),
            api_key_id: self.api_key_id.map(ApiKeyId::known),
            narrowed: self.narrowed,
            session_id: SessionId::known(self.sid),
            auth_time: at(self.auth_time),
            rev: self.rev,
            signing_key_id,
        }
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// A claim that may be missing but not null.
fn not_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    struct Text;

    impl<'de> Visitor<'de> for Text {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }
    }

    deserializer.deserialize_str(Text).map(Some)
}

/// `aud`: one string, or an array of strings (RFC 7519 section 4.1.3).
fn one_or_more<'de, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Cow<'a, [String]>, D::Error> {
    struct Audiences;

    impl<'de> Visitor<'de> for Audiences {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or an array of strings")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut audiences = Vec::new();
            while let Some(audience) = array.next_element()? {
                audiences.push(audience);
            }
            Ok(audiences)
        }
    }

    deserializer.deserialize_any(Audiences).map(Cow::Owned)
}

/// The claims that are not known here: passed over, but refused where one comes twice, since readers differ in which counts.
struct Others;

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Others;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut seen = BTreeSet::new();
                while let Some((name, IgnoredAny)) = map.next_entry::<Cow<'de, str>, _>()? {
                    if !seen.insert(name) {
                        return Err(de::Error::custom("a claim comes twice"));
                    }
                }
                Ok(Others)
            }
        }

        deserializer.deserialize_map(Names)
    }
}

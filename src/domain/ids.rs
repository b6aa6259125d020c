//! Names of things: who, where, which. Each is a type of its own, so that none is taken for another.

use std::{fmt, sync::Arc};

use crate::{
    clock::Timestamp,
    error::{Error, Result},
    random,
};

/// A name as its own type: cheap to clone, compared as text.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes a text that is known to be such a name: from our own database, or from a token that we signed.
            pub fn known(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::known)
            }
        }
    };
}

/// An id that we give out: a prefix that tells what it is of, and a `UUIDv7` in base32. Never reused.
macro_rules! id {
    ($(#[$doc:meta])* $type:ident, $prefix:literal) => {
        name!($(#[$doc])* $type);

        impl $type {
            /// What these ids begin with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, which tells when it was made.
            pub fn new(now: Timestamp) -> Result<Self> {
                Ok(Self(format!("{}{}", $prefix, uuid_base32(now)?).into()))
            }
        }
    };
}

id!(
    /// A user, for example `usr_01k…`.
    UserId, "usr_"
);
id!(
    /// A space, for example `spc_01k…`.
    SpaceId, "spc_"
);
id!(
    /// An entry of the revocation log.
    EventId, "rev_"
);
id!(
    /// An entry of the audit log.
    AuditEventId, "aud_"
);
id!(
    /// A lease of a running server: new at every start, and whenever it has lost the one before.
    ReplicaId, "rpl_"
);
name!(
    /// A space's unique short name.
    SpaceSlug
);
name!(
    /// The name by which a user signs in, in lower case.
    Username
);
name!(
    /// A user as a request names it: by id or username, folded to lower case.
    NamedUser
);
name!(
    /// A space as a request names it: by id or slug, folded to lower case.
    NamedSpace
);
name!(
    /// A role's name within its space.
    RoleName
);
name!(
    /// The public half of an API key: 16 letters and digits.
    ApiKeyId
);
name!(
    /// A signing key's `kid`: its RFC 7638 thumbprint.
    SigningKeyId
);
name!(
    /// A JWT's `jti`.
    TokenId
);
name!(
    /// A JWT's `sid`: the sign-in that it comes from.
    SessionId
);

impl SigningKeyId {
    /// Takes what a client sent. NOT_FOUND where no key can be called so.
    pub fn parse(text: &str) -> Result<Self> {
        const LENGTH: usize = 43;
        let good = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_';
        if text.len() == LENGTH && text.bytes().all(good) {
            return Ok(Self(text.into()));
        }
        Err(Error::not_found("signing_key"))
    }
}

impl NamedUser {
    /// Takes what a client sent. NOT_FOUND where nobody can be called so.
    pub fn parse(text: &str) -> Result<Self> {
        let good = |letter: u8| Username::has_letter(letter) || letter == b'_';
        folded(text, Username::LONGEST, good)
            .map(Self)
            .ok_or_else(|| Error::not_found("user"))
    }
}

impl UserId {
    /// As a request would name the user.
    pub fn named(&self) -> NamedUser {
        NamedUser(Arc::clone(&self.0))
    }
}

impl NamedSpace {
    /// Takes what a client sent. NOT_FOUND where no space can be called so.
    pub fn parse(text: &str) -> Result<Self> {
        let good = |letter: u8| SpaceSlug::has_letter(letter) || letter == b'_';
        folded(text, SpaceSlug::LONGEST, good)
            .map(Self)
            .ok_or_else(|| Error::not_found("space"))
    }
}

impl NamedSpace {
    /// The space of those who run the authority.
    pub fn system() -> Self {
        Self(SpaceSlug::SYSTEM.into())
    }
}

impl SpaceId {
    /// As a request would name the space.
    pub fn named(&self) -> NamedSpace {
        NamedSpace(Arc::clone(&self.0))
    }
}

/// A name in lower case; none where it is empty, too long, or not all of its letters are good.
fn folded(text: &str, longest: usize, good: impl Fn(u8) -> bool) -> Option<Arc<str>> {
    let fits = (1..=longest).contains(&text.len());
    let folded = fits.then(|| text.to_ascii_lowercase())?;
    folded.bytes().all(good).then(|| folded.into())
}

impl TokenId {
    /// 128 random bits, base64url.
    pub fn random() -> Result<Self> {
        Ok(Self(random_base64url()?.into()))
    }
}

impl SessionId {
    /// 128 random bits, base64url.
    pub fn random() -> Result<Self> {
        Ok(Self(random_base64url()?.into()))
    }
}

impl ApiKeyId {
    /// How many characters.
    pub const LENGTH: usize = 16;

    /// 16 random letters and digits.
    pub fn random() -> Result<Self> {
        Ok(Self(random::base62(Self::LENGTH)?.as_str().into()))
    }

    /// Takes what a client sent, where it has the form of such an id.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == Self::LENGTH && text.bytes().all(|b| b.is_ascii_alphanumeric());
        good.then(|| Self(text.into()))
    }
}

impl SpaceSlug {
    /// The space of those who run the authority.
    pub const SYSTEM: &'static str = "system";
    const LONGEST: usize = 63;

    fn has_letter(letter: u8) -> bool {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-'
    }

    /// Takes 3 to 63 of a-z, 0-9 and `-`, beginning with a letter. INVALID_ARGUMENT about `field` otherwise.
    pub fn parse(text: &str, field: &str) -> Result<Self> {
        let good = (3..=Self::LONGEST).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(Self::has_letter);
        good.then(|| Self(text.into())).ok_or_else(|| {
            Error::field(
                field,
                "must be 3 to 63 of a-z, 0-9 and -, beginning with a letter",
            )
        })
    }
}

impl Username {
    const LONGEST: usize = 64;

    fn has_letter(letter: u8) -> bool {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"._@+-".contains(&letter)
    }

    /// Takes 1 to 64 of a-z, 0-9 and `._@+-`, folded to lower case, not beginning `usr_`. INVALID_ARGUMENT about `field`
    /// otherwise.
    pub fn parse(text: &str, field: &str) -> Result<Self> {
        folded(text, Self::LONGEST, Self::has_letter)
            .filter(|folded| !folded.starts_with(UserId::PREFIX))
            .map(Self)
            .ok_or_else(|| {
                Error::field(
                    field,
                    "must be 1 to 64 of a-z, 0-9 and ._@+-, not beginning usr_",
                )
            })
    }
}

impl RoleName {
    /// Takes 1 to 63 of a-z, 0-9 and `._-`, beginning with a letter. INVALID_ARGUMENT about `field` otherwise.
    pub fn parse(text: &str, field: &str) -> Result<Self> {
        let good = (1..=63).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        good.then(|| Self(text.into())).ok_or_else(|| {
            Error::field(
                field,
                "must be 1 to 63 of a-z, 0-9 and ._-, beginning with a letter",
            )
        })
    }
}

fn random_base64url() -> Result<String> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random::bytes::<16>()?))
}

/// A `UUIDv7` (RFC 9562 section 5.7) of `now`, in base32: it sorts as time does.
fn uuid_base32(now: Timestamp) -> Result<String> {
    let millis = u64::try_from(now.millis()).unwrap_or(0);
    let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random::bytes::<10>()?)
        .into_uuid()
        .as_u128();
    Ok(base32(uuid).map(char::from).iter().collect())
}

/// Crockford's base32, lower case.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A number in [`BASE32`].
pub(crate) fn base32(number: u128) -> [u8; 26] {
    let mut text = [0; 26];
    let mut rest = number;
    for letter in text.iter_mut().rev() {
        *letter = BASE32[(rest & 31) as usize];
        rest >>= 5;
    }
    text
}

/// The number whose [`base32`] this is.
pub(crate) fn from_base32(text: &[u8]) -> Option<u128> {
    let mut number = 0_u128;
    for letter in text {
        let digit = BASE32_DIGITS[usize::from(*letter)];
        number = number << 5 | u128::from(digit);
    }
    (base32(number) == text).then_some(number)
}

/// What each letter of [`BASE32`] stands for.
const BASE32_DIGITS: [u8; 256] = {
    let mut digits = [0; 256];
    let mut digit = 0;
    while digit < 32 {
        digits[BASE32[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    #[test]
    fn an_id_tells_its_kind_and_sorts_by_time() {
        let early = UserId::new(Timestamp::from_seconds(1_700_000_000)).unwrap();
        let late = UserId::new(Timestamp::from_seconds(1_700_000_001)).unwrap();
        assert!(early.as_str().starts_with("usr_"));
        assert_eq!(early.as_str().len(), 30);
        assert!(early < late);
    }

    #[test]
    fn names_outside_their_alphabet_are_refused() {
        for name in [
            "",
            "Root",
            "root ",
            "root/..",
            "r\u{43e}ot",
            "1root",
            "-root",
        ] {
            assert!(RoleName::parse(name, "name").is_err(), "{name:?}");
        }
        for name in ["", "usr_x", "USR_x", "a b", "a\0", "ä"] {
            assert!(Username::parse(name, "username").is_err(), "{name:?}");
        }
        assert_eq!(
            Username::parse("Alice@Example.org", "u").unwrap().as_str(),
            "alice@example.org"
        );
    }

    #[test]
    fn who_is_named_is_found_in_any_case_or_not_at_all() {
        let id = UserId::new(Timestamp::from_seconds(1_700_000_000)).unwrap();
        assert_eq!(NamedUser::parse(id.as_str()).unwrap(), id.named());
        assert_eq!(NamedUser::parse("ALICE").unwrap().as_str(), "alice");
        assert_eq!(NamedSpace::parse("Acme").unwrap().as_str(), "acme");
        let long = "a".repeat(65);
        for name in ["", "a\0b", "a b", "\u{e9}", "\u{212a}", "*", &long] {
            let user = NamedUser::parse(name).map_err(|error| error.reason());
            assert_eq!(user, Err(Reason::ResourceNotFound), "{name:?}");
            let space = NamedSpace::parse(name).map_err(|error| error.reason());
            assert_eq!(space, Err(Reason::ResourceNotFound), "{name:?}");
        }
    }
}

//! The API key token: `<prefix>_<id>_<secret>`. One spelling, a checksum that tells typing errors and guesses from keys
//! without a look-up, and a digest that is all that is stored.

use std::fmt;

use aws_lc_rs::digest;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::{
    domain::ids::ApiKeyId,
    error::{Error, Result},
};

/// Digits before capitals before small letters, as in ASCII.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const RANDOM_LENGTH: usize = 26;
const CHECKSUM_LENGTH: usize = 6;
const SECRET_LENGTH: usize = RANDOM_LENGTH + CHECKSUM_LENGTH;
const PREFIX_MAX: usize = 12;
/// Of a whole key.
const MAX_LENGTH: usize = PREFIX_MAX + 1 + ApiKeyId::LENGTH + 1 + SECRET_LENGTH;

/// What the keys of a space begin with: 2 to 12 of a-z and 0-9, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrefix(Box<str>);

impl KeyPrefix {
    /// The prefix of a space that names none.
    pub const DEFAULT: &'static str = "ta";

    /// Takes what a client sent. `INVALID_ARGUMENT` about `field` where it has not the form of a prefix.
    pub fn parse(text: &str, field: &str) -> Result<Self> {
        if is_prefix(text) {
            return Ok(Self(text.into()));
        }
        Err(Error::field(
            field,
            "must be 2 to 12 of a-z and 0-9, beginning with a letter",
        ))
    }

    /// Takes a text that is known to be a prefix: from our own database.
    pub fn known(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_prefix(text: &str) -> bool {
    (2..=PREFIX_MAX).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// A whole API key, as its holder has it. Wiped when dropped.
pub struct ApiKeyToken {
    /// What it begins with.
    pub prefix: KeyPrefix,
    /// Its public half.
    pub id: ApiKeyId,
    secret: Secret,
}

#[derive(ZeroizeOnDrop)]
struct Secret([u8; SECRET_LENGTH]);

impl ApiKeyToken {
    /// Takes exactly what [`ApiKeyToken::expose`] gave; none where the form or the checksum is not right.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, id, secret) = parts(text)?;
        let (checked, checksum) = text.split_at_checked(text.len() - CHECKSUM_LENGTH)?;
        if checksum.as_bytes() != checksum_of(checked) {
            return None;
        }
        Some(Self {
            prefix: KeyPrefix(prefix.into()),
            id: ApiKeyId::known(id),
            secret: Secret(secret.as_bytes().try_into().ok()?),
        })
    }

    /// Makes the key that `material` stands for: the same bytes give the same secret.
    pub fn mint(prefix: KeyPrefix, id: ApiKeyId, material: &[u8; 32]) -> Self {
        let mut secret = Secret([0; SECRET_LENGTH]);
        fill_base62(&mut secret.0[..RANDOM_LENGTH], material);
        let mut token = Self { prefix, id, secret };
        let text = token.expose();
        let checksum = checksum_of(&text[..text.len() - CHECKSUM_LENGTH]);
        token.secret.0[RANDOM_LENGTH..].copy_from_slice(&checksum);
        token
    }

    /// The whole key as text: for the one answer that shows it.
    pub fn expose(&self) -> Zeroizing<String> {
        let (prefix, id) = (self.prefix.as_str(), self.id.as_str());
        // At its full size from the start, since a string that grows leaves a copy behind.
        let length = prefix.len() + id.len() + SECRET_LENGTH + 2;
        let mut text = Zeroizing::new(String::with_capacity(length));
        for part in [prefix, "_", id, "_"] {
            text.push_str(part);
        }
        text.extend(self.secret.0.iter().copied().map(char::from));
        text
    }

    /// What is stored of the secret.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.secret.0)
    }

    /// The start of the key, by which people recognise it: all but the secret.
    pub fn hint(&self) -> String {
        hint(&self.prefix, &self.id)
    }
}

impl fmt::Debug for ApiKeyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyToken")
    }
}

/// The start of a key, by which people recognise it, for example `ta_XkQBXKr652MV1VF9`.
pub fn hint(prefix: &KeyPrefix, id: &ApiKeyId) -> String {
    format!("{prefix}_{id}")
}

/// Whether a credential looks like an API key rather than a JWT, whatever its checksum.
pub fn has_form(text: &str) -> bool {
    parts(text).is_some()
}

/// Prefix, id and secret, where each has its alphabet and length.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let mut parts = text.split('_');
    let (prefix, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let well_formed = parts.next().is_none()
        && is_prefix(prefix)
        && is_base62(id, ApiKeyId::LENGTH)
        && is_base62(secret, SECRET_LENGTH);
    well_formed.then_some((prefix, id, secret))
}

fn is_base62(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// CRC-32 as in IEEE 802.3, in base62, zero-padded.
fn checksum_of(text: &str) -> [u8; CHECKSUM_LENGTH] {
    let mut checksum = [0; CHECKSUM_LENGTH];
    let mut rest = crc32fast::hash(text.as_bytes());
    for place in checksum.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    checksum
}

/// Writes a number of 256 bits into base62, as far as there is room: the lowest 26 digits (154 bits) are as good as evenly
/// spread, their bias being below 2⁻¹⁰⁰.
fn fill_base62(places: &mut [u8], number: &[u8; 32]) {
    let mut number = Zeroizing::new(*number);
    for place in places {
        let mut remainder = 0_u16;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u16::from(*byte);
            // The upper byte is zero, since the remainder that came from the left is below 62.
            [_, *byte] = (value / 62).to_be_bytes();
            remainder = value % 62;
        }
        *place = BASE62[usize::from(remainder)];
    }
}

/// SHA-256 of a key's 32-character secret: enough, since the secret has 154 random bits. Compared in constant time.
#[derive(Clone)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// Takes what is stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it is stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(secret: &[u8; SECRET_LENGTH]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Self(bytes)
    }
}

impl PartialEq for SecretDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretDigest {}

impl Drop for SecretDigest {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "XkQBXKr652MV1VF9";

    fn minted(material: u8) -> ApiKeyToken {
        ApiKeyToken::mint(KeyPrefix::default(), ApiKeyId::known(ID), &[material; 32])
    }

    #[test]
    fn what_was_minted_is_read_back() {
        for material in 0..=255 {
            let token = minted(material);
            let read = ApiKeyToken::parse(&token.expose()).unwrap();
            assert_eq!(read.id, token.id);
            assert_eq!(read.prefix, token.prefix);
            assert_eq!(read.digest(), token.digest());
            assert_eq!(read.hint(), format!("ta_{ID}"));
        }
        assert_ne!(minted(1).digest(), minted(2).digest());
        assert_eq!(minted(1).digest(), minted(1).digest());
    }

    #[test]
    fn the_checksum_is_the_ieee_one() {
        // The check value of CRC-32/ISO-HDLC, 0xCBF43926, is 3421780262.
        assert_eq!(checksum_of("123456789"), *b"3jZRME");
        assert_eq!(checksum_of(""), *b"000000");
    }

    #[test]
    fn a01_a_character_changed_anywhere_is_noticed() {
        let text = minted(7).expose();
        for position in 0..text.len() {
            for other in (0..128).map(|code: u8| char::from(code)) {
                let mut changed = text.to_string();
                changed.replace_range(position..=position, other.encode_utf8(&mut [0; 4]));
                let same = changed == **text;
                assert_eq!(ApiKeyToken::parse(&changed).is_some(), same, "{changed}");
            }
        }
    }

    #[test]
    fn a04_a06_there_is_one_spelling() {
        let text = minted(7).expose();
        let secret = &text[text.len() - SECRET_LENGTH..];
        let refused = [
            String::new(),
            "_".into(),
            "__".into(),
            text.to_lowercase(),
            text.to_uppercase(),
            format!(" {}", *text),
            format!("{}\n", *text),
            format!("{}=", *text),
            format!("{}_", *text),
            format!("_{}", *text),
            format!("{}\0", *text),
            text.replace('_', "-"),
            ID.into(),
            format!("ta_{ID}"),
            format!("ta_{ID}_"),
            secret.into(),
            format!("{ID}_{secret}"),
            format!("ta__{secret}"),
            format!("{ID}_ta_{secret}"),
            text[..text.len() - 1].into(),
            text[1..].into(),
            "\u{e9}".repeat(26),
            "a".repeat(1 << 20),
            "eyJhbGciOiJFZERTQSJ9.eyJhIjoxfQ.AAAA".into(),
        ];
        for text in refused {
            assert!(ApiKeyToken::parse(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn a02_the_form_is_told_apart_from_the_checksum() {
        let text = minted(7).expose();
        let guessed = format!("{}000000", &text[..text.len() - CHECKSUM_LENGTH]);
        assert!(has_form(&guessed));
        assert!(ApiKeyToken::parse(&guessed).is_none());
        assert!(!has_form("eyJhbGciOiJFZERTQSJ9.eyJhIjoxfQ.AAAA"));
        assert!(!has_form("correct horse battery staple"));
    }

    #[test]
    fn a_prefix_is_2_to_12_small_letters_and_digits() {
        for good in ["ta", "a1", "abcdefghijk9"] {
            let prefix = KeyPrefix::parse(good, "key_prefix").unwrap();
            let token = ApiKeyToken::mint(prefix, ApiKeyId::known(ID), &[9; 32]);
            assert!(ApiKeyToken::parse(&token.expose()).is_some(), "{good}");
        }
        for bad in [
            "",
            "a",
            "1a",
            "Ta",
            "t_a",
            "t-a",
            "t\u{e4}",
            "abcdefghijklm",
            " ta",
        ] {
            assert!(KeyPrefix::parse(bad, "key_prefix").is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_spread_over_the_alphabet() {
        let mut counts = [0_u32; 62];
        for _ in 0..2_000 {
            let material = crate::random::bytes::<32>().unwrap();
            let token = ApiKeyToken::mint(KeyPrefix::default(), ApiKeyId::known(ID), &material);
            for character in &token.secret.0[..RANDOM_LENGTH] {
                counts[BASE62.iter().position(|b| b == character).unwrap()] += 1;
            }
        }
        // 839 are expected of each; ten standard deviations to either side.
        assert!(
            counts.iter().all(|count| (550..1_130).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = minted(7);
        assert_eq!(
            format!("{token:?} {:?}", token.digest()),
            "ApiKeyToken SecretDigest"
        );
    }
}

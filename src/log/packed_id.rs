//! Ids in no more bytes than they have bits: a text that somebody may have chosen is left as it is.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::packing::Unpacking;
use crate::domain::ids::{self, EventId, SpaceId, UserId};

/// What ids begin with that we give out. The rest is a number in base32.
const PREFIXES: [&str; 3] = [EventId::PREFIX, UserId::PREFIX, SpaceId::PREFIX];

/// How an id is packed: the byte before it. From the last one on, one for each of the prefixes.
const PLAIN: u8 = 0;
const BASE64URL: u8 = 1;
const BASE32: u8 = 2;

/// The characters of 128 bits in base64url.
const BASE64URL_LENGTH: usize = 22;
/// The characters of a prefix and of 128 bits in base32.
const BASE32_LENGTH: usize = 30;

pub(super) fn pack(text: &str, bytes: &mut Vec<u8>) {
    let packed = match text.len() {
        BASE64URL_LENGTH => from_base64url(text).map(|number| (BASE64URL, number)),
        BASE32_LENGTH => from_base32(text),
        _ => None,
    };
    let Some((form, number)) = packed else {
        bytes.push(PLAIN);
        super::packing::number(bytes, text.len() as u64);
        return bytes.extend_from_slice(text.as_bytes());
    };
    bytes.push(form);
    bytes.extend_from_slice(&number.to_be_bytes());
}

fn from_base64url(text: &str) -> Option<u128> {
    let mut number = [0; 16];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut number).ok()?;
    (length == number.len()).then(|| u128::from_be_bytes(number))
}

fn from_base32(text: &str) -> Option<(u8, u128)> {
    let (form, prefix) = (BASE32..)
        .zip(PREFIXES)
        .find(|(_, prefix)| text.starts_with(prefix))?;
    let number = ids::from_base32(&text.as_bytes()[prefix.len()..])?;
    Some((form, number))
}

/// An id that is still packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedId<'a> {
    form: u8,
    bytes: &'a [u8],
}

impl<'a> PackedId<'a> {
    pub(super) fn next(unpacking: &mut Unpacking<'a>) -> Self {
        let form = unpacking.byte();
        let length = match form {
            PLAIN => usize::try_from(unpacking.number()).unwrap_or_default(),
            _ => 16,
        };
        Self {
            form,
            bytes: unpacking.bytes(length),
        }
    }

    /// Makes something of the text.
    pub(super) fn unpack<T>(self, make: impl FnOnce(&str) -> T) -> T {
        let mut room = [0; BASE32_LENGTH];
        let text = match self.form {
            PLAIN => self.bytes,
            BASE64URL => {
                let length = URL_SAFE_NO_PAD.encode_slice(self.bytes, &mut room);
                &room[..length.unwrap_or_default()]
            }
            form => {
                let number = self.bytes.try_into().map_or(0, u128::from_be_bytes);
                let prefix = PREFIXES[usize::from(form - BASE32)];
                let (before, after) = room.split_at_mut(prefix.len());
                before.copy_from_slice(prefix.as_bytes());
                after.copy_from_slice(&ids::base32(number));
                &room
            }
        };
        // It was packed from a text.
        make(std::str::from_utf8(text).unwrap_or_default())
    }
}

//! A position made opaque, and bound to the log and to the stream that it came from.

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    domain::{
        ids::{EventId, SpaceId},
        revocation::Position,
    },
    error::{Error, Reason, Result},
};

const VERSION: u8 = 1;
const BODY: usize = 1 + 16 + 8 + 8 + 8;
const TAG: usize = 16;

/// Which log it is: drawn anew whenever the log begins anew, so that a cursor of another one is known for what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity(pub [u8; 16]);

/// The first bytes of an entry's id: whether the entry at a place is still the one that was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryMark(pub [u8; 8]);

impl EntryMark {
    /// The mark of the entry with this id. Ids begin with their time: it is their random end that tells them apart.
    pub fn of(event_id: &EventId) -> Self {
        let mut mark = [0; 8];
        let bytes = event_id.as_str().as_bytes();
        let end = bytes.len().saturating_sub(mark.len());
        mark.copy_from_slice(
            bytes
                .get(end..)
                .filter(|tail| tail.len() == 8)
                .unwrap_or(&[0; 8]),
        );
        Self(mark)
    }
}

/// What a stream covers, in 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage([u8; 8]);

impl Coverage {
    /// A verdict or an effect: good as `min_cursor`, not to resume a stream from.
    pub const PLACE: Self = Self([0; 8]);

    /// A stream over these spaces; none: over every space.
    pub fn of(spaces: Option<&[SpaceId]>) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(&[u8::from(spaces.is_some())]);
        let mut spaces = spaces.unwrap_or_default().to_vec();
        spaces.sort_unstable();
        for space in &spaces {
            context.update(space.as_str().as_bytes());
            context.update(&[0]);
        }
        let mut digest = [0; 8];
        digest.copy_from_slice(&context.finish().as_ref()[..8]);
        Self(digest)
    }
}

/// A place in the log as it was when the cursor was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Of which log.
    pub log: LogIdentity,
    /// The place.
    pub position: Position,
    /// The entry that was there.
    pub mark: EntryMark,
    /// Of what stream.
    pub coverage: Coverage,
}

/// Makes cursors opaque, and knows its own.
#[derive(Debug, Clone)]
pub struct CursorSeal {
    key: hmac::Key,
    older: Vec<hmac::Key>,
}

impl CursorSeal {
    /// Seals under a key that every replica derives alike.
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            older: Vec::new(),
        }
    }

    /// Knows what was sealed under `key`, too.
    #[must_use]
    pub fn knows(mut self, key: &[u8; 32]) -> Self {
        self.older.push(hmac::Key::new(hmac::HMAC_SHA256, key));
        self
    }

    /// The cursor as clients hold it.
    pub fn seal(&self, cursor: &Cursor) -> String {
        let mut bytes = Vec::with_capacity(BODY + TAG);
        bytes.push(VERSION);
        bytes.extend_from_slice(&cursor.log.0);
        bytes.extend_from_slice(&cursor.position.0.to_be_bytes());
        bytes.extend_from_slice(&cursor.mark.0);
        bytes.extend_from_slice(&cursor.coverage.0);
        let tag = hmac::sign(&self.key, &bytes);
        bytes.extend_from_slice(&tag.as_ref()[..TAG]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `INVALID_ARGUMENT/CURSOR_INVALID` for what this did not seal.
    pub fn open(&self, text: &str) -> Result<Cursor> {
        self.parse(text).ok_or_else(|| {
            let message =
                "not a cursor: take one whole, as an answer or a message of the stream gave it";
            Error::new(Reason::CursorInvalid, message)
        })
    }

    fn parse(&self, text: &str) -> Option<Cursor> {
        if text.len() > 128 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, tag) = bytes.split_at_checked(BODY)?;
        let authentic = std::iter::once(&self.key).chain(&self.older).any(|key| {
            let expected = hmac::sign(key, body);
            constant_time::verify_slices_are_equal(&expected.as_ref()[..TAG], tag).is_ok()
        });
        if !authentic || body[0] != VERSION {
            return None;
        }
        Some(Cursor {
            log: LogIdentity(body[1..17].try_into().ok()?),
            position: Position(u64::from_be_bytes(body[17..25].try_into().ok()?)),
            mark: EntryMark(body[25..33].try_into().ok()?),
            coverage: Coverage(body[33..41].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_is_opened_and_as_it_was() {
        let seal = CursorSeal::new(&[7; 32]);
        let cursor = Cursor {
            log: LogIdentity([1; 16]),
            position: Position(42),
            mark: EntryMark::of(&EventId::known("rev_01k0000000000000000abcdefgh")),
            coverage: Coverage::of(Some(&[SpaceId::known("spc_a")])),
        };
        let text = seal.seal(&cursor);
        assert_eq!(seal.open(&text).unwrap(), cursor);
        let other = CursorSeal::new(&[8; 32]);
        assert!(other.open(&text).is_err());
        assert_eq!(other.knows(&[7; 32]).open(&text).unwrap(), cursor);
        for place in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert!(
                seal.open(std::str::from_utf8(&changed).unwrap()).is_err(),
                "{place}"
            );
        }
        for text in ["", "x", "🦀", &"A".repeat(200)] {
            assert!(seal.open(text).is_err());
        }
    }
}

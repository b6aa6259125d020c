//! Page tokens: the last thing on a page, opaque and bound to the listing that it was a page of.

use aws_lc_rs::{constant_time, digest, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::error::{Error, Reason, Result};

const TAG: usize = 16;

/// Makes page tokens, and knows its own.
#[derive(Debug, Clone)]
pub struct PageSeal {
    key: hmac::Key,
    older: Vec<hmac::Key>,
}

/// Which listing: the caller's space, the method, and all of the request but its page.
#[derive(Debug, Clone)]
pub struct Listing([u8; 32]);

impl Listing {
    /// A listing by `method` of what `asked` names; `asked` without page size and page token.
    pub fn new(caller_space: &str, method: &str, asked: &impl prost::Message) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [
            caller_space.as_bytes(),
            method.as_bytes(),
            &asked.encode_to_vec(),
        ] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut sha = [0; 32];
        sha.copy_from_slice(context.finish().as_ref());
        Self(sha)
    }
}

/// A page that a caller asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// At most so many on it.
    pub size: usize,
    /// From the page before; empty: the first page.
    pub token: String,
    /// Of which listing.
    pub listing: Listing,
}

/// A page, and the token of the next one: empty where there is none.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// What is on it.
    pub rows: Vec<T>,
    /// From where the next one goes on.
    pub next: String,
}

impl Wanted {
    /// How many rows to read: one more than fit shows that there is another page.
    pub fn limit(&self) -> u64 {
        self.size as u64 + 1
    }
}

impl PageSeal {
    /// The last thing on the page before.
    pub fn after(&self, wanted: &Wanted) -> Result<Option<String>> {
        self.open(&wanted.listing, &wanted.token)
    }

    /// The page out of [`Wanted::limit`] rows; `place` is what tells a row from all others in the order of the listing.
    pub fn cut<T>(
        &self,
        wanted: &Wanted,
        mut rows: Vec<T>,
        place: impl FnOnce(&T) -> String,
    ) -> Page<T> {
        if rows.len() <= wanted.size {
            let next = String::new();
            return Page { rows, next };
        }
        rows.truncate(wanted.size);
        let last = rows.last().map(place);
        let next = last.map(|last| self.seal(&wanted.listing, &last));
        Page {
            rows,
            next: next.unwrap_or_default(),
        }
    }

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

    /// The token of the page after `last`.
    pub fn seal(&self, listing: &Listing, last: &str) -> String {
        let mut bytes = tag(&self.key, listing, last.as_bytes()).as_ref()[..TAG].to_vec();
        bytes.extend_from_slice(last.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The last thing on the page before; none where `token` is empty. `INVALID_ARGUMENT/PAGE_TOKEN_INVALID` for what is not a
    /// page token of this listing.
    pub fn open(&self, listing: &Listing, token: &str) -> Result<Option<String>> {
        if token.is_empty() {
            return Ok(None);
        }
        self.parse(listing, token)
            .map(Some)
            .ok_or_else(|| Error::new(Reason::PageTokenInvalid, "not a page token of this listing"))
    }

    fn parse(&self, listing: &Listing, token: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .filter(|bytes| bytes.len() <= 512)?;
        let (tag, last) = bytes.split_at_checked(TAG)?;
        let mut keys = std::iter::once(&self.key).chain(&self.older);
        keys.find(|key| {
            let expected = self::tag(key, listing, last);
            constant_time::verify_slices_are_equal(&expected.as_ref()[..TAG], tag).is_ok()
        })?;
        String::from_utf8(last.to_vec()).ok()
    }
}

fn tag(key: &hmac::Key, listing: &Listing, last: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&listing.0);
    context.update(last);
    context.sign()
}

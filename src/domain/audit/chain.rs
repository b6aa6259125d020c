//! Digests that lead from one event to the next, and the sealed end of the chain.

use std::fmt::{self, Write as _};

use aws_lc_rs::{digest, hmac};

use super::Event;

/// The length of a digest and of a seal, in bytes.
pub const LENGTH: usize = 32;

/// SHA-256 over an event, its place and the digest of the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; LENGTH]);

/// Where the chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The place of the last event; 0 where there is none.
    pub sequence: u64,
    /// The digest of the last event; zeros where there is none.
    pub digest: Digest,
}

/// The end of the chain as it is stored: with the seal of whoever chained last. That of a chain without events is sealed, too:
/// whoever takes all of them away cannot write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedHead {
    /// Where the chain ends.
    pub head: Head,
    /// The seal.
    pub seal: Vec<u8>,
}

/// The key that seals the head. It is derived from the master key, which is not in the database.
#[derive(Clone)]
pub struct HeadKey {
    seals: hmac::Key,
    knows: Vec<hmac::Key>,
}

impl Digest {
    /// What the first event follows.
    pub const START: Self = Self([0; LENGTH]);

    /// A digest that was stored; none where it has not the length of one.
    pub fn known(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it is stored.
    pub fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl Head {
    /// The end of a chain without events.
    pub const EMPTY: Self = Self {
        sequence: 0,
        digest: Digest::START,
    };

    /// The end of the chain once `event` has been added to it.
    #[must_use]
    pub fn then(&self, event: &Event) -> Self {
        let sequence = self.sequence + 1;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.digest.0);
        context.update(&sequence.to_be_bytes());
        context.update(&event.encode());
        let mut sha = [0; LENGTH];
        sha.copy_from_slice(context.finish().as_ref());
        Self {
            sequence,
            digest: Digest(sha),
        }
    }

    fn to_bytes(self) -> [u8; 8 + LENGTH] {
        let mut bytes = [0; 8 + LENGTH];
        bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&self.digest.0);
        bytes
    }
}

impl SealedHead {
    fn is_under(&self, key: &hmac::Key) -> bool {
        hmac::verify(key, &self.head.to_bytes(), &self.seal).is_ok()
    }
}

impl HeadKey {
    /// The key out of these bytes.
    pub fn new(key: &[u8; LENGTH]) -> Self {
        Self {
            seals: hmac::Key::new(hmac::HMAC_SHA256, key),
            knows: Vec::new(),
        }
    }

    /// Accepts what was sealed under another key, too.
    #[must_use]
    pub fn knows(mut self, key: &[u8; LENGTH]) -> Self {
        self.knows.push(hmac::Key::new(hmac::HMAC_SHA256, key));
        self
    }

    /// Seals the end of the chain.
    pub fn seal(&self, head: Head) -> SealedHead {
        let seal = hmac::sign(&self.seals, &head.to_bytes());
        SealedHead {
            head,
            seal: seal.as_ref().to_vec(),
        }
    }

    /// Whether this key sealed it, or one that it knows.
    pub fn accepts(&self, sealed: &SealedHead) -> bool {
        std::iter::once(&self.seals)
            .chain(&self.knows)
            .any(|key| sealed.is_under(key))
    }

    /// Whether this key itself sealed it, and none that it knows.
    pub fn has_sealed(&self, sealed: &SealedHead) -> bool {
        sealed.is_under(&self.seals)
    }
}

impl fmt::Debug for HeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadKey")
    }
}

/// In hexadecimal.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(2 * LENGTH);
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_accepted_under_the_key_that_sealed_it_and_as_it_was() {
        let (key, other) = (HeadKey::new(&[1; LENGTH]), HeadKey::new(&[2; LENGTH]));
        let head = Head {
            sequence: 7,
            digest: Digest([3; LENGTH]),
        };
        let sealed = key.seal(head);
        assert!(key.accepts(&sealed));
        assert!(!other.accepts(&sealed));
        for forged in [
            Head {
                sequence: 6,
                ..head
            },
            Head {
                digest: Digest::START,
                ..head
            },
        ] {
            let seal = sealed.seal.clone();
            assert!(!key.accepts(&SealedHead { head: forged, seal }));
        }
        let seal = Vec::new();
        assert!(!key.accepts(&SealedHead { head, seal }));
    }

    #[test]
    fn what_another_key_sealed_is_accepted_where_that_is_known_and_is_to_be_sealed_anew() {
        let old = HeadKey::new(&[1; LENGTH]);
        let new = HeadKey::new(&[2; LENGTH]).knows(&[1; LENGTH]);
        let sealed = old.seal(Head::EMPTY);
        assert!(new.accepts(&sealed) && !new.has_sealed(&sealed));
        let anew = new.seal(sealed.head);
        assert!(new.has_sealed(&anew) && !old.accepts(&anew));
    }

    #[test]
    fn an_empty_chain_needs_a_seal_like_any_other() {
        let key = HeadKey::new(&[1; LENGTH]);
        let sealed = key.seal(Head::EMPTY);
        assert!(key.accepts(&sealed));
        let seal = Vec::new();
        assert!(!key.accepts(&SealedHead { seal, ..sealed }));
    }
}

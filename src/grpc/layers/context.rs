//! What is known of a call before its request is read.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{Extensions, HeaderValue};
use tokio::time::Instant;

use crate::{connections::ClientAddress, grpc::methods::Method, random};

/// Stands in the extensions of every request that has come through the layers.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The call's name in log and response.
    pub request_id: RequestId,
    /// Where it comes from.
    pub client: ClientAddress,
    /// What is called.
    pub method: &'static Method,
    /// When an answer is worth nothing any more; none for a stream whose client named none.
    pub deadline: Option<Instant>,
}

impl CallContext {
    /// The context of the call whose extensions these are.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }
}

/// A call's name in log and response: the client's `x-request-id`, or one of ours. It is no secret and may be guessed.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    const LENGTH_MAX: usize = 128;

    /// Takes what a client sent, where it is 1 to 128 letters, digits and `._:/+=@-`: nothing that could forge a log line.
    pub fn from_client(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let good = (1..=Self::LENGTH_MAX).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._:/+=@-".contains(byte));
        good.then(|| Self(value.clone()))
    }

    /// The next one: 16 hexadecimal digits of this process, drawn at random, and 16 that count.
    pub fn next() -> Self {
        static PROCESS: LazyLock<[u8; 16]> =
            LazyLock::new(|| hexadecimal(random::bytes().map_or(0, u64::from_be_bytes)));
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let mut text = [0; 32];
        text[..16].copy_from_slice(&*PROCESS);
        text[16..].copy_from_slice(&hexadecimal(COUNT.fetch_add(1, Ordering::Relaxed)));
        // Hexadecimal digits always make a header.
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unnamed")))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As a header. It never comes again, and has no business in the table by which a connection shortens those that do: HPACK
    /// leaves out what is called sensitive (RFC 7541 section 6.2.3).
    pub fn to_header(&self) -> HeaderValue {
        let mut header = self.0.clone();
        header.set_sensitive(true);
        header
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn hexadecimal(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|place| DIGITS[((number >> ((15 - place) * 4)) & 15) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_the_clients_where_it_is_sane() {
        for (sent, taken) in [
            ("7f-1", true),
            ("Root=1-67891233-abcdef012345678912345678", true),
            ("", false),
            ("a b", false),
            ("a\"b", false),
        ] {
            let header = HeaderValue::from_str(sent).unwrap();
            assert_eq!(RequestId::from_client(&header).is_some(), taken, "{sent:?}");
        }
        let long = HeaderValue::from_str(&"a".repeat(129)).unwrap();
        assert!(RequestId::from_client(&long).is_none());
        assert_ne!(RequestId::next(), RequestId::next());
        assert_eq!(RequestId::next().as_str().len(), 32);
    }
}

//! Client certificates whose names are no text. webpki reads no names of a certificate that is not asked for one, and passes
//! over those it cannot read; whoever reads them elsewhere may stop at a NUL and take one name for another.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

/// The object identifier 2.5.29.17, subject alternative names (RFC 5280 section 4.2.1.6), in DER.
const SUBJECT_ALT_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];
/// What RFC 5280 writes in ASCII: mail address, DNS name and URI.
const TEXTS: [u8; 3] = [0x81, 0x82, 0x86];
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Asks another verifier, and for names that are text.
#[derive(Debug)]
pub(super) struct WithGoodNames(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for WithGoodNames {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        if names_are_text(end_entity) {
            return Ok(verified);
        }
        Err(CertificateError::BadEncoding.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Looks at whatever stands behind the identifier, wherever it stands: the certificate may be refused too much, never too little.
fn names_are_text(certificate: &[u8]) -> bool {
    let mut places =
        (0..certificate.len()).filter_map(|at| certificate[at..].strip_prefix(SUBJECT_ALT_NAME));
    places.all(|after| extension_is_text(after).unwrap_or(false))
}

/// `[critical BOOLEAN] OCTET STRING { SEQUENCE { names } }`; none where it is something else.
fn extension_is_text(after: &[u8]) -> Option<bool> {
    let (mut tag, mut value, rest) = element(after)?;
    if tag == BOOLEAN {
        (tag, value, _) = element(rest)?;
    }
    if tag != OCTETS {
        return None;
    }
    let (SEQUENCE, mut names, []) = element(value)? else {
        return None;
    };
    while !names.is_empty() {
        let (tag, name, rest) = element(names)?;
        if TEXTS.contains(&tag) && !name.iter().all(u8::is_ascii_graphic) {
            return Some(false);
        }
        names = rest;
    }
    Some(true)
}

/// Tag, value and what follows of the element (X.690) that comes first.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 3 {
            return None;
        }
        let length = digits
            .iter()
            .fold(0, |sum, digit| (sum << 8) | usize::from(*digit));
        (length, rest)
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let sequence = [&[SEQUENCE, length(names)], names].concat();
        let octets = [&[OCTETS, length(&sequence)], sequence.as_slice()].concat();
        [b"before", SUBJECT_ALT_NAME, &octets, b"after"].concat()
    }

    #[test]
    fn names_of_text_are_taken_and_others_are_not() {
        assert!(names_are_text(b"no names at all"));
        assert!(names_are_text(&certificate(b"\x82\x01a\x86\x03u:x")));
        assert!(
            names_are_text(&certificate(b"\x87\x04\x7f\0\0\x01")),
            "an address is no text"
        );
        for bad in [
            &b"\x82\x03a\0b"[..],
            b"\x82\x01a\x81\x02\0b",
            b"\x86\x02u\xff",
            b"\x82\x05a",
            b"\x82",
        ] {
            assert!(!names_are_text(&certificate(bad)), "{bad:?}");
        }
        let hidden = [certificate(b"\x82\x01a"), certificate(b"\x82\x02a\0")].concat();
        assert!(!names_are_text(&hidden));
    }

    #[test]
    fn a_critical_extension_is_looked_at_too() {
        let critical = |names: &[u8]| {
            let plain = certificate(names);
            let at = b"before".len() + SUBJECT_ALT_NAME.len();
            [&plain[..at], &[BOOLEAN, 1, 0xff], &plain[at..]].concat()
        };
        assert!(names_are_text(&critical(b"\x82\x01a")));
        assert!(!names_are_text(&critical(b"\x82\x02a\0")));
    }
}

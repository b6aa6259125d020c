//! The master key: it seals private keys, and everything else secret is derived from it. It is never in the database.
//!
//! As a file it is one line of base64 (RFC 4648 section 4) of 32 random bytes, as `head -c 32 /dev/urandom | base64` writes
//! it, of mode 0400 or 0600. From the bytes a pseudorandom key is extracted (HKDF, RFC 5869) and they are wiped; each use
//! expands that under a label of its own.

use std::{
    fmt::{self, Write as _},
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    random,
};

const LENGTH: usize = 32;
const ID_LENGTH: usize = 8;
const TAG_LENGTH: usize = 16;

/// What a sealed text begins with, so that another format can come one day.
const FORMAT: u8 = 1;

/// A longer file is no key, and is not read to its end.
const MAX_FILE_BYTES: u16 = 1024;

/// The key under which everything secret is kept.
pub struct MasterKey {
    root: hkdf::Prk,
    sealing: RandomizedNonceKey,
    id: String,
}

impl MasterKey {
    /// Reads the key of a file. `INTERNAL`, saying what is wrong and nothing of the content, where the file cannot be read, is
    /// no regular file of mode 0400 or 0600, or holds no key.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display();
        let unreadable = |error: std::io::Error| {
            Error::internal(format!(
                "the master key file {name} cannot be read: {error}"
            ))
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Error::internal(format!(
                "the master key file {name} is not a regular file"
            )));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode != 0o400 && mode != 0o600 {
            return Err(Error::internal(format!(
                "the master key file {name} has mode {mode:04o}, it must be 0400 or 0600"
            )));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES.into()));
        file.take(MAX_FILE_BYTES.into())
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        Self::parse(&text, &format!("the master key file {name}"))
    }

    /// Takes the key that a variable holds: the same text as in a file. `source` names the variable.
    pub fn from_base64(text: &str, source: &str) -> Result<Self> {
        Self::parse(text.as_bytes(), source)
    }

    /// Makes a new key and a file for it, of mode 0600, which is on the disk when this returns. `INTERNAL` where the file
    /// exists already or cannot be written: an existing key is never replaced.
    pub fn generate(path: &Path) -> Result<Self> {
        let bytes = Zeroizing::new(random::bytes::<LENGTH>()?);
        let mut text = Zeroizing::new(STANDARD.encode(*bytes));
        text.push('\n');
        let key = Self::parse(text.as_bytes(), "the new master key")?;
        write_new(path, text.as_bytes()).map_err(|error| {
            let name = path.display();
            Error::internal(format!(
                "the master key file {name} cannot be made: {error}"
            ))
        })?;
        Ok(key)
    }

    fn parse(text: &[u8], source: &str) -> Result<Self> {
        let refused = |why: &str| Err(Error::internal(format!("{source} {why}")));
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(decoded) = STANDARD.decode(line).map(Zeroizing::new) else {
            return refused("is not one line of base64");
        };
        let Ok(bytes) = <[u8; LENGTH]>::try_from(decoded.as_slice()).map(Zeroizing::new) else {
            return refused("does not hold 32 bytes");
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return refused("holds nothing but zeros");
        }
        Self::prepare(&bytes)
    }

    fn prepare(bytes: &[u8; LENGTH]) -> Result<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"token-authority").extract(bytes);
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, &*expand(&root, &[b"seal"])?)
            .map_err(unspecified)?;
        let mut id = String::with_capacity(2 * ID_LENGTH);
        for byte in &expand(&root, &[b"id"])?[..ID_LENGTH] {
            // Writing to a string does not fail.
            let _ = write!(id, "{byte:02x}");
        }
        Ok(Self { root, sealing, id })
    }

    /// Its name, which tells nothing of it: 16 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the database keeps in order to know this key again; tells nothing of it.
    pub fn check_value(&self) -> Result<[u8; LENGTH]> {
        expand(&self.root, &[b"check"]).map(|value| *value)
    }

    /// Encrypts with AES-256-GCM under a random nonce; `associated` must be the same for opening.
    pub fn seal(&self, plaintext: &[u8], associated: &[u8]) -> Result<Vec<u8>> {
        // At full size from the start, since a vector that grows leaves a copy of the plaintext behind.
        let mut text = Vec::with_capacity(plaintext.len() + TAG_LENGTH);
        text.extend_from_slice(plaintext);
        let nonce = self
            .sealing
            .seal_in_place_append_tag(Aad::from(associated), &mut text)
            .map_err(unspecified)?;
        let mut sealed = vec![FORMAT];
        sealed.extend_from_slice(self.id.as_bytes());
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// Whether this key sealed it, by what it says of itself.
    pub fn has_sealed(&self, sealed: &[u8]) -> bool {
        split(sealed).is_some_and(|(id, _, _)| id == self.id.as_bytes())
    }

    /// Decrypts what [`MasterKey::seal`] made. `INTERNAL` where another key made it, it was changed, or `associated` is not
    /// the same.
    pub fn open(&self, sealed: &[u8], associated: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let Some((id, nonce, text)) = split(sealed) else {
            return Err(Error::internal("a sealed text has not the form of one"));
        };
        if id != self.id.as_bytes() {
            return Err(Error::internal("a text is sealed under another master key"));
        }
        let mut text = Zeroizing::new(text.to_vec());
        let length = self
            .sealing
            .open_in_place(Nonce::from(nonce), Aad::from(associated), &mut text)
            .map_err(|_| Error::internal("a sealed text was changed, or belongs elsewhere"))?
            .len();
        text.truncate(length);
        Ok(text)
    }

    /// A key of its own for `purpose`.
    pub fn derive(&self, purpose: &str) -> Result<Zeroizing<[u8; LENGTH]>> {
        expand(&self.root, &[b"derive/", purpose.as_bytes()])
    }

    /// What an API key's secret is made of: the same for the same `seed` and `info`, and nothing without this key.
    pub fn expand(&self, seed: &[u8; LENGTH], info: &[u8]) -> Result<Zeroizing<[u8; LENGTH]>> {
        expand(&self.root, &[b"expand/", seed, info])
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

fn expand(root: &hkdf::Prk, info: &[&[u8]]) -> Result<Zeroizing<[u8; LENGTH]>> {
    let mut derived = Zeroizing::new([0; LENGTH]);
    root.expand(info, hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(&mut *derived))
        .map_err(unspecified)?;
    Ok(derived)
}

/// Key id, nonce and the encrypted text with its tag.
fn split(sealed: &[u8]) -> Option<(&[u8], &[u8; NONCE_LEN], &[u8])> {
    let (format, rest) = sealed.split_first()?;
    let (id, rest) = rest.split_at_checked(2 * ID_LENGTH)?;
    let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
    (*format == FORMAT && text.len() >= TAG_LENGTH).then_some((id, nonce, text))
}

fn unspecified(error: aws_lc_rs::error::Unspecified) -> Error {
    Error::internal("the cryptographic library failed").because(error)
}

/// Writes a file that did not exist, and waits until it and its name are on the disk.
fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key would only stop the next start; that it cannot be removed either changes nothing.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::prepare(&[byte; LENGTH]).unwrap()
    }

    /// What loading a file of this content and mode says against it.
    fn refusal(content: &[u8], mode: u32) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master-key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let message = MasterKey::load(&path).unwrap_err().message().to_owned();
        message.replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn a_generated_key_is_read_back_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master-key");
        let key = MasterKey::generate(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(fs::read(&path).unwrap().len(), 45);
        let again = MasterKey::load(&path).unwrap();
        assert_eq!(again.check_value().unwrap(), key.check_value().unwrap());
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(MasterKey::load(&path).unwrap().id(), key.id());
        assert!(MasterKey::generate(&path).is_err());
        assert_eq!(MasterKey::load(&path).unwrap().id(), key.id());
    }

    #[test]
    fn c01_a_file_that_is_no_key_is_refused_with_the_reason_alone() {
        let good = STANDARD.encode([7; 32]);
        let modes = [
            0o000, 0o440, 0o444, 0o500, 0o604, 0o640, 0o644, 0o700, 0o777, 0o4600,
        ];
        for mode in modes {
            let message = refusal(good.as_bytes(), mode);
            let unreadable = message.contains("cannot be read");
            assert!(
                unreadable || message.contains("must be 0400 or 0600"),
                "{message}"
            );
        }
        let contents: [(Vec<u8>, &str); 9] = [
            (vec![], "does not hold 32 bytes"),
            (vec![7; 32], "is not one line of base64"),
            (b"SECRETSECRET".into(), "does not hold 32 bytes"),
            (STANDARD.encode([7; 31]).into(), "does not hold 32 bytes"),
            (STANDARD.encode([7; 33]).into(), "does not hold 32 bytes"),
            (STANDARD.encode([0; 32]).into(), "holds nothing but zeros"),
            (
                format!("{good}\n{good}").into(),
                "is not one line of base64",
            ),
            (format!(" {good}").into(), "is not one line of base64"),
            (vec![b'a'; 4_000], "does not hold 32 bytes"),
        ];
        for (content, why) in contents {
            let message = refusal(&content, 0o600);
            assert_eq!(message, format!("the master key file FILE {why}"));
        }
    }

    #[test]
    fn c01_a_missing_file_and_a_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = MasterKey::load(&directory.path().join("none")).unwrap_err();
        assert!(missing.message().contains("cannot be read"), "{missing}");
        let folder = MasterKey::load(directory.path()).unwrap_err();
        assert!(folder.message().contains("not a regular file"), "{folder}");
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_association_alone() {
        let sealed = key(1).seal(b"private", b"kid/EdDSA").unwrap();
        assert_eq!(**key(1).open(&sealed, b"kid/EdDSA").unwrap(), *b"private");
        assert_ne!(key(1).seal(b"private", b"kid/EdDSA").unwrap(), sealed);
        assert!(key(1).open(&sealed, b"kid/ES256").is_err());
        assert!(key(2).open(&sealed, b"kid/EdDSA").is_err());
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(key(1).open(&changed, b"kid/EdDSA").is_err(), "{position}");
            assert!(key(1).open(&sealed[..position], b"kid/EdDSA").is_err());
        }
    }

    #[test]
    fn every_use_has_its_own_key() {
        let key = key(1);
        let derived = [
            key.derive("a").unwrap(),
            key.derive("b").unwrap(),
            key.expand(&[0; 32], b"a").unwrap(),
            key.expand(&[1; 32], b"a").unwrap(),
            key.expand(&[0; 32], b"b").unwrap(),
            Zeroizing::new(key.check_value().unwrap()),
        ];
        for (index, one) in derived.iter().enumerate() {
            assert!(derived[..index].iter().all(|other| other != one), "{index}");
        }
        assert_eq!(derived[0], key.derive("a").unwrap());
    }

    #[test]
    fn debug_shows_the_id_alone() {
        let key = key(1);
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
        assert_eq!(key.id().len(), 16);
    }
}

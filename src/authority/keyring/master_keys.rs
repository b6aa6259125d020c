//! The master keys that are configured: the first one seals, and whatever was made under any of them is known.
//!
//! So one can be exchanged for another: the new one is put first, [`reseal`] brings everything under it at the next start, and
//! once every server has been started so, the old one can be taken away.

use zeroize::Zeroizing;

use super::{bound_in, master_key::MasterKey};
use crate::{
    authority::audit,
    clock::Timestamp,
    domain::audit::HeadKey,
    error::{Error, Result},
    storage::{self, Database, Transaction, audit::Barred, authority::AuthorityRow, signing_keys},
};

/// See the module.
#[derive(Debug)]
pub struct MasterKeys {
    first: MasterKey,
    others: Vec<MasterKey>,
}

impl MasterKeys {
    /// `first` seals; `others` only open.
    pub fn new(first: MasterKey, others: Vec<MasterKey>) -> Self {
        Self { first, others }
    }

    /// The one that seals.
    pub fn first(&self) -> &MasterKey {
        &self.first
    }

    /// Those that only open.
    pub fn others(&self) -> &[MasterKey] {
        &self.others
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Decrypts what any of them sealed. `INTERNAL` where none did, it was changed, or `associated` is not the same.
    pub fn open(&self, sealed: &[u8], associated: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.iter().find(|key| key.has_sealed(sealed));
        let unknown =
            || Error::internal("a text is sealed under a master key that is not configured");
        key.ok_or_else(unknown)?.open(sealed, associated)
    }

    /// Fails where the database was sealed under none of them: nothing could be opened, and nothing may be made anew.
    pub fn require_those_of(&self, row: &AuthorityRow) -> Result<()> {
        for key in self.iter() {
            if row.key_check == key.check_value()? {
                return Ok(());
            }
        }
        let configured: Vec<&str> = self.iter().map(MasterKey::id).collect();
        Err(Error::internal(format!(
            "the master key {} is not the one that this database was sealed with ({})",
            configured.join(", "),
            row.master_key_id
        )))
    }
}

/// Seals under the first key what was sealed under another one, and has the database know the first key again. A server that has
/// another key first goes on sealing under that one, so each does this at its start.
pub async fn reseal(db: &Database, master_keys: &MasterKeys, now: Timestamp) -> Result<()> {
    let (first, reader) = (master_keys.first(), db.reader());
    let known = storage::authority::find(reader).await?;
    let known = known.is_some_and(|row| row.master_key_id == first.id());
    let stored = signing_keys::published(reader).await?;
    let is_change = !known || stored.iter().any(|key| is_under_another(key, first));
    let head_key = audit::head_key(master_keys)?;
    let sealed = storage::audit::ends(reader).await?.sealed;
    if !is_change && head_key.has_sealed(&sealed) {
        return Ok(());
    }
    let transaction = db.begin().await?;
    signing_keys::lock(&transaction).await?;
    let count = reseal_keys(&transaction, master_keys).await?;
    // Waits for whoever adds to the audit log at this moment, as well.
    storage::authority::set_master_key(&transaction, &first.check_value()?, first.id()).await?;
    if is_change {
        let done = audit::Done {
            action: "master_key.change",
            space: None,
            resource: first.id(),
            details: &[],
        };
        audit::record(&transaction, audit::Actor::ITSELF, done, now).await?;
    }
    reseal_head(&transaction, &head_key).await?;
    transaction.commit().await?;
    if is_change {
        tracing::info!(
            master_key.id = first.id(),
            signing_keys.resealed = count,
            "master_key.changed"
        );
    }
    Ok(())
}

/// A server that has this key alone accepts the end of the audit log only under it.
async fn reseal_head(transaction: &Transaction, head_key: &HeadKey) -> Result<()> {
    match storage::audit::seal(transaction, head_key).await? {
        Ok(()) => Ok(()),
        Err(Barred::Busy) => Err(Error::internal("the audit log could not be sealed anew")),
        Err(Barred::HeadForged) => {
            tracing::error!(
                "the end of the audit log was sealed under none of these master keys, or somebody has changed the log: it stays \
                 as it is, see `audit verify`"
            );
            Ok(())
        }
    }
}

async fn reseal_keys(transaction: &Transaction, master_keys: &MasterKeys) -> Result<usize> {
    let (first, mut count) = (master_keys.first(), 0);
    for key in signing_keys::published(transaction).await? {
        if !is_under_another(&key, first) {
            continue;
        }
        let (id, algorithm) = (&key.described.id, key.described.algorithm);
        let bound = bound_in(id, algorithm);
        match master_keys.open(&key.sealed_private_key, &bound) {
            Ok(private) => {
                let sealed = first.seal(&private, &bound)?;
                signing_keys::reseal(transaction, id, sealed, first.id()).await?;
                count += 1;
            }
            // It could not sign before either; the others are not to suffer for it.
            Err(error) => {
                tracing::error!(signing_key.id = %id, error = ?error, "signing_key.unreadable");
            }
        }
    }
    Ok(count)
}

fn is_under_another(key: &signing_keys::StoredSigningKey, first: &MasterKey) -> bool {
    !key.sealed_private_key.is_empty() && !first.has_sealed(&key.sealed_private_key)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_base64(&STANDARD.encode([byte; 32]), "a test").unwrap()
    }

    #[test]
    fn any_of_them_opens_and_none_but_them() {
        let old = key(1).seal(b"private", b"kid").unwrap();
        let both = MasterKeys::new(key(2), vec![key(1)]);
        assert_eq!(**both.open(&old, b"kid").unwrap(), *b"private");
        assert!(both.open(&old, b"another kid").is_err());
        let new = both.first().seal(b"private", b"kid").unwrap();
        let alone = MasterKeys::new(key(2), Vec::new());
        assert_eq!(**alone.open(&new, b"kid").unwrap(), *b"private");
        assert!(alone.open(&old, b"kid").is_err());
        assert!(alone.open(b"", b"kid").is_err());
    }

    #[test]
    fn a_database_is_known_by_any_of_them() {
        let row = AuthorityRow {
            log_identity: [0; 16],
            key_check: key(1).check_value().unwrap().to_vec(),
            master_key_id: key(1).id().to_owned(),
        };
        let both = MasterKeys::new(key(2), vec![key(1)]);
        both.require_those_of(&row).unwrap();
        let refusal = MasterKeys::new(key(2), vec![key(3)]).require_those_of(&row);
        let refusal = refusal.unwrap_err().to_string();
        for id in [key(1), key(2), key(3)].map(|key| key.id().to_owned()) {
            assert!(refusal.contains(&id), "{refusal}");
        }
    }
}

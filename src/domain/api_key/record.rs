//! An API key as it stands: what a presented key is judged by.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    clock::Timestamp,
    domain::{
        api_key::{ApiKeyToken, Bounds, SecretDigest},
        ids::{ApiKeyId, RoleName},
        permission::PermissionSet,
        revocation::{About, Position},
        standing::Standing,
    },
};

/// Why a token is not good, as the contract numbers it.
pub use crate::proto::InactiveReason as Inactive;

/// A key as the database holds it, with its user, space and roles read in the same statement.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// The public half.
    pub id: ApiKeyId,
    /// The user in the key's space, with all its roles there.
    pub standing: Standing,
    /// What narrows it.
    pub bounds: Bounds,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Whether it was ended, by itself or with all the keys of its user or space.
    pub revoked: bool,
    /// When it was made.
    pub create_time: Timestamp,
    /// Its secrets; the current one has no deadline.
    pub secrets: Vec<Secret>,
}

/// One secret of a key.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Which one, counted from 1.
    pub number: i64,
    /// What is stored of it.
    pub digest: SecretDigest,
    /// Until when it is good.
    pub expire_time: Option<Timestamp>,
}

/// A stored key, what it may do, and how fresh it is.
#[derive(Debug)]
pub struct KeyRecord {
    /// The public half.
    pub id: ApiKeyId,
    /// The user in the key's space, with the roles that the key acts with.
    pub standing: Standing,
    /// What the key may do.
    pub granted: PermissionSet,
    /// Good for these audiences alone; empty: any.
    pub audiences: Vec<String>,
    /// Good from these networks alone; empty: any.
    pub allowed_cidrs: Vec<IpNet>,
    /// When it stops being good.
    pub expire_time: Option<Timestamp>,
    /// When it was made.
    pub create_time: Timestamp,
    /// The place of the log that was applied before this was loaded.
    pub position: Position,
    /// When it was loaded, in time since boot.
    pub loaded: Duration,
    narrowed: bool,
    inactive: Option<Inactive>,
    secrets: Vec<Secret>,
}

impl KeyRecord {
    /// A record of what was loaded after `position`.
    pub fn new(stored: StoredKey, position: Position, loaded: Duration) -> Self {
        let inactive = standing_of(&stored);
        let bounds = stored.bounds;
        let standing = stored.standing.narrowed_to(&bounds.roles);
        Self {
            granted: standing.granted_to_key(&bounds.scopes),
            id: stored.id,
            standing,
            audiences: bounds.audiences,
            allowed_cidrs: bounds.allowed_cidrs,
            expire_time: bounds.expire_time,
            create_time: stored.create_time,
            position,
            loaded,
            narrowed: !bounds.scopes.is_empty() || !bounds.roles.is_empty(),
            inactive,
            secrets: stored.secrets,
        }
    }

    /// Whether the key names scopes or roles.
    pub fn is_narrowed(&self) -> bool {
        self.narrowed
    }

    /// What the record is about, for asking whether it is fresh. A role that the user does not hold comes with a change of the
    /// user.
    pub fn about(&self) -> About<'_, impl Iterator<Item = &RoleName>> {
        About {
            user: &self.standing.user.id,
            space: &self.standing.space.id,
            roles: self.standing.roles.keys(),
            api_key: Some(&self.id),
        }
    }

    /// Whether `presented` is this key with a secret that is good at `now`; then, which of its secrets.
    ///
    /// Every secret is compared, in constant time, before anything else is looked at: who does not hold the key learns nothing
    /// of its state.
    pub fn check(&self, presented: &ApiKeyToken, now: Timestamp) -> Result<i64, Inactive> {
        let digest = presented.digest();
        let mut matching = None;
        for secret in &self.secrets {
            if secret.digest == digest {
                matching = Some(secret);
            }
        }
        let secret = matching.ok_or(Inactive::Unknown)?;
        self.check_state(now)?;
        if secret.expire_time.is_some_and(|deadline| now >= deadline) {
            return Err(Inactive::Expired);
        }
        Ok(secret.number)
    }

    /// Whether the key is good at `now`, whichever secret is presented.
    pub fn check_state(&self, now: Timestamp) -> Result<(), Inactive> {
        if let Some(inactive) = self.inactive {
            return Err(inactive);
        }
        if self.expire_time.is_some_and(|expiry| now >= expiry) {
            return Err(Inactive::Expired);
        }
        Ok(())
    }

    /// Whether it may be presented from `address`.
    pub fn allows_address(&self, address: &str) -> bool {
        if self.allowed_cidrs.is_empty() {
            return true;
        }
        let Ok(address) = address.parse::<IpAddr>() else {
            return false;
        };
        let address = address.to_canonical();
        self.allowed_cidrs
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// Why a key is not good, apart from time.
fn standing_of(stored: &StoredKey) -> Option<Inactive> {
    let standing = &stored.standing;
    let named = &stored.bounds.roles;
    let role_left = named.is_empty() || named.iter().any(|name| standing.roles.contains_key(name));
    if stored.revoked {
        Some(Inactive::Revoked)
    } else if stored.disabled || standing.user.disabled {
        Some(Inactive::Disabled)
    } else if !standing.acts_here() || !role_left {
        Some(Inactive::Revoked)
    } else {
        None
    }
}

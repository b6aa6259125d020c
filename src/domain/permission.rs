//! What a token allows: permissions, as roles grant them and tokens carry them (there called scopes).

use std::{fmt, sync::Arc};

use crate::{
    domain::ids::RoleName,
    error::{Error, Reason, Result},
};

/// What this service's own permissions begin with.
pub const AUTHORITY_PREFIX: &str = "authority.";

/// Manage one's own API keys and password. Everyone has it, unless narrowed away; API keys only where named.
pub const SELF: &str = "authority.self";
/// Introspect tokens.
pub const TOKENS_INTROSPECT: &str = "authority.tokens.introspect";
/// See why a token is inactive.
pub const TOKENS_EXPLAIN: &str = "authority.tokens.explain";
/// Revoke by reference.
pub const REVOCATIONS_CREATE: &str = "authority.revocations.create";
/// List and watch revocations.
pub const REVOCATIONS_WATCH: &str = "authority.revocations.watch";
/// See other users' API keys.
pub const API_KEYS_READ: &str = "authority.api_keys.read";
/// Manage other users' API keys.
pub const API_KEYS_WRITE: &str = "authority.api_keys.write";

/// See users.
pub const USERS_READ: &str = "authority.users.read";
/// Manage users.
pub const USERS_WRITE: &str = "authority.users.write";
/// See roles and who has them.
pub const ROLES_READ: &str = "authority.roles.read";
/// Manage roles and who has them.
pub const ROLES_WRITE: &str = "authority.roles.write";
/// See spaces.
pub const SPACES_READ: &str = "authority.spaces.read";
/// Manage spaces.
pub const SPACES_WRITE: &str = "authority.spaces.write";
/// Manage signing keys.
pub const SIGNING_KEYS_WRITE: &str = "authority.signing_keys.write";
/// See the audit log.
pub const AUDIT_READ: &str = "authority.audit.read";

/// This service's own permissions that make sense in every space, sorted.
const EVERY_SPACE: &[&str] = &[
    API_KEYS_READ,
    API_KEYS_WRITE,
    AUDIT_READ,
    REVOCATIONS_CREATE,
    REVOCATIONS_WATCH,
    ROLES_READ,
    ROLES_WRITE,
    SELF,
    SPACES_READ,
    SPACES_WRITE,
    TOKENS_EXPLAIN,
    TOKENS_INTROSPECT,
    USERS_READ,
    USERS_WRITE,
];

/// Those that make sense in the space `system` alone, sorted.
const SYSTEM_ONLY: &[&str] = &[
    "authority.signing_keys.read",
    SIGNING_KEYS_WRITE,
    "authority.system.read",
];

/// One permission: 1 to 128 of a-z, 0-9 and `._:/-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission(Arc<str>);

impl Permission {
    /// Takes a text that is known to be a permission: from our own database or code, or from a token that we signed.
    pub fn known(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Takes what a client sent. INVALID_ARGUMENT about `field` where it has not the form of a permission, or begins with
    /// `authority.` without being one of this service's.
    pub fn parse(text: &str, field: &str) -> Result<Self> {
        let good = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._:/-".contains(&b));
        if !good {
            return Err(Error::field(
                field,
                "must be 1 to 128 of a-z, 0-9 and ._:/-",
            ));
        }
        let ours = EVERY_SPACE.contains(&text) || SYSTEM_ONLY.contains(&text);
        if text.starts_with(AUTHORITY_PREFIX) && !ours {
            return Err(Error::field(field, "is not a permission of this service"));
        }
        Ok(Self(text.into()))
    }

    /// The permission as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it makes sense in the space `system` alone.
    pub fn is_of_system(&self) -> bool {
        SYSTEM_ONLY.contains(&&*self.0)
    }

    /// Whether it is one of this service's own.
    pub fn is_authority(&self) -> bool {
        self.0.starts_with(AUTHORITY_PREFIX)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Permissions, sorted, each once. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionSet(Arc<[Permission]>);

impl Default for PermissionSet {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let mut permissions: Vec<Permission> = permissions.into_iter().collect();
        permissions.sort_unstable();
        permissions.dedup();
        Self(permissions.into())
    }
}

impl PermissionSet {
    /// Takes what a client sent as `field`.
    pub fn parse(texts: &[String], field: &str) -> Result<Self> {
        texts
            .iter()
            .enumerate()
            .map(|(index, text)| Permission::parse(text, &format!("{field}[{index}]")))
            .collect()
    }

    /// The claim `scope` (RFC 9068 section 2.2.3), which we wrote ourselves.
    pub fn from_claim(scope: &str) -> Self {
        scope
            .split_ascii_whitespace()
            .map(Permission::known)
            .collect()
    }

    /// As the claim `scope`: separated by spaces.
    pub fn to_claim(&self) -> String {
        self.0
            .iter()
            .map(Permission::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Whether `permission` is among them.
    pub fn contains(&self, permission: &str) -> bool {
        self.0
            .binary_search_by(|held| held.as_str().cmp(permission))
            .is_ok()
    }

    /// Whether every one of `others` is among them.
    pub fn contains_all(&self, others: &Self) -> bool {
        others.iter().all(|other| self.contains(other.as_str()))
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(&self, others: &Self) -> Self {
        self.iter()
            .filter(|held| others.contains(held.as_str()))
            .cloned()
            .collect()
    }

    /// Those that `others` lacks.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        self.iter()
            .filter(|held| !others.contains(held.as_str()))
            .cloned()
            .collect()
    }

    /// One after the other, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Permission> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the contract carries them.
    pub fn to_strings(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|permission| permission.as_str().to_owned())
            .collect()
    }

    /// EXCEEDS_GRANT, naming those of these that `granted` lacks.
    pub fn require_within(&self, granted: &Self) -> Result<()> {
        let excess = self.without(granted);
        if excess.is_empty() {
            return Ok(());
        }
        Err(exceeds_grant(&excess.to_claim()))
    }
}

/// PERMISSION_DENIED: more was asked for than is held.
pub fn exceeds_grant(what: &str) -> Error {
    Error::new(Reason::ExceedsGrant, format!("not granted: {what}")).with("scopes", what)
}

impl<'a> IntoIterator for &'a PermissionSet {
    type Item = &'a Permission;
    type IntoIter = std::slice::Iter<'a, Permission>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A role that exists in every space and cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltInRole {
    /// May do everything in its space; in `system`, in every space.
    Admin,
    /// May introspect tokens and watch revocations.
    Introspector,
    /// May read everything.
    Auditor,
}

impl BuiltInRole {
    /// All of them, sorted by name.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Auditor, Self::Introspector];

    /// The built-in role of this name.
    pub fn named(name: &RoleName) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == name.as_str())
    }

    /// Its name, which no other role may have.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Introspector => "introspector",
            Self::Auditor => "auditor",
        }
    }

    /// What it is for.
    pub fn description(self) -> &'static str {
        match self {
            Self::Admin => "may do everything in its space",
            Self::Introspector => "may introspect tokens and watch revocations",
            Self::Auditor => "may read everything in its space",
        }
    }

    /// What it grants in a space; in the space `system` there is more to grant.
    pub fn permissions(self, in_system: bool) -> PermissionSet {
        let more: &[&str] = if in_system { SYSTEM_ONLY } else { &[] };
        let all = EVERY_SPACE.iter().chain(more).copied();
        let granted: Vec<&str> = match self {
            Self::Admin => all.collect(),
            Self::Introspector => vec![TOKENS_INTROSPECT, REVOCATIONS_WATCH],
            Self::Auditor => all.filter(|permission| reads(permission)).collect(),
        };
        granted.into_iter().map(Permission::known).collect()
    }
}

/// Whether a permission lets its holder see something and nothing more.
fn reads(permission: &str) -> bool {
    permission.rsplit('.').next() == Some("read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_services_own_names_may_begin_with_authority() {
        assert!(Permission::parse("authority.self", "p").is_ok());
        assert!(Permission::parse("authority.everything", "p").is_err());
        assert!(Permission::parse("orders.read", "p").is_ok());
        assert!(Permission::parse("orders read", "p").is_err());
    }

    #[test]
    fn an_auditor_reads_and_nothing_more() {
        let granted = BuiltInRole::Auditor.permissions(true);
        assert!(granted.iter().all(|permission| reads(permission.as_str())));
        assert!(granted.contains("authority.system.read"));
        assert!(
            !BuiltInRole::Admin
                .permissions(false)
                .contains("authority.system.read")
        );
    }
}

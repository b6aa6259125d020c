//! Who somebody is in a space, and what they may do there now.

use std::{collections::BTreeMap, time::Duration};

use super::{
    ids::{NamedSpace, RoleName, SpaceId, SpaceSlug, UserId, Username},
    permission::{self, BuiltInRole, Permission, PermissionSet},
};

/// The longest life of a JWT, whatever a space says.
pub const MAX_TOKEN_TTL: Duration = Duration::from_hours(24);
/// How long a sign-in can be carried on where a space does not say.
pub const DEFAULT_SESSION_AGE: Duration = Duration::from_hours(30 * 24);

/// A user, as far as tokens depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Immutable.
    pub id: UserId,
    /// The name the user signs in with.
    pub username: Username,
    /// Empty where none is set.
    pub email: String,
    /// The space it belongs to.
    pub home_space: SpaceId,
    /// Whether the user is switched off.
    pub disabled: bool,
    /// API keys made under another one are over.
    pub key_generation: i64,
}

/// A space, as far as tokens depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Immutable.
    pub id: SpaceId,
    /// Its unique short name.
    pub slug: SpaceSlug,
    /// What its new API keys begin with.
    pub key_prefix: String,
    /// Longest life of a JWT.
    pub max_token_ttl: Duration,
    /// How long a sign-in can be carried on by rotation.
    pub max_session_age: Duration,
    /// Longest life of an API key; none: any.
    pub max_api_key_ttl: Option<Duration>,
    /// `aud` of a JWT that asks for none; empty: the issuer.
    pub default_audiences: Vec<String>,
    /// API keys made under another one are over.
    pub key_generation: i64,
}

impl Space {
    /// Whether it is the space of those who run the authority.
    pub fn is_system(&self) -> bool {
        self.slug.as_str() == SpaceSlug::SYSTEM
    }

    /// Whether a request means this space.
    pub fn is_named(&self, named: &NamedSpace) -> bool {
        [self.id.as_str(), self.slug.as_str()].contains(&named.as_str())
    }
}

/// A user in a space, with the roles that are in effect there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who.
    pub user: User,
    /// Where.
    pub space: Space,
    /// What each of the user's roles there grants.
    pub roles: BTreeMap<RoleName, PermissionSet>,
}

impl Standing {
    /// Adds a role; a built-in one grants what this version says, whatever is stored.
    pub fn add_role(&mut self, name: RoleName, stored: PermissionSet) {
        let granted = BuiltInRole::named(&name)
            .map_or(stored, |role| role.permissions(self.space.is_system()));
        self.roles.insert(name, granted);
    }

    /// Whether the user acts in the space at all: its home, or one where it holds a role.
    pub fn acts_here(&self) -> bool {
        self.user.home_space == self.space.id || !self.roles.is_empty()
    }

    /// The same with none but the named roles; nobody is left where none of them is held.
    #[must_use]
    pub fn narrowed_to(mut self, names: &[RoleName]) -> Self {
        if !names.is_empty() {
            self.roles.retain(|name, _| names.contains(name));
        }
        self
    }

    /// The names of the roles, sorted.
    pub fn role_names(&self) -> Vec<RoleName> {
        self.roles.keys().cloned().collect()
    }

    /// All that the roles grant, and `authority.self`, which everyone has.
    pub fn granted(&self) -> PermissionSet {
        let own = Permission::known(permission::SELF);
        self.roles
            .values()
            .flat_map(PermissionSet::iter)
            .cloned()
            .chain([own])
            .collect()
    }

    /// What an API key with these scopes may do: those of them that are granted, or, for a key that names none, all that is
    /// granted but this service's own.
    pub fn granted_to_key(&self, scopes: &PermissionSet) -> PermissionSet {
        let granted = self.granted();
        if scopes.is_empty() {
            return granted
                .iter()
                .filter(|held| !held.is_authority())
                .cloned()
                .collect();
        }
        granted.intersection(scopes)
    }

    /// The same for a key that acts with the named roles alone, where it names any. Nothing where none of them is held.
    pub fn granted_to_key_within(
        &self,
        roles: &[RoleName],
        scopes: &PermissionSet,
    ) -> PermissionSet {
        let narrowed = self.clone().narrowed_to(roles);
        if !roles.is_empty() && narrowed.roles.is_empty() {
            return PermissionSet::default();
        }
        narrowed.granted_to_key(scopes)
    }
}

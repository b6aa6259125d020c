//! The directory as those who may read it see it: spaces, users, roles, and who has which. What tokens depend on is in
//! [`super::standing`].

use std::time::Duration;

use super::{
    ids::{RoleName, SpaceId, SpaceSlug, UserId, Username},
    permission::{BuiltInRole, PermissionSet},
};
use crate::clock::Timestamp;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Immutable, never given out again.
    pub id: SpaceId,
    /// Its unique short name.
    pub slug: SpaceSlug,
    /// For people.
    pub display_name: String,
    /// What its new API keys begin with.
    pub key_prefix: String,
    /// Longest life of a JWT; none: 24 hours.
    pub max_token_ttl: Option<Duration>,
    /// How long a sign-in can be carried on by rotation; none: 30 days.
    pub max_session_age: Option<Duration>,
    /// Longest life of an API key; none: any.
    pub max_api_key_ttl: Option<Duration>,
    /// `aud` of a JWT that asks for none; empty: the issuer.
    pub default_audiences: Vec<String>,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// What API keys of a space begin with that does not say.
pub const DEFAULT_KEY_PREFIX: &str = "ta";

impl Space {
    /// A space with nothing but a name.
    pub fn named(id: SpaceId, slug: SpaceSlug, now: Timestamp) -> Self {
        Self {
            id,
            slug,
            display_name: String::new(),
            key_prefix: DEFAULT_KEY_PREFIX.to_owned(),
            max_token_ttl: None,
            max_session_age: None,
            max_api_key_ttl: None,
            default_audiences: Vec::new(),
            create_time: now,
            update_time: now,
        }
    }
}

/// Who signs in, or a service account that only holds API keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Immutable, never given out again.
    pub id: UserId,
    /// The name it signs in with.
    pub username: Username,
    /// Empty where there is none.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Whether it can sign in with a password.
    pub password_set: bool,
    /// The space it belongs to.
    pub home_space: SpaceId,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it last signed in; none: never.
    pub last_sign_in_time: Option<Timestamp>,
}

/// A named set of permissions in a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The space it belongs to.
    pub space_id: SpaceId,
    /// Unique there.
    pub name: RoleName,
    /// For people.
    pub description: String,
    /// What it grants.
    pub permissions: PermissionSet,
    /// When it was made and last changed; none: it is built in.
    pub times: Option<(Timestamp, Timestamp)>,
}

impl Role {
    /// A role that every space has.
    pub fn built_in(role: BuiltInRole, space_id: SpaceId, in_system: bool) -> Self {
        Self {
            space_id,
            name: RoleName::known(role.name()),
            description: role.description().to_owned(),
            permissions: role.permissions(in_system),
            times: None,
        }
    }

    /// Whether every space has it, and nobody can change it.
    pub fn is_built_in(&self) -> bool {
        self.times.is_none()
    }
}

/// Who has a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleAssignment {
    /// The space in which it counts.
    pub space_id: SpaceId,
    /// The role, which may be a built-in one.
    pub role: RoleName,
    /// The user.
    pub user_id: UserId,
    /// Since when.
    pub create_time: Timestamp,
}

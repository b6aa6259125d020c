//! Who asks, and what they may.

use std::sync::Arc;

use super::{Authority, Call, credentials::Credential};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{ApiKeyId, NamedSpace, NamedUser, RoleName, SpaceId, SpaceSlug, UserId},
        permission::{self, BuiltInRole, PermissionSet},
        revocation::Position,
        standing::{Space, Standing},
    },
    error::{Error, Result},
    storage,
};

/// Whose credential was found good, and at which place of the log.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What was presented.
    pub credential: Credential,
    /// The place in the log that it was judged by.
    pub position: Position,
    /// The call it came with.
    pub call: Arc<Call>,
}

impl Caller {
    /// The user it speaks for.
    pub fn user_id(&self) -> &UserId {
        match &self.credential {
            Credential::AccessToken(held) => &held.token.subject,
            Credential::ApiKey(key) => &key.standing.user.id,
        }
    }

    /// The space it acts in.
    pub fn space_id(&self) -> &SpaceId {
        self.credential.space_id()
    }

    /// What it may do there.
    pub fn scopes(&self) -> &PermissionSet {
        self.credential.scopes()
    }

    /// Its roles there.
    pub fn roles(&self) -> Vec<RoleName> {
        match &self.credential {
            Credential::AccessToken(held) => held.token.roles.clone(),
            Credential::ApiKey(key) => key.standing.role_names(),
        }
    }

    /// The API key that was presented, or from which the JWT was issued.
    pub fn api_key_id(&self) -> Option<&ApiKeyId> {
        match &self.credential {
            Credential::AccessToken(held) => held.token.api_key_id.as_ref(),
            Credential::ApiKey(key) => Some(&key.id),
        }
    }

    /// When the credential stops being good.
    pub fn expire_time(&self) -> Option<Timestamp> {
        match &self.credential {
            Credential::AccessToken(held) => Some(held.token.expire_time),
            Credential::ApiKey(key) => key.expire_time,
        }
    }

    /// Whether it acts in the space of those who run the authority.
    pub fn in_system(&self) -> bool {
        let slug = match &self.credential {
            Credential::AccessToken(held) => &held.token.space_slug,
            Credential::ApiKey(key) => &key.standing.space.slug,
        };
        slug.as_str() == SpaceSlug::SYSTEM
    }

    /// Whether it was narrowed to some scopes or roles.
    pub fn is_narrowed(&self) -> bool {
        match &self.credential {
            Credential::AccessToken(held) => held.token.narrowed,
            Credential::ApiKey(key) => key.is_narrowed(),
        }
    }

    /// Whether it may do what `permission` allows in `space`.
    pub fn may(&self, permission: &str, space: &SpaceId) -> bool {
        self.scopes().contains(permission) && (space == self.space_id() || self.in_system())
    }

    /// PERMISSION_DENIED where it may not.
    pub fn require(&self, permission: &str, space: &SpaceId) -> Result<()> {
        if self.may(permission, space) {
            return Ok(());
        }
        Err(Error::permission_missing(permission, space.as_str()))
    }

    /// PERMISSION_DENIED where it may not do what `permission` allows to those who run the authority.
    pub fn require_in_system(&self, permission: &str) -> Result<()> {
        if self.in_system() && self.scopes().contains(permission) {
            return Ok(());
        }
        Err(Error::permission_missing(permission, SpaceSlug::SYSTEM))
    }

    /// Whether `other` is a space that it may know of.
    pub fn sees(&self, other: &SpaceId) -> bool {
        other == self.space_id() || self.in_system()
    }

    /// The space that a request names by id or slug; the caller's own where it names none. NOT_FOUND where it does not exist
    /// or the caller may not know of it.
    pub async fn space(&self, authority: &Authority, named: &str) -> Result<Space> {
        let named = if named.is_empty() {
            self.space_id().named()
        } else {
            NamedSpace::parse(named)?
        };
        let space = storage::spaces::find(authority.db.reader(), &named)
            .await?
            .ok_or_else(|| Error::not_found("space"))?;
        if self.sees(&space.id) {
            return Ok(space);
        }
        Err(Error::withheld("space", space.id.as_str()))
    }

    /// The user that a request names by id or username, in `space`; the caller where it names none. NOT_FOUND where it does
    /// not exist or does not act there.
    pub async fn user_in(
        &self,
        authority: &Authority,
        named: &str,
        space: &SpaceId,
    ) -> Result<Standing> {
        let named = if named.is_empty() {
            self.user_id().named()
        } else {
            NamedUser::parse(named)?
        };
        let standing =
            storage::standing::standing(authority.db.reader(), &named, Some(&space.named()))
                .await?
                .ok_or_else(|| Error::not_found("user"))?;
        if standing.acts_here() {
            return Ok(standing);
        }
        Err(Error::withheld("user", standing.user.id.as_str()))
    }

    /// Whether everything in `wanted` is held in `space`. An admin that is not narrowed holds all there is in its space; in
    /// `system`, in every space.
    pub fn holds(&self, wanted: &PermissionSet, space: &SpaceId) -> bool {
        self.sees(space) && (self.is_admin() || self.scopes().contains_all(wanted))
    }

    /// EXCEEDS_GRANT, naming what is not held.
    pub fn require_holding(&self, wanted: &PermissionSet, space: &SpaceId) -> Result<()> {
        if self.holds(wanted, space) {
            return Ok(());
        }
        let excess = wanted.without(self.scopes());
        Err(permission::exceeds_grant(&excess.to_claim()))
    }

    /// Whether it is an admin's credential, and not narrowed.
    pub fn is_admin(&self) -> bool {
        let admin = |name: &RoleName| BuiltInRole::named(name) == Some(BuiltInRole::Admin);
        !self.is_narrowed() && self.roles().iter().any(admin)
    }
}

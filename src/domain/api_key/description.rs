//! An API key as people see it.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::{
    clock::Timestamp,
    domain::{
        ids::{ApiKeyId, RoleName, SpaceId, UserId},
        permission::PermissionSet,
    },
};

/// An API key without its secret.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The public half.
    pub id: ApiKeyId,
    /// The space it belongs to.
    pub space_id: SpaceId,
    /// The user it speaks for.
    pub user_id: UserId,
    /// What it begins with.
    pub prefix: String,
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// What it may do, and until when.
    pub bounds: Bounds,
    /// The owner's own.
    pub labels: BTreeMap<String, String>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Which secret is the current one, counted from 1.
    pub current_secret: i64,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it was ended, by itself or with all the keys of its user or space.
    pub revoke_time: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_use_time: Option<Timestamp>,
    /// From where.
    pub last_use_address: Option<String>,
    /// Until when the secret before the current one is good.
    pub previous_secret_expire_time: Option<Timestamp>,
    /// When that one was last used.
    pub previous_secret_last_use_time: Option<Timestamp>,
}

/// What narrows a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Act with these roles alone; empty: all.
    pub roles: Vec<RoleName>,
    /// Allow these scopes alone; empty: all that are granted but this service's own.
    pub scopes: PermissionSet,
    /// Good for these audiences alone; empty: any.
    pub audiences: Vec<String>,
    /// Good from these networks alone; empty: any.
    pub allowed_cidrs: Vec<IpNet>,
    /// When it stops being good; none: never.
    pub expire_time: Option<Timestamp>,
}

/// Where a key stands, as the contract numbers it.
pub use crate::proto::ApiKeyState as State;

impl ApiKey {
    /// Where it stands at `now`.
    pub fn state(&self, now: Timestamp) -> State {
        if self.revoke_time.is_some() {
            State::Revoked
        } else if self.bounds.expire_time.is_some_and(|expiry| now >= expiry) {
            State::Expired
        } else if self.disabled {
            State::Disabled
        } else {
            State::Active
        }
    }
}

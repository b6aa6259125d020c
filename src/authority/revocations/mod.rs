//! Revocation by reference ([`create`], of what `target` finds to be meant; of sessions and tokens, many at a time:
//! [`shared_commits`]; of all that somebody stands behind: `cutoff`), and the log for those who follow it: page by page
//! ([`list`]) or live ([`watch`], and how far behind its streams are: [`lag`]).

pub mod create;
mod cutoff;
pub mod lag;
pub mod list;
pub mod shared_commits;
mod target;
pub mod watch;

use super::{Authority, caller::Caller};
use crate::{
    domain::{ids::SpaceId, permission, revocation::Entry},
    error::Result,
    log::cursor::Coverage,
};

/// The spaces that a reader is shown.
#[derive(Debug, Clone)]
pub enum Spaces {
    /// Every one, those to come included.
    Every,
    /// These, sorted.
    These(Vec<SpaceId>),
}

impl Spaces {
    /// Those that a request names by slug or id, or all that the caller may watch. NOT_FOUND for one that it may not.
    pub async fn named(authority: &Authority, caller: &Caller, named: &[String]) -> Result<Self> {
        caller.require(permission::REVOCATIONS_WATCH, caller.space_id())?;
        if named.is_empty() && caller.in_system() {
            return Ok(Self::Every);
        }
        if named.is_empty() {
            return Ok(Self::These(vec![caller.space_id().clone()]));
        }
        let mut spaces = Vec::with_capacity(named.len());
        for name in named {
            spaces.push(caller.space(authority, name).await?.id);
        }
        spaces.sort_unstable();
        spaces.dedup();
        Ok(Self::These(spaces))
    }

    /// Whether an entry is to be shown: of one of these spaces, or of every space.
    pub fn show(&self, entry: &Entry) -> bool {
        match (self, &entry.decision.space_id) {
            (Self::Every, _) | (_, None) => true,
            (Self::These(spaces), Some(space)) => spaces.binary_search(space).is_ok(),
        }
    }

    /// What cursors of such a reader are bound to.
    pub fn coverage(&self) -> Coverage {
        match self {
            Self::Every => Coverage::of(None),
            Self::These(spaces) => Coverage::of(Some(spaces)),
        }
    }

    /// The ids; empty for every one.
    pub fn ids(&self) -> Vec<String> {
        match self {
            Self::Every => Vec::new(),
            Self::These(spaces) => spaces.iter().map(ToString::to_string).collect(),
        }
    }
}

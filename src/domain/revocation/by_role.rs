//! What is known of roles, each by its name and its space.

use std::collections::{HashMap, hash_map::Entry};

use crate::domain::ids::{RoleName, SpaceId};

/// Roles of the same name in two spaces are two roles. What is said of a role without a space is said of it in every one.
#[derive(Debug)]
pub(super) struct ByRole<T>(HashMap<RoleName, HashMap<SpaceId, T>>);

/// What stands for every space.
const EVERY: &str = "";

impl<T> Default for ByRole<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> ByRole<T> {
    /// What is known of exactly this role.
    pub(super) fn entry(
        &mut self,
        name: &RoleName,
        space: Option<&SpaceId>,
    ) -> Entry<'_, SpaceId, T> {
        let space = space.cloned().unwrap_or_else(|| SpaceId::known(EVERY));
        self.0.entry(name.clone()).or_default().entry(space)
    }

    /// All that bears on a role in `space`.
    pub(super) fn of(&self, name: &RoleName, space: &SpaceId) -> impl Iterator<Item = &T> {
        let spaces = self.0.get(name);
        [space.as_str(), EVERY]
            .into_iter()
            .filter_map(move |space| spaces.and_then(|spaces| spaces.get(space)))
    }

    /// Lets go of what is not to be kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        self.0.retain(|_, spaces| {
            spaces.retain(|_, known| keep(known));
            !spaces.is_empty()
        });
    }
}

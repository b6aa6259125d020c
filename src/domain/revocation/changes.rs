//! Where the log last spoke of a subject: whether what was remembered before is still fresh.

use std::collections::HashMap;

use super::{Entry, Position, Subject, by_role::ByRole};
use crate::{
    clock::Timestamp,
    domain::ids::{ApiKeyId, RoleName, SpaceId, UserId},
};

/// Positions of recent entries by subject, whatever their kind.
///
/// A record that was loaded after position `p` is fresh while nothing after `p` touches it. What was remembered longer ago
/// than these reach back is never fresh.
#[derive(Debug, Default)]
pub struct Changes {
    users: HashMap<UserId, Last>,
    api_keys: HashMap<ApiKeyId, Last>,
    roles: ByRole<Last>,
    spaces: HashMap<SpaceId, Last>,
    everything: Position,
    /// Entries up to here may have been let go of.
    floor: Position,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    position: Position,
    applied: Timestamp,
}

/// What a remembered record is about: a user in a space, with roles there, perhaps by an API key.
#[derive(Debug, Clone, Copy)]
pub struct About<'a, Roles> {
    /// The user.
    pub user: &'a UserId,
    /// The space it acts in.
    pub space: &'a SpaceId,
    /// The roles that are in effect there.
    pub roles: Roles,
    /// The API key, where there is one.
    pub api_key: Option<&'a ApiKeyId>,
}

impl Changes {
    /// Changes that know of nothing up to `floor`.
    pub fn after(floor: Position) -> Self {
        Self {
            floor,
            ..Self::default()
        }
    }

    /// Takes in one more entry, in the order of the log.
    pub fn apply(&mut self, entry: &Entry, now: Timestamp) {
        let last = Last {
            position: entry.position,
            applied: now,
        };
        match &entry.decision.subject {
            // A remembered JWT is looked up among the dead each time: nothing about these is remembered otherwise.
            Subject::Token(_) | Subject::Session(_) | Subject::SigningKey(_) => {}
            Subject::User(id) => drop(self.users.insert(id.clone(), last)),
            Subject::ApiKey(id) => drop(self.api_keys.insert(id.clone(), last)),
            Subject::Role(name) => {
                let space = entry.decision.space_id.as_ref();
                *self.roles.entry(name, space).or_insert(last) = last;
            }
            Subject::Space(id) => drop(self.spaces.insert(id.clone(), last)),
            Subject::Everything | Subject::Unknown => self.everything = entry.position,
        }
    }

    /// Whether nothing after `position` touches what a record is about.
    pub fn fresh_since<'a>(
        &self,
        position: Position,
        about: About<'a, impl IntoIterator<Item = &'a RoleName>>,
    ) -> bool {
        let quiet = |last: Option<&Last>| last.is_none_or(|last| last.position <= position);
        position >= self.floor
            && self.everything <= position
            && quiet(self.users.get(about.user))
            && quiet(self.spaces.get(about.space))
            && quiet(about.api_key.and_then(|id| self.api_keys.get(id)))
            && about
                .roles
                .into_iter()
                .flat_map(|role| self.roles.of(role, about.space))
                .all(|last| quiet(Some(last)))
    }

    /// Lets go of what was applied before `until`.
    pub fn forget(&mut self, until: Timestamp) {
        let mut floor = self.floor;
        let mut keep = |last: &Last| {
            if last.applied < until {
                floor = floor.max(last.position);
            }
            last.applied >= until
        };
        self.users.retain(|_, last| keep(last));
        self.api_keys.retain(|_, last| keep(last));
        self.roles.retain(|last| keep(last));
        self.spaces.retain(|_, last| keep(last));
        self.floor = floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ids::EventId, revocation::Decision};

    #[test]
    fn a_role_of_another_space_is_another_role() {
        let (here, there) = (SpaceId::known("here"), SpaceId::known("there"));
        let (user, role) = (UserId::known("u"), RoleName::known("clerk"));
        let mut changes = Changes::default();
        let mut apply = |position, space_id: Option<&SpaceId>| {
            let entry = Entry {
                event_id: EventId::known("e"),
                position: Position(position),
                decision: Decision::change(Subject::Role(role.clone()), space_id.cloned()),
                create_time: Timestamp::default(),
                forget_time: Timestamp::default(),
            };
            changes.apply(&entry, Timestamp::default());
            [&here, &there].map(|space| {
                let about = About {
                    user: &user,
                    space,
                    roles: [&role],
                    api_key: None,
                };
                changes.fresh_since(Position(position - 1), about)
            })
        };
        assert_eq!(apply(1, Some(&there)), [true, false]);
        assert_eq!(apply(2, Some(&here)), [false, true]);
        assert_eq!(apply(3, None), [false, false], "of every space");
    }
}

//! What happened, newest first, page by page.

use crate::{
    authority::{
        Authority,
        caller::Caller,
        page::{Page, Wanted},
    },
    clock::Timestamp,
    domain::{
        ids::{AuditEventId, NamedUser, SpaceId, UserId},
        permission,
    },
    error::Result,
    storage::{
        self,
        audit::{Recorded, Wanted as Narrowed},
    },
};

/// Which events to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Slug or id of the space; empty: every one that the caller may audit.
    pub space: String,
    /// With this action.
    pub action: Option<String>,
    /// By this user: an id or a username.
    pub actor: Option<NamedUser>,
    /// About this resource.
    pub resource: Option<String>,
    /// At or after this time.
    pub start_time: Option<Timestamp>,
    /// Before this time.
    pub end_time: Option<Timestamp>,
}

/// A page of events. NOT_FOUND for a space that the caller may not know of.
pub async fn list(
    authority: &Authority,
    caller: &Caller,
    filter: Filter,
    wanted: &Wanted,
) -> Result<Page<Recorded>> {
    let space = if filter.space.is_empty() && caller.in_system() {
        None
    } else {
        Some(caller.space(authority, &filter.space).await?.id)
    };
    caller.require(
        permission::AUDIT_READ,
        space.as_ref().unwrap_or(caller.space_id()),
    )?;
    let after = authority.pages.after(wanted)?;
    let actor = match &filter.actor {
        None => None,
        Some(named) => match actor(authority, caller, named, space.as_ref()).await? {
            Some(actor) => Some(actor),
            None => return Ok(authority.pages.cut(wanted, Vec::new(), place)),
        },
    };
    let narrowed = Narrowed {
        space,
        action: filter.action,
        actor,
        resource: filter.resource,
        start_time: filter.start_time,
        end_time: filter.end_time,
        after: after.as_deref().and_then(parsed),
        limit: wanted.limit(),
    };
    let rows = storage::audit::list(authority.db.reader(), &narrowed).await?;
    Ok(authority.pages.cut(wanted, rows, place))
}

/// The user that a filter names. An id is taken as it is, since what a deleted user did is still there; nobody learns by a name
/// that another space has such a user.
async fn actor(
    authority: &Authority,
    caller: &Caller,
    named: &NamedUser,
    space: Option<&SpaceId>,
) -> Result<Option<UserId>> {
    if named.as_str().starts_with(UserId::PREFIX) {
        return Ok(Some(UserId::known(named.as_str())));
    }
    let space = space.unwrap_or(caller.space_id()).named();
    let standing = storage::standing::standing(authority.db.reader(), named, Some(&space)).await?;
    Ok(standing
        .filter(|standing| standing.acts_here() || caller.in_system())
        .map(|standing| standing.user.id))
}

fn place(recorded: &Recorded) -> String {
    let event = &recorded.event;
    format!("{} {}", event.event_time.micros(), event.id)
}

fn parsed(place: &str) -> Option<(Timestamp, AuditEventId)> {
    let (micros, id) = place.split_once(' ')?;
    let time = Timestamp::from_micros(micros.parse().ok()?);
    Some((time, AuditEventId::known(id)))
}

//! Spaces, users and roles, and what a change of them means for tokens: one file a noun, and [`passwords`].
//!
//! Who may is on the method; here it counts in which space. What a caller may not know of is NOT_FOUND. Nobody grants what they
//! do not hold, and nobody enables or resets a user who may do, in any space, what they may not.

pub mod passwords;
pub mod roles;
pub mod spaces;
pub mod users;

use super::{Authority, caller::Caller, change::Change};
use crate::{
    domain::{
        ids::{RoleName, SpaceId, UserId},
        permission::{BuiltInRole, Permission, PermissionSet, SELF, exceeds_grant},
        revocation::{Reason, Subject},
    },
    error::{Error, Reason as Because, Result},
    storage::{self, ConnectionTrait},
};

/// What becomes of a user's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its JWTs are dead.
    Killed,
    /// They say something that is no longer so.
    Stale,
}

/// One entry for each space where the user acts, so that no tenant learns of another's users.
async fn tell_everywhere(change: &mut Change<'_>, user: &UserId, fate: Fate) -> Result<()> {
    for standing in storage::standing::everywhere(&change.transaction, user).await? {
        let subject = Subject::User(user.clone());
        let space = &standing.space.id;
        let reason = Reason::PrincipalChanged;
        match fate {
            Fate::Killed => change.kill(subject, space, reason).await?,
            Fate::Stale => change.touch(subject, space).await?,
        };
    }
    Ok(())
}

/// EXCEEDS_GRANT where the user may do, in any space, what the caller may not.
pub(super) async fn require_over(
    db: &impl ConnectionTrait,
    caller: &Caller,
    user: &UserId,
) -> Result<()> {
    let own: PermissionSet = [Permission::known(SELF)].into_iter().collect();
    for standing in storage::standing::everywhere(db, user).await? {
        let granted = standing.granted().without(&own);
        if granted.is_empty() {
            continue;
        }
        if !caller.sees(&standing.space.id) {
            return Err(exceeds_grant("what the user may do elsewhere"));
        }
        caller.require_holding(&granted, &standing.space.id)?;
    }
    Ok(())
}

fn admin() -> RoleName {
    RoleName::known(BuiltInRole::Admin.name())
}

/// The space `system`, where the user is one of its admins: whoever might take the last one away locks that space for a change,
/// so that no two do it at the same time.
async fn administered(authority: &Authority, user: &UserId) -> Result<Option<SpaceId>> {
    let db = authority.db.reader();
    let system = storage::spaces::system(db).await?;
    let assignment = storage::roles::assignment(db, &system, user, &admin()).await?;
    Ok(assignment.map(|_| system))
}

/// `FAILED_PRECONDITION/LAST_ADMIN` where a change of an admin, made already, would leave `system` without one that is not
/// switched off. ABORTED where the user became an admin since it was looked at.
async fn require_admin_left(change: &Change<'_>, was_admin: bool) -> Result<()> {
    if !was_admin {
        return Ok(());
    }
    let db = &change.transaction;
    let system = storage::spaces::system(db).await?;
    if !change.holds_space(&system) {
        return Err(Error::new(
            Because::ConcurrentModification,
            "another call changed it at the same time",
        ));
    }
    if storage::roles::count_enabled_holders(db, &system, &admin()).await? > 0 {
        return Ok(());
    }
    Err(Error::new(
        Because::LastAdmin,
        "nobody would be left to administer the authority",
    ))
}

/// Whether the user is an admin of `system`, as the transaction sees it.
async fn is_system_admin(change: &Change<'_>, user: &UserId) -> Result<bool> {
    let db = &change.transaction;
    let system = storage::spaces::system(db).await?;
    let assignment = storage::roles::assignment(db, &system, user, &admin()).await?;
    Ok(assignment.is_some())
}

//! Spaces: tenants that cannot see each other.

use std::time::Duration;

use super::{is_system_admin, require_admin_left};
use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks, replace},
        page::{Page, Wanted},
    },
    domain::{
        directory::Space,
        ids::{SpaceId, SpaceSlug},
        permission,
        revocation::{Reason, Subject},
    },
    error::{Error, Reason as Because, Result},
    log::{Effect, WaitUntil},
    storage::{self, ConnectionTrait},
};

/// What to set; none: leave it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// For people.
    pub display_name: Option<String>,
    /// What new API keys begin with.
    pub key_prefix: Option<String>,
    /// Longest life of a JWT; the inner none: 24 hours.
    pub max_token_ttl: Option<Option<Duration>>,
    /// How long a sign-in can be carried on; the inner none: 30 days.
    pub max_session_age: Option<Option<Duration>>,
    /// Longest life of an API key; the inner none: any.
    pub max_api_key_ttl: Option<Option<Duration>>,
    /// `aud` of a JWT that asks for none.
    pub default_audiences: Option<Vec<String>>,
}

/// Makes a space. ALREADY_EXISTS where another one has, or had, the slug.
pub async fn create(
    authority: &Authority,
    caller: &Caller,
    slug: SpaceSlug,
    settings: Settings,
    until: WaitUntil,
) -> Result<Space> {
    let change = Change::begin(authority, Some(caller), Locks::default()).await?;
    let id = SpaceId::new(change.now)?;
    let mut space = Space::named(id, slug, change.now);
    set(&mut space, settings);
    storage::spaces::insert(&change.transaction, &space).await?;
    let details = [("slug", space.slug.as_str())];
    change
        .audit("space.create", &space.id, space.id.as_str(), &details)
        .await?;
    change.commit(until).await?;
    Ok(space)
}

/// One space. NOT_FOUND where it does not exist or the caller may not know of it.
pub async fn get(authority: &Authority, caller: &Caller, named: &str) -> Result<Space> {
    let id = caller.space(authority, named).await?.id;
    described(authority.db.reader(), &id).await
}

/// A page of the spaces that the caller may read, by slug.
pub async fn list(authority: &Authority, caller: &Caller, wanted: &Wanted) -> Result<Page<Space>> {
    let after = authority.pages.after(wanted)?;
    let db = authority.db.reader();
    let may_read = caller.may(permission::SPACES_READ, caller.space_id());
    let rows = match (may_read, caller.in_system()) {
        (false, _) => Vec::new(),
        (true, false) => vec![described(db, caller.space_id()).await?],
        (true, true) => storage::spaces::list(db, after.as_deref(), wanted.limit()).await?,
    };
    Ok(authority
        .pages
        .cut(wanted, rows, |space| space.slug.to_string()))
}

/// Changes a space. Tokens that exist stay as they are.
pub async fn update(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    settings: Settings,
    until: WaitUntil,
) -> Result<Space> {
    let id = caller.space(authority, named).await?.id;
    let locks = Locks::default().change_space(&id);
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    let mut space = described(&change.transaction, &id).await?;
    set(&mut space, settings);
    space.update_time = change.now;
    storage::spaces::update(&change.transaction, &space).await?;
    change.touch(Subject::Space(id.clone()), &id).await?;
    change.audit("space.update", &id, id.as_str(), &[]).await?;
    change.commit(until).await?;
    Ok(space)
}

/// Deletes a space with its users, keys, roles and tokens. `FAILED_PRECONDITION/BUILT_IN` for `system`, and `LAST_ADMIN` where
/// the last admin of `system` is at home there.
pub async fn delete(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let space = caller.space(authority, named).await?;
    if space.is_system() {
        return Err(Error::new(
            Because::BuiltIn,
            "the space system cannot be deleted",
        ));
    }
    let id = space.id;
    let system = storage::spaces::system(authority.db.reader()).await?;
    let locks = Locks::default().change_space(&id).change_space(&system);
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    let slug = described(&change.transaction, &id).await?.slug;
    storage::users::lock_all_exclusively(&change.transaction, &id).await?;
    let held_elsewhere = storage::roles::held_elsewhere(&change.transaction, &id).await?;
    let mut had_admin = false;
    for (user, elsewhere) in &held_elsewhere {
        had_admin = had_admin || (*elsewhere == system && is_system_admin(&change, user).await?);
    }
    let guests = held_elsewhere
        .into_iter()
        .map(|(user, elsewhere)| (Subject::User(user), elsewhere));
    change.kill_each(guests, Reason::PrincipalChanged).await?;
    change
        .kill(Subject::Space(id.clone()), &id, Reason::PrincipalChanged)
        .await?;
    let (transaction, now) = (&change.transaction, change.now);
    storage::roles::delete_all(transaction, &id).await?;
    storage::users::delete_all(transaction, &id, now).await?;
    storage::spaces::delete(transaction, &id, now).await?;
    require_admin_left(&change, had_admin).await?;
    let details = [("slug", slug.as_str())];
    change
        .audit("space.delete", &id, id.as_str(), &details)
        .await?;
    change.commit(until).await
}

async fn described(db: &impl ConnectionTrait, id: &SpaceId) -> Result<Space> {
    storage::spaces::describe(db, id)
        .await?
        .ok_or_else(|| Error::not_found("space"))
}

fn set(space: &mut Space, settings: Settings) {
    replace(&mut space.display_name, settings.display_name);
    replace(&mut space.key_prefix, settings.key_prefix);
    replace(&mut space.max_token_ttl, settings.max_token_ttl);
    replace(&mut space.max_session_age, settings.max_session_age);
    replace(&mut space.max_api_key_ttl, settings.max_api_key_ttl);
    replace(&mut space.default_audiences, settings.default_audiences);
}

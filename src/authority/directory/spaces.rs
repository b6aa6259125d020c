//! Spaces: tenants that cannot see each other.

use crate::{
    authority::{Authority, audit},
    domain::{
        ids::{SpaceId, SpaceSlug},
        standing::Space,
    },
    error::{Error, Result},
    storage::{self, spaces::NewSpace},
};

/// Makes a space.
pub async fn create(
    authority: &Authority,
    actor: audit::Actor<'_>,
    slug: &SpaceSlug,
) -> Result<Space> {
    let now = authority.clock.now();
    let id = SpaceId::new(now)?;
    let transaction = authority.db.begin().await?;
    storage::spaces::insert(&transaction, &NewSpace::named(&id, slug), now).await?;
    let done = audit::Done {
        action: "space.create",
        space: Some(&id),
        resource: id.as_str(),
        details: &[("slug", slug.as_str())],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await?;
    storage::spaces::find(authority.db.reader(), &id.named())
        .await?
        .ok_or_else(|| Error::not_found("space"))
}

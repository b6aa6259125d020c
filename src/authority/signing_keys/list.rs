//! Which keys there are and were.

use crate::{
    authority::{
        Authority,
        page::{Page, Wanted},
    },
    clock::Timestamp,
    domain::signing_key::SigningKeyDescription,
    error::Result,
    storage::signing_keys,
};

/// A page of keys, newest first.
pub async fn list(authority: &Authority, wanted: &Wanted) -> Result<Page<SigningKeyDescription>> {
    let after = authority.pages.after(wanted)?;
    let after = after.as_deref().and_then(place);
    let rows = signing_keys::list(authority.db.reader(), after, wanted.limit()).await?;
    let place =
        |key: &SigningKeyDescription| format!("{} {}", key.life.prepare_time.micros(), key.id);
    Ok(authority.pages.cut(wanted, rows, place))
}

fn place(last: &str) -> Option<(Timestamp, String)> {
    let (micros, id) = last.split_once(' ')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), id.to_owned()))
}

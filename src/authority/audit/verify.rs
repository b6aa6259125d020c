//! Goes along the chain in the database, while a server may go on writing.

use crate::{
    domain::audit::{Fault, Head, HeadKey, Verification},
    error::Result,
    storage::{self, Database},
};

/// Events read at a time.
const READ: u64 = 1000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Where the chain ends, or what is wrong with it.
    pub chain: Result<Head, Fault>,
    /// Events that are not in the chain yet.
    pub not_chained: u64,
}

/// Verifies the chain up to where it ends now.
pub async fn verify(db: &Database, key: &HeadKey) -> Result<Verdict> {
    let ends = storage::audit::ends(db.reader()).await?;
    let not_chained = ends.not_chained;
    let chain = match Verification::begin(&ends.sealed, key) {
        Ok(verification) => walk(db, verification, ends.last).await?,
        Err(fault) => Err(fault),
    };
    Ok(Verdict { chain, not_chained })
}

async fn walk(
    db: &Database,
    mut verification: Verification,
    last: i64,
) -> Result<Result<Head, Fault>> {
    let mut after = None;
    loop {
        let links = storage::audit::links(db.reader(), after, last, READ).await?;
        if links.is_empty() {
            return Ok(verification.finish());
        }
        for link in links {
            if let Err(fault) = verification.take(link) {
                return Ok(Err(fault));
            }
        }
        after = Some(verification.reached());
    }
}

//! The entries in force, page by page.

use std::sync::Arc;

use super::Spaces;
use crate::{
    authority::{Authority, caller::Caller},
    domain::revocation::{Entry, Position},
    error::{Error, Reason, Result},
    log::cursor::EntryMark,
};

/// Entries looked at for one page, whether or not they are shown.
const LOOKED_AT: usize = 65_536;
const READ: u32 = 4096;

/// One page.
#[derive(Debug)]
pub struct Page {
    /// In the order of the log.
    pub entries: Vec<Arc<Entry>>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Where a stream goes on after this page.
    pub cursor: String,
}

/// The page after `page_token`. `INVALID_ARGUMENT/PAGE_TOKEN_INVALID` for one that is not of this listing.
pub async fn list(
    authority: &Authority,
    caller: &Caller,
    named: &[String],
    page_size: usize,
    page_token: &str,
) -> Result<Page> {
    let spaces = Spaces::named(authority, caller, named).await?;
    let (mut position, mut mark) = start(authority, &spaces, page_token).await?;
    let head = authority.log.catch_up().await?.position;
    let over = authority.log.applied().await?.over();
    let mut entries = Vec::new();
    let mut looked_at = 0;
    'page: while position < head && looked_at < LOOKED_AT {
        let read = authority.log.after(position, READ).await?;
        if read.is_empty() {
            break;
        }
        for entry in read {
            if entries.len() == page_size {
                break 'page;
            }
            looked_at += 1;
            position = entry.position;
            mark = EntryMark::of(&entry.event_id);
            if spaces.show(&entry) && entry.forget_time > over {
                entries.push(entry);
            }
        }
    }
    let cursor = authority.log.cursor(position, mark, spaces.coverage());
    let next_page_token = if position < head {
        cursor.clone()
    } else {
        String::new()
    };
    Ok(Page {
        entries,
        next_page_token,
        cursor,
    })
}

async fn start(
    authority: &Authority,
    spaces: &Spaces,
    page_token: &str,
) -> Result<(Position, EntryMark)> {
    if page_token.is_empty() {
        return Ok((authority.log.floor().await?, EntryMark::default()));
    }
    let foreign = |_| Error::new(Reason::PageTokenInvalid, "not a page token of this listing");
    let cursor = authority.log.open_cursor(page_token).map_err(foreign)?;
    if cursor.coverage == spaces.coverage() {
        Ok((cursor.position, cursor.mark))
    } else {
        Err(Error::new(
            Reason::PageTokenInvalid,
            "not a page token of this listing",
        ))
    }
}

//! A page of the log as one value: were every entry a row with a value for each column, that would cost more than all that is
//! done with it afterwards.

use std::num::ParseIntError;

use super::{kind, place, reason, subject};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{EventId, SpaceId},
        revocation::{Decision, Entry},
    },
};

/// Between the columns of an entry, and between entries. No id has either in it; were they in some row all the same, the page
/// would not be [`parse`]d.
const BETWEEN_COLUMNS: char = '\u{1f}';
const BETWEEN_ENTRIES: char = '\u{1e}';

/// Gives one row: how many entries there are from `$1` on, `$2` at most, and all their columns.
pub(super) fn sql() -> String {
    format!(
        "SELECT count(*) AS entries, string_agg(concat_ws('{BETWEEN_COLUMNS}', position, event_id, kind, reason, \
         subject_kind, subject_id, space_id, coalesce(CAST(sessions_until AS text), ''), coalesce(CAST(effective_time AS text), ''), \
         create_time, forget_time), '{BETWEEN_ENTRIES}') AS page \
         FROM (SELECT * FROM revocation_log WHERE position >= $1 ORDER BY position LIMIT $2) AS entries"
    )
}

/// The entries of a page, in order; none where it is not what so many entries are written as.
pub(super) fn parse(page: &str, count: usize) -> Option<Vec<Entry>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let mut entries = Vec::with_capacity(count);
    for text in page.split(BETWEEN_ENTRIES) {
        entries.push(entry(text)?);
    }
    // Neither engine promises to put them together in the order of the query within.
    entries.sort_by_key(|entry| entry.position);
    (entries.len() == count).then_some(entries)
}

fn entry(text: &str) -> Option<Entry> {
    let mut columns = text.split(BETWEEN_COLUMNS);
    let mut next = || columns.next();
    let position = place(next()?.parse().ok()?);
    let event_id = EventId::known(next()?);
    let (kind, reason) = (kind(next()?.parse().ok()?), reason(next()?.parse().ok()?));
    let subject = subject(next()?, next()?);
    let space_id = Some(next()?).filter(|id| !id.is_empty());
    let decision = Decision {
        kind,
        subject,
        space_id: space_id.map(SpaceId::known),
        sessions_until: rare_moment(next()?).ok()?,
        effective_time: rare_moment(next()?).ok()?,
        reason,
    };
    let entry = Entry {
        event_id,
        position,
        decision,
        create_time: moment(next()?).ok()?,
        forget_time: moment(next()?).ok()?,
    };
    next().is_none().then_some(entry)
}

fn moment(text: &str) -> Result<Timestamp, ParseIntError> {
    text.parse().map(Timestamp::from_micros)
}

/// A moment, or none where there is nothing.
fn rare_moment(text: &str) -> Result<Option<Timestamp>, ParseIntError> {
    Some(text)
        .filter(|text| !text.is_empty())
        .map(moment)
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::revocation::{Kind, Position, Reason, Subject};

    const ENTRY: &str =
        "7\u{1f}rev_a\u{1f}1\u{1f}2\u{1f}user\u{1f}usr_a\u{1f}\u{1f}\u{1f}5\u{1f}3\u{1f}9";

    #[test]
    fn a_page_is_read_as_it_was_written_and_in_order() {
        let earlier = ENTRY.replacen('7', "6", 1);
        let entries = parse(&format!("{ENTRY}\u{1e}{earlier}"), 2).unwrap();
        assert_eq!(entries[0].position, Position(6));
        let decision = Decision {
            effective_time: Some(Timestamp::from_micros(5)),
            ..Decision::revocation(
                Subject::User(crate::domain::ids::UserId::known("usr_a")),
                None,
                Reason::Superseded,
            )
        };
        assert_eq!(
            entries[1],
            Entry {
                event_id: EventId::known("rev_a"),
                position: Position(7),
                decision,
                create_time: Timestamp::from_micros(3),
                forget_time: Timestamp::from_micros(9),
            }
        );
        assert_eq!(entries[1].decision.kind, Kind::Revocation);
        assert_eq!(parse("", 0), Some(Vec::new()));
    }

    #[test]
    fn a_page_with_a_mark_where_none_belongs_is_not_read() {
        for spoilt in [
            ENTRY.replace("usr_a", "usr_\u{1f}a"),
            ENTRY.replace("usr_a", "usr_\u{1e}a"),
            ENTRY.replace("usr_a", &format!("a\u{1e}{ENTRY}")),
            ENTRY.replace('9', ""),
            String::new(),
        ] {
            assert_eq!(parse(&spoilt, 1), None, "{spoilt:?}");
        }
        assert_eq!(parse(ENTRY, 2), None);
    }
}

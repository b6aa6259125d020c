//! Times, durations and labels as people write them.

use std::time::Duration;

use time::{Date, OffsetDateTime, Time, UtcOffset, format_description::well_known::Rfc3339};

use crate::{clock::Timestamp, proto};

/// A moment: as such, or as far away from now as a duration tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    Away(Duration),
}

impl When {
    /// The moment, where a duration counts from `now` on.
    pub(crate) fn ahead_of(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Away(duration) => now + duration,
        }
    }

    /// The moment, where a duration counts back from `now`.
    pub(crate) fn back_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Away(duration) => now - duration,
        }
    }
}

/// Takes `90d`, `24h`, `1h 30m`, `15m`, `500ms`, `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write for example 90d, 24h, 15m, 30s or 500ms"))
}

/// The same, but for no time at all.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than nothing, for example 30s".to_owned()),
        timeout => Ok(timeout),
    }
}

/// Takes RFC 3339 (`2030-01-02T03:04:05Z`), a date (midnight UTC) or a duration.
pub(crate) fn when(text: &str) -> Result<When, String> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(When::At(timestamp(moment)));
    }
    if let Some(date) = date(text) {
        let midnight = OffsetDateTime::new_in_offset(date, Time::MIDNIGHT, UtcOffset::UTC);
        return Ok(When::At(timestamp(midnight)));
    }
    humantime::parse_duration(text)
        .map(When::Away)
        .map_err(|_| "write a time such as 2030-01-02T03:04:05Z or 2030-01-02, or a duration such as 90d or 24h".to_owned())
}

fn date(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let month: u8 = month.parse().ok()?;
    Date::from_calendar_date(
        year.parse().ok()?,
        month.try_into().ok()?,
        day.parse().ok()?,
    )
    .ok()
}

fn timestamp(moment: OffsetDateTime) -> Timestamp {
    let micros = moment.unix_timestamp_nanos() / 1_000;
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Takes `name=value`; the value may be empty and may hold further `=`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value".to_owned()),
    }
}

/// As the contract carries a moment.
pub(crate) fn proto_time(moment: Timestamp) -> prost_types::Timestamp {
    let micros = moment.micros().rem_euclid(1_000_000);
    prost_types::Timestamp {
        seconds: moment.seconds(),
        nanos: i32::try_from(micros * 1_000).unwrap_or(0),
    }
}

/// As the contract carries a duration.
pub(crate) fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// Why something is revoked, as the command line spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Reason {
    /// The holder gave it up
    Logout,
    /// Replaced by a newer one
    Superseded,
    /// Leaked, or feared to be
    Compromised,
    /// The holder may do less than before
    PrivilegesChanged,
    /// The user was disabled or deleted, or the password changed
    PrincipalChanged,
    /// An operator's decision
    Administrative,
}

/// As the contract carries a reason.
pub(crate) fn proto_reason(reason: Option<Reason>) -> i32 {
    use proto::RevocationReason as Proto;
    let reason = match reason {
        None => Proto::Unspecified,
        Some(Reason::Logout) => Proto::Logout,
        Some(Reason::Superseded) => Proto::Superseded,
        Some(Reason::Compromised) => Proto::Compromised,
        Some(Reason::PrivilegesChanged) => Proto::PrivilegesChanged,
        Some(Reason::PrincipalChanged) => Proto::PrincipalChanged,
        Some(Reason::Administrative) => Proto::Administrative,
    };
    reason.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90d", 7_776_000),
            ("24h", 86_400),
            ("15m", 900),
            ("1h 30m", 5_400),
            ("0", 0),
            ("45s", 45),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "5", "-1s", "1 fortnight", "999999999999999999999d"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(timeout("500ms"), Ok(Duration::from_millis(500)));
        assert!(timeout("0s").is_err());
    }

    #[test]
    fn a_moment_is_a_time_a_date_or_a_distance() {
        let day = Timestamp::from_seconds(1_893_456_000);
        assert_eq!(when("2030-01-01"), Ok(When::At(day)));
        assert_eq!(when("2030-01-01T01:00:00+01:00"), Ok(When::At(day)));
        let away = when("1h").unwrap();
        assert_eq!(away.ahead_of(day).seconds(), 1_893_459_600);
        assert_eq!(away.back_from(day).seconds(), 1_893_452_400);
        for text in [
            "",
            "tomorrow",
            "2030-13-01",
            "2030-1-1",
            "2030-01-01T00:00:00",
        ] {
            assert!(when(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_label_is_split_at_its_first_sign() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("a").is_err());
        assert!(label("=b").is_err());
    }
}

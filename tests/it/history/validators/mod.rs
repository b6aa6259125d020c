//! What is promised, as pure functions over a record, one a promise.
//!
//! Each gives back every piece of the history that breaks its promise, told in the fewest lines that show it. `verdicts` are
//! about what was said of tokens, `streams` about what subscribers were told. Each file ends with small histories that break a
//! promise, made by hand (`samples`).

mod samples;
mod streams;
mod verdicts;

use std::{fmt, time::Duration};

use super::record::{Judgement, Record, Revocation, Span, Token};

/// Checks one promise.
type Validator = fn(&Record) -> Vec<Violation>;

/// Every promise by its name.
pub(super) const ALL: &[(&str, Validator)] = &[
    (
        "no active after effective",
        verdicts::no_active_after_effective,
    ),
    ("bookmarkable", verdicts::bookmarkable),
    (
        "no inactive without cause",
        verdicts::no_inactive_without_cause,
    ),
    ("unavailable at most", verdicts::unavailable_at_most),
    ("ordered", streams::ordered),
    ("unique", streams::unique),
    ("reliable", streams::reliable),
    ("atomic", streams::atomic),
    ("resumable", streams::resumable),
    ("bounded staleness", streams::bounded_staleness),
];

/// What breaks a promise, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation(pub(super) Vec<String>);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// The first violation of each promise that is broken, and how many there are of it.
pub(super) fn check(record: &Record) -> Vec<(&'static str, usize, Violation)> {
    ALL.iter()
        .filter_map(|(promise, validator)| {
            let found = validator(record);
            let first = found.first()?.clone();
            Some((*promise, found.len(), first))
        })
        .collect()
}

/// A moment as seconds of the run.
fn at(record: &Record, moment: Duration) -> String {
    let since = moment.saturating_sub(record.begun);
    format!("{:9.4}", since.as_secs_f64())
}

fn spanned(record: &Record, span: Span) -> String {
    format!("{} to {}", at(record, span.begun), at(record, span.ended))
}

fn tell_token(record: &Record, token: &Token) -> String {
    let issued = spanned(record, token.issued);
    format!(
        "{issued}  issued in space {}: user {}, {:?}",
        token.space, token.user, token.form
    )
}

fn tell_revocation(record: &Record, revocation: &Revocation) -> String {
    let (span, replica) = (spanned(record, revocation.span), &revocation.replica);
    let answer = match &revocation.answer {
        Ok(effect) => format!(
            "position {}, effective {}",
            effect.position, effect.effective
        ),
        Err(failure) => failure.to_string(),
    };
    format!(
        "{span}  revoked at {replica}: {:?}: {answer}",
        revocation.subject
    )
}

fn tell_judgement(record: &Record, judgement: &Judgement, said: &str) -> String {
    let (span, replica) = (spanned(record, judgement.span), &judgement.replica);
    let bookmark = match judgement.bookmark {
        0 => String::new(),
        position => format!(" with the cursor of {position}"),
    };
    format!("{span}  {:?} at {replica}{bookmark}: {said}", judgement.how)
}

/// What was done to a server at some time in a span.
fn tell_faults(record: &Record, replica: &str, span: Span) -> Vec<String> {
    let overlaps = |other: Span| other.begun <= span.ended && span.begun <= other.ended;
    record
        .faults
        .iter()
        .filter(|fault| overlaps(fault.span) && (fault.to == replica || fault.to == "all"))
        .map(|fault| {
            format!(
                "{}  {} of {}",
                spanned(record, fault.span),
                fault.kind,
                fault.to
            )
        })
        .collect()
}

//! What may be said of a token.

use std::{collections::HashMap, time::Duration};

use tonic::Code;

use super::{Violation, tell_faults, tell_judgement, tell_revocation, tell_token};
use crate::history::record::{
    Failure, Form, Judgement, Record, Revocation, Span, Token, TokenNumber,
};

/// Nothing that began after a revocation of its token had been answered `effective` takes the token for good. What is UNAVAILABLE
/// says nothing.
pub(super) fn no_active_after_effective(record: &Record) -> Vec<Violation> {
    let effective = |revocation: &Revocation, token: &Token| {
        let effective = revocation
            .answer
            .as_ref()
            .is_ok_and(|effect| effect.effective);
        (effective && revocation.ends(token)).then_some(revocation.span.ended)
    };
    let dead = earliest(record, effective);
    let breaks =
        |judgement: &Judgement, (ended, _): &(Duration, usize)| judgement.span.begun > *ended;
    broken(record, &dead, breaks)
}

/// What is asked with the cursor of a revocation is answered as after it, at any replica, effective or not.
pub(super) fn bookmarkable(record: &Record) -> Vec<Violation> {
    let placed = |revocation: &Revocation, token: &Token| {
        let position = revocation
            .answer
            .as_ref()
            .map_or(0, |effect| effect.position);
        (position > 0 && revocation.ends(token)).then_some(position)
    };
    let dead = earliest(record, placed);
    let breaks =
        |judgement: &Judgement, (position, _): &(u64, usize)| judgement.bookmark >= *position;
    broken(record, &dead, breaks)
}

/// Nothing is called inactive that nobody had asked to end, unless the wall clock of who says so, or of who issued it, stood
/// elsewhere: a JWT whose time is not yet, or is over, is not active.
pub(super) fn no_inactive_without_cause(record: &Record) -> Vec<Violation> {
    let asked = |revocation: &Revocation, token: &Token| {
        revocation.may_end(token).then_some(revocation.span.begun)
    };
    let doomed = earliest(record, asked);
    let mut found = Vec::new();
    for (judgement, token, active) in verdicts(record) {
        let has_cause = doomed[token].is_some_and(|(begun, _)| begun <= judgement.span.ended);
        let of_another_time = || {
            let is_jwt = matches!(record.tokens[token].form, Form::Jwt { .. });
            is_jwt
                && (record.tokens[token].astray
                    || record.is_stepped(&judgement.replica, judgement.span))
        };
        if !active && !has_cause && !of_another_time() {
            found.push(Violation(vec![
                tell_token(record, &record.tokens[token]),
                tell_judgement(record, judgement, "inactive, and nobody had asked for that"),
            ]));
        }
    }
    found
}

/// A server that cannot answer says that it cannot: it does not fail, and nobody is refused what is due to him, unless by a server
/// whose wall clock stands elsewhere: there the caller's own token is of another time.
pub(super) fn unavailable_at_most(record: &Record) -> Vec<Violation> {
    let allowed = |failure: &Failure| {
        let codes = [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
        ];
        failure.reason.is_empty() || codes.contains(&failure.code)
    };
    let judgements = record.judgements.iter().filter_map(|judgement| {
        let failure = judgement.answer.as_ref().err()?;
        let of_another_time = failure.code == Code::Unauthenticated
            && record.is_stepped(&judgement.replica, judgement.span);
        (!allowed(failure) && !of_another_time)
            .then(|| tell_judgement(record, judgement, &failure.to_string()))
    });
    let revocations = record.revocations.iter().filter_map(|revocation| {
        let failure = revocation.answer.as_ref().err()?;
        (failure.code == Code::Internal && !allowed(failure))
            .then(|| tell_revocation(record, revocation))
    });
    judgements
        .chain(revocations)
        .map(|line| Violation(vec![line]))
        .collect()
}

/// Of each token the revocation for which `when` gives least, and what it gives.
fn earliest<T: Ord + Copy>(
    record: &Record,
    when: impl Fn(&Revocation, &Token) -> Option<T>,
) -> Vec<Option<(T, usize)>> {
    let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
    for (number, revocation) in record.revocations.iter().enumerate() {
        by_key
            .entry(revocation.subject.key())
            .or_default()
            .push(number);
    }
    let of_token = |token: &Token| {
        let keys = token.keys();
        let about = keys.iter().filter_map(|key| by_key.get(key)).flatten();
        about
            .filter_map(|&number| Some((when(&record.revocations[number], token)?, number)))
            .min()
    };
    record.tokens.iter().map(of_token).collect()
}

/// What was said, token by token.
fn verdicts(record: &Record) -> impl Iterator<Item = (&Judgement, TokenNumber, bool)> {
    record.judgements.iter().flat_map(|judgement| {
        let told = judgement.answer.iter().flatten();
        told.map(move |&(token, active)| (judgement, token, active))
    })
}

/// The verdicts `active` that a revocation makes wrong.
fn broken<T>(
    record: &Record,
    dead: &[Option<(T, usize)>],
    breaks: impl Fn(&Judgement, &(T, usize)) -> bool,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for (judgement, token, active) in verdicts(record) {
        let Some(by) = &dead[token] else { continue };
        if active && breaks(judgement, by) {
            let revocation = &record.revocations[by.1];
            let mut lines = vec![
                tell_token(record, &record.tokens[token]),
                tell_revocation(record, revocation),
                tell_judgement(record, judgement, "ACTIVE"),
            ];
            let between = Span {
                begun: revocation.span.begun,
                ended: judgement.span.ended,
            };
            lines.extend(tell_faults(record, &judgement.replica, between));
            found.push(Violation(lines));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{
        record::Stepped,
        validators::samples::{
            active, at, failed, inactive, jwt, not_effective, record, revoked, span, unavailable,
        },
    };

    #[test]
    fn a_token_that_is_active_after_its_revocation_was_effective_is_found() {
        let revoked = revoked("session s", 20, 30, 7);
        let told = |judgements| {
            let record = record(vec![jwt("s", 3)], vec![revoked.clone()], judgements);
            no_active_after_effective(&record).len()
        };
        assert_eq!(told(vec![active(31, 32)]), 1);
        assert_eq!(told(vec![active(29, 40)]), 0, "it began before");
        assert_eq!(told(vec![inactive(31, 32), unavailable(31, 33)]), 0);
    }

    #[test]
    fn a_revocation_that_is_not_effective_promises_nothing_but_to_who_brings_its_cursor() {
        let revocation = not_effective(revoked("session s", 20, 30, 7));
        let with = |bookmark| Judgement {
            bookmark,
            ..active(31, 32)
        };
        let told = |judgement| {
            let record = record(vec![jwt("s", 3)], vec![revocation.clone()], vec![judgement]);
            (
                no_active_after_effective(&record).len(),
                bookmarkable(&record).len(),
            )
        };
        assert_eq!(told(with(0)), (0, 0));
        assert_eq!(told(with(6)), (0, 0), "the cursor of what came before");
        assert_eq!(told(with(7)), (0, 1));
        assert_eq!(told(with(8)), (0, 1));
        assert_eq!(
            told(Judgement {
                bookmark: 7,
                ..inactive(31, 32)
            }),
            (0, 0)
        );
    }

    #[test]
    fn a_cutoff_ends_what_was_issued_before_it_and_nothing_else() {
        let revoked = revoked("user u", 20, 30, 7);
        let told = |rev, judgement| {
            let mut token = jwt("s", rev);
            token.issued = Span {
                begun: at(10),
                ended: at(25),
            };
            let record = record(vec![token], vec![revoked.clone()], vec![judgement]);
            (
                no_active_after_effective(&record).len(),
                no_inactive_without_cause(&record).len(),
            )
        };
        assert_eq!(told(6, active(31, 32)), (1, 0));
        assert_eq!(told(7, active(31, 32)), (0, 0));
        assert_eq!(told(6, inactive(31, 32)), (0, 0));
        assert_eq!(told(7, inactive(31, 32)), (0, 1));
    }

    #[test]
    fn a_token_that_is_inactive_before_anybody_asked_for_that_is_found() {
        let told = |judgement| {
            let revocations = vec![
                revoked("session s", 20, 30, 7),
                revoked("session t", 5, 6, 1),
            ];
            let record = record(vec![jwt("s", 3)], revocations, vec![judgement]);
            no_inactive_without_cause(&record).len()
        };
        assert_eq!(told(inactive(15, 19)), 1);
        assert_eq!(told(inactive(15, 21)), 0, "asked for meanwhile");
    }

    #[test]
    fn a_clock_that_stands_elsewhere_excuses_who_goes_by_it_and_what_it_dated() {
        let told = |astray, stepped: Option<(u64, u64)>, judgement| {
            let mut token = jwt("s", 3);
            token.astray = astray;
            let mut record = record(vec![token], vec![], vec![judgement]);
            record.stepped = stepped
                .map(|(begun, ended)| Stepped {
                    replica: "b".to_owned(),
                    span: span(begun, ended),
                })
                .into_iter()
                .collect();
            (
                no_inactive_without_cause(&record).len(),
                unavailable_at_most(&record).len(),
            )
        };
        let refused = || failed(Code::Unauthenticated, "CREDENTIALS_INVALID");
        assert_eq!(told(false, None, inactive(15, 19)), (1, 0));
        assert_eq!(told(true, None, inactive(15, 19)), (0, 0));
        assert_eq!(told(false, Some((10, 16)), inactive(15, 19)), (0, 0));
        assert_eq!(told(false, Some((10, 14)), inactive(15, 19)), (1, 0));
        assert_eq!(told(false, Some((1, 9)), refused()), (0, 0));
        assert_eq!(
            told(false, Some((3, 9)), refused()),
            (0, 1),
            "it was before"
        );
    }

    #[test]
    fn a_server_that_fails_instead_of_being_unavailable_is_found() {
        let told = |code, reason| {
            unavailable_at_most(&record(vec![], vec![], vec![failed(code, reason)])).len()
        };
        assert_eq!(told(Code::Unavailable, "DATABASE_UNAVAILABLE"), 0);
        assert_eq!(told(Code::Internal, "INTERNAL"), 1);
        assert_eq!(told(Code::Unauthenticated, "CREDENTIALS_INVALID"), 1);
        assert_eq!(told(Code::Unknown, ""), 0, "a connection was lost");
    }
}

//! Small histories, made by hand.

use std::{collections::BTreeMap, time::Duration};

use tonic::Code;

use crate::history::record::{
    Effect, Entry, Failure, Form, How, Judgement, Leg, Record, Revocation, Span, Subject,
    Subscriber, Token, Told, What,
};

pub(super) fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn span(begun: u64, ended: u64) -> Span {
    Span {
        begun: at(begun),
        ended: at(ended),
    }
}

pub(super) fn record(
    tokens: Vec<Token>,
    revocations: Vec<Revocation>,
    judgements: Vec<Judgement>,
) -> Record {
    Record {
        tokens,
        judgements,
        revocations,
        ..Record::default()
    }
}

/// A JWT of the user `u` in the space `home`.
pub(super) fn jwt(session: &str, rev: u64) -> Token {
    Token {
        user: "u".to_owned(),
        space: "home".to_owned(),
        issued: span(0, 1),
        astray: false,
        form: Form::Jwt {
            id: "t".to_owned(),
            session: session.to_owned(),
            rev,
            roles: Vec::new(),
            api_key: None,
        },
    }
}

/// An effective revocation of a `session` or a `user`.
pub(super) fn revoked(subject: &str, begun: u64, ended: u64, position: u64) -> Revocation {
    let subject = match subject.split_once(' ').unwrap() {
        ("user", id) => Subject::User {
            id: id.to_owned(),
            spaces: vec!["home".to_owned()],
            api_keys: false,
        },
        (_, id) => Subject::Session(id.to_owned()),
    };
    Revocation {
        subject,
        replica: "a".to_owned(),
        span: span(begun, ended),
        answer: Ok(Effect {
            position,
            effective: true,
            acknowledged: i64::try_from(ended).unwrap() * 1000,
        }),
    }
}

pub(super) fn not_effective(mut revocation: Revocation) -> Revocation {
    revocation.answer.as_mut().unwrap().effective = false;
    revocation
}

fn judged(begun: u64, ended: u64, answer: Result<Vec<(usize, bool)>, Failure>) -> Judgement {
    Judgement {
        how: How::Introspected,
        replica: "b".to_owned(),
        span: span(begun, ended),
        bookmark: 0,
        answer,
    }
}

pub(super) fn active(begun: u64, ended: u64) -> Judgement {
    judged(begun, ended, Ok(vec![(0, true)]))
}

pub(super) fn inactive(begun: u64, ended: u64) -> Judgement {
    judged(begun, ended, Ok(vec![(0, false)]))
}

pub(super) fn failed(code: Code, reason: &str) -> Judgement {
    let failure = Failure {
        code,
        reason: reason.to_owned(),
        instead: String::new(),
    };
    judged(1, 2, Err(failure))
}

pub(super) fn unavailable(begun: u64, ended: u64) -> Judgement {
    Judgement {
        span: span(begun, ended),
        ..failed(Code::Unavailable, "DATABASE_UNAVAILABLE")
    }
}

pub(super) fn entry(position: u64, subject: &str) -> Entry {
    Entry {
        position,
        event: format!("rev_{position}"),
        kills: true,
        subject: subject.into(),
        space: "home".into(),
        create_time: 1,
    }
}

pub(super) fn told(position: u64, what: What) -> Told {
    Told {
        arrived: i64::MAX,
        position,
        what,
    }
}

/// A batch of entries about sessions, at these places.
pub(super) fn batch(positions: &[u64]) -> Told {
    let entries = positions.iter().map(|&place| entry(place, "session s"));
    told(*positions.last().unwrap(), What::Entries(entries.collect()))
}

pub(super) fn leg(after: Option<u64>, messages: Vec<Told>) -> Leg {
    let started = told(after.unwrap_or_default(), What::Started);
    Leg {
        replica: "a".to_owned(),
        begun: at(0),
        after,
        messages: std::iter::once(started).chain(messages).collect(),
        failure: None,
    }
}

/// What one subscriber saw.
pub(super) fn watched(legs: Vec<Leg>) -> Record {
    let subscriber = Subscriber {
        name: "s".to_owned(),
        legs,
    };
    Record {
        subscribers: vec![subscriber],
        as_one: BTreeMap::from([("w".to_owned(), vec!["home".to_owned(), "away".to_owned()])]),
        ..Record::default()
    }
}

//! What happened, as plain data: calls with their beginning and end, what was answered, and what streams told.
//!
//! Moments are time since boot of the machine that everything runs on; where a server tells a time of its own, the wall clock's.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tonic::{Code, Status};

use crate::support::reason;

/// A run.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) begun: Duration,
    pub(super) tokens: Vec<Token>,
    pub(super) judgements: Vec<Judgement>,
    pub(super) revocations: Vec<Revocation>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) faults: Vec<Fault>,
    pub(super) stepped: Vec<Stepped>,
    pub(super) sizes: Vec<Sizes>,
    /// Users of whom every revocation kills the tokens of these spaces, in one change.
    pub(super) as_one: BTreeMap<String, Vec<String>>,
    /// Calls that are no judgements and no revocations.
    pub(super) others: usize,
}

/// When something was asked for, and when its answer was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) begun: Duration,
    pub(super) ended: Duration,
}

/// The place of a token in the record.
pub(super) type TokenNumber = usize;

/// What was given out.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) user: String,
    pub(super) space: String,
    pub(super) issued: Span,
    /// Whether it was dated by a wall clock that stood elsewhere: to the others it is of the future, or of the past.
    pub(super) astray: bool,
    pub(super) form: Form,
}

/// As what.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Jwt {
        id: String,
        session: String,
        /// The place of the log that it was issued after.
        rev: u64,
        roles: Vec<String>,
        api_key: Option<String>,
    },
    ApiKey {
        id: String,
    },
}

/// Whether tokens were taken for good.
#[derive(Debug, Clone)]
pub(super) struct Judgement {
    pub(super) how: How,
    pub(super) replica: String,
    pub(super) span: Span,
    /// The place whose cursor was passed as `min_cursor`; 0 where none was.
    pub(super) bookmark: u64,
    /// Of each token whether it was; or why that was not said.
    pub(super) answer: Result<Vec<(TokenNumber, bool)>, Failure>,
}

/// In which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    Introspected,
    InBatch,
    AsCaller,
    Exchanged,
    Rotated,
}

/// Something that ends tokens was asked for.
#[derive(Debug, Clone)]
pub(super) struct Revocation {
    pub(super) subject: Subject,
    pub(super) replica: String,
    pub(super) span: Span,
    /// What was answered. Where that is a failure it may have been done all the same.
    pub(super) answer: Result<Effect, Failure>,
}

/// What is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Token(String),
    Session(String),
    /// Its JWTs in some spaces, and perhaps its API keys there.
    User {
        id: String,
        spaces: Vec<String>,
        api_keys: bool,
    },
    /// The key, and its JWTs.
    ApiKey(String),
    Role {
        space: String,
        name: String,
    },
}

/// An acknowledged revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effect {
    /// Of its last entry; 0 where it was not known in time.
    pub(super) position: u64,
    pub(super) effective: bool,
    /// When the answer was there, by the wall clock, in microseconds.
    pub(super) acknowledged: i64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: Code,
    /// What the server says; empty where it is not the server that speaks.
    pub(super) reason: String,
    /// What was said where it is not the server that speaks.
    pub(super) instead: String,
}

/// Who watches, each time from where the time before had ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Subscriber {
    pub(super) name: String,
    pub(super) legs: Vec<Leg>,
}

/// One stream.
#[derive(Debug, Clone)]
pub(super) struct Leg {
    pub(super) replica: String,
    pub(super) begun: Duration,
    /// After the cursor of this place; none: from the floor.
    pub(super) after: Option<u64>,
    pub(super) messages: Vec<Told>,
    /// What it ended with, where it was not cut.
    pub(super) failure: Option<Failure>,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// When it had arrived, by the wall clock, in microseconds.
    pub(super) arrived: i64,
    pub(super) position: u64,
    pub(super) what: What,
}

/// What it says.
#[derive(Debug, Clone)]
pub(super) enum What {
    Started,
    Entries(Vec<Entry>),
    CaughtUp,
    /// The log was read then, in microseconds of the wall clock.
    Heartbeat(i64),
    Closing,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) event: String,
    pub(super) kills: bool,
    /// As [`Subject::key`] has it. Shared by entries: there may be millions.
    pub(super) subject: Arc<str>,
    pub(super) space: Arc<str>,
    pub(super) create_time: i64,
}

/// A replica whose wall clock stood elsewhere for a while.
#[derive(Debug, Clone)]
pub(super) struct Stepped {
    pub(super) replica: String,
    pub(super) span: Span,
}

/// How much room the log took in the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) moment: Duration,
    /// Bytes, the dead rows and the indexes included.
    pub(super) inbox: i64,
    pub(super) log: i64,
    /// Entries that nobody asked for, put into the inbox until then.
    pub(super) flood: i64,
}

/// Something that was done to the servers.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: &'static str,
    pub(super) to: String,
    pub(super) span: Span,
}

impl Token {
    /// The keys of all that can end it.
    pub(super) fn keys(&self) -> Vec<String> {
        let user = format!("user {}", self.user);
        match &self.form {
            Form::ApiKey { id } => vec![user, format!("api key {id}")],
            Form::Jwt {
                id,
                session,
                roles,
                api_key,
                ..
            } => [user, format!("token {id}"), format!("session {session}")]
                .into_iter()
                .chain(api_key.iter().map(|id| format!("api key {id}")))
                .chain(roles.iter().map(|role| format!("role {role}")))
                .collect(),
        }
    }
}

impl Subject {
    /// What entries about it are known by; their space is told beside it.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Token(id) => format!("token {id}"),
            Self::Session(id) => format!("session {id}"),
            Self::User { id, .. } => format!("user {id}"),
            Self::ApiKey(id) => format!("api key {id}"),
            Self::Role { name, .. } => format!("role {name}"),
        }
    }

    /// How many entries it takes.
    fn entries(&self) -> u64 {
        match self {
            Self::User { spaces, .. } => spaces.len() as u64,
            Self::Token(_) | Self::Session(_) | Self::ApiKey(_) | Self::Role { .. } => 1,
        }
    }
}

impl Revocation {
    /// Whether it is about `token`, be it older or younger.
    fn concerns(&self, token: &Token) -> bool {
        let is_key = matches!(token.form, Form::ApiKey { .. });
        token.keys().contains(&self.subject.key())
            && match &self.subject {
                Subject::User {
                    spaces, api_keys, ..
                } => spaces.contains(&token.space) && (*api_keys || !is_key),
                Subject::Role { space, .. } => *space == token.space,
                Subject::Token(_) | Subject::Session(_) | Subject::ApiKey(_) => true,
            }
    }

    /// Whether it ends what it is about as such, however young.
    fn ends_as_such(&self, token: &Token) -> bool {
        match &self.subject {
            Subject::Token(_) | Subject::Session(_) => true,
            Subject::ApiKey(_) => matches!(token.form, Form::ApiKey { .. }),
            Subject::User { .. } | Subject::Role { .. } => false,
        }
    }

    /// Whether the place of its first entry, if that is known, is after the one that `token` was issued after.
    fn is_younger_by_place(&self, token: &Token) -> Option<bool> {
        let Form::Jwt { rev, .. } = token.form else {
            return None;
        };
        let last = self.answer.as_ref().ok()?.position;
        (last > 0).then(|| rev + self.subject.entries() <= last)
    }

    /// Whether `token` is dead once this is acknowledged.
    pub(super) fn ends(&self, token: &Token) -> bool {
        self.concerns(token)
            && (self.ends_as_such(token)
                || token.issued.ended <= self.span.begun
                || self.is_younger_by_place(token) == Some(true))
    }

    /// Whether `token` may be dead because of this, acknowledged or not.
    pub(super) fn may_end(&self, token: &Token) -> bool {
        let spares = || {
            let last = self
                .answer
                .as_ref()
                .ok()
                .map_or(0, |effect| effect.position);
            matches!(token.form, Form::Jwt { rev, .. } if last > 0 && rev >= last)
        };
        self.concerns(token) && (self.ends_as_such(token) || !spares())
    }
}

impl Record {
    /// Whether the wall clock of a replica stood elsewhere at some time in a span.
    pub(super) fn is_stepped(&self, replica: &str, span: Span) -> bool {
        self.stepped.iter().any(|stepped| {
            stepped.replica == replica
                && stepped.span.begun <= span.ended
                && span.begun <= stepped.span.ended
        })
    }
}

impl Subscriber {
    /// Every message, in the order of the legs.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Told> {
        self.legs.iter().flat_map(|leg| &leg.messages)
    }

    /// Every entry, in the order of the legs.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.messages().flat_map(Told::entries)
    }
}

impl Told {
    /// The entries in it.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.what {
            What::Entries(entries) => entries,
            What::Started | What::CaughtUp | What::Heartbeat(_) | What::Closing => &[],
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let reason = reason(&status);
        let instead = if reason.is_empty() {
            innermost(&status)
        } else {
            String::new()
        };
        Self {
            code: status.code(),
            reason,
            instead,
        }
    }
}

/// What a failure began with, as far as it is told.
fn innermost(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if std::ptr::addr_eq(cause, status) {
        status.message().to_owned()
    } else {
        cause.to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.reason {
            "" => write!(
                f,
                "{:?} (no word from the server: {})",
                self.code, self.instead
            ),
            reason => write!(f, "{:?} ({reason})", self.code),
        }
    }
}

//! The life of a signing key: PREPARED → ACTIVE → RETIRING → RETIRED, and REVOKED out of any of the first three.
//!
//! A key is published before it signs, so that no verifier meets a token whose key it has not fetched yet, and stays published
//! until its last token has expired.

use std::time::Duration;

use super::{
    ids::SigningKeyId,
    jwt::{Algorithm, MAX_LIFETIME},
};
use crate::{
    clock::Timestamp,
    error::{Error, Reason, Result},
};

/// How long verifiers may keep the key set.
pub const MAX_AGE: Duration = Duration::from_mins(5);

/// The most keys that are prepared at a time: each of them makes the published set larger.
pub const MAX_PREPARED: usize = 16;

/// How far ahead or behind a verifier's clock may be.
const LEEWAY: Duration = Duration::from_secs(30);

/// For what a signer had begun, and for verifiers that are slower than they should be.
const MARGIN: Duration = Duration::from_hours(1);

/// How long a key that no longer signs stays published: as long as its last token lives, and as verifiers may look back for it.
const STAYS_PUBLISHED: Duration = MAX_LIFETIME
    .saturating_add(LEEWAY)
    .saturating_add(MAX_AGE)
    .saturating_add(MARGIN);

/// How long a key is published before it may sign: the larger of twice the `max_age` of key sets and 10 minutes.
pub const fn notice(max_age: Duration) -> Duration {
    const SHORTEST: Duration = Duration::from_mins(10);
    let twice = max_age.saturating_mul(2);
    if twice.as_nanos() > SHORTEST.as_nanos() {
        twice
    } else {
        SHORTEST
    }
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Published, not signing.
    Prepared,
    /// Signing.
    Active,
    /// Published for the tokens it signed.
    Retiring,
    /// No longer published; its tokens have expired.
    Retired,
    /// Withdrawn; its tokens are dead.
    Revoked,
}

impl State {
    /// As people read it, and as the database has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }

    /// The state of exactly this name.
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Prepared,
            Self::Active,
            Self::Retiring,
            Self::Retired,
            Self::Revoked,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
    }

    /// Whether tokens of such a key are accepted, and its public half is published.
    pub fn is_published(self) -> bool {
        match self {
            Self::Prepared | Self::Active | Self::Retiring => true,
            Self::Retired | Self::Revoked => false,
        }
    }

    /// Whether such a key signs, or may come to.
    pub fn may_sign(self) -> bool {
        match self {
            Self::Prepared | Self::Active => true,
            Self::Retiring | Self::Retired | Self::Revoked => false,
        }
    }
}

/// Where a key stands, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Where it stands.
    pub state: State,
    /// When it was made and published.
    pub prepare_time: Timestamp,
    /// When it began to sign.
    pub activate_time: Option<Timestamp>,
    /// When it stopped signing.
    pub retire_time: Option<Timestamp>,
    /// When it leaves the published set.
    pub remove_time: Option<Timestamp>,
}

/// A signing key without its private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyDescription {
    /// The `kid`.
    pub id: SigningKeyId,
    /// How it signs.
    pub algorithm: Algorithm,
    /// Where it stands.
    pub life: Life,
}

impl Life {
    /// A new key is published at once.
    pub fn prepared(now: Timestamp) -> Self {
        Self {
            state: State::Prepared,
            prepare_time: now,
            activate_time: None,
            retire_time: None,
            remove_time: None,
        }
    }

    /// From when on a prepared key may sign without force: every verifier has fetched it by then.
    pub fn ready_time(&self) -> Timestamp {
        self.prepare_time + notice(MAX_AGE)
    }

    /// PREPARED → ACTIVE. `FAILED_PRECONDITION/SIGNING_KEY_STATE` where it is not prepared, or has not been public for long
    /// enough and is not forced.
    pub fn activate(self, now: Timestamp, force: bool) -> Result<Self> {
        match self.state {
            State::Prepared => {}
            State::Active | State::Retiring | State::Retired | State::Revoked => {
                return Err(self.not("prepared"));
            }
        }
        if now < self.ready_time() && !force {
            let left = self.ready_time().since(now);
            let message = format!(
                "verifiers may not know the key yet: it can sign in {} seconds, or by force",
                left.as_secs() + 1
            );
            return Err(Error::new(Reason::SigningKeyState, message).retry_after(left));
        }
        Ok(Self {
            state: State::Active,
            activate_time: Some(now),
            ..self
        })
    }

    /// ACTIVE → RETIRING: it signs no more, and stays published for what it signed.
    pub fn retire(self, now: Timestamp) -> Result<Self> {
        match self.state {
            State::Active => Ok(Self {
                state: State::Retiring,
                retire_time: Some(now),
                remove_time: Some(now + STAYS_PUBLISHED),
                ..self
            }),
            State::Prepared | State::Retiring | State::Retired | State::Revoked => {
                Err(self.not("active"))
            }
        }
    }

    /// RETIRING → RETIRED, once no token of it can be alive anywhere.
    pub fn remove(self, now: Timestamp) -> Result<Self> {
        if self.is_over(now) {
            return Ok(Self {
                state: State::Retired,
                ..self
            });
        }
        Err(self.not("retiring and past its last token"))
    }

    /// PREPARED, ACTIVE or RETIRING → REVOKED: it leaves the published set at once.
    pub fn revoke(self, now: Timestamp) -> Result<Self> {
        let retire_time = match self.state {
            State::Prepared | State::Retiring => self.retire_time,
            State::Active => Some(now),
            State::Retired | State::Revoked => return Err(self.not("published")),
        };
        Ok(Self {
            state: State::Revoked,
            retire_time,
            remove_time: Some(now),
            ..self
        })
    }

    /// Whether it has been signing for as long as a key is to.
    pub fn is_due(&self, now: Timestamp, period: Duration) -> bool {
        self.state == State::Active
            && self
                .activate_time
                .is_some_and(|since| now >= since + period)
    }

    /// Whether it stays published for nothing.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.state == State::Retiring && self.remove_time.is_some_and(|until| now >= until)
    }

    fn not(&self, wanted: &str) -> Error {
        let message = format!("the signing key is {}, not {wanted}", self.state.as_str());
        Error::new(Reason::SigningKeyState, message).with("state", self.state.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Timestamp = Timestamp::from_seconds(1_000_000);

    /// A key in each state, each step taken when it was due.
    fn in_state(state: State) -> Life {
        let prepared = Life::prepared(BEGIN);
        let active = || prepared.activate(prepared.ready_time(), false).unwrap();
        let retiring = || active().retire(BEGIN + Duration::from_hours(720)).unwrap();
        match state {
            State::Prepared => prepared,
            State::Active => active(),
            State::Retiring => retiring(),
            State::Retired => retiring().remove(retiring().remove_time.unwrap()).unwrap(),
            State::Revoked => active().revoke(BEGIN + Duration::from_hours(1)).unwrap(),
        }
    }

    const STATES: [State; 5] = [
        State::Prepared,
        State::Active,
        State::Retiring,
        State::Retired,
        State::Revoked,
    ];

    #[test]
    fn every_step_leads_from_where_it_may_and_from_nowhere_else() {
        type Step = fn(Life, Timestamp) -> Result<Life>;
        let later = BEGIN + Duration::from_hours(10_000);
        let steps: [(Step, State, &[State]); 4] = [
            (
                |life, now| life.activate(now, false),
                State::Active,
                &[State::Prepared],
            ),
            (Life::retire, State::Retiring, &[State::Active]),
            (Life::remove, State::Retired, &[State::Retiring]),
            (
                Life::revoke,
                State::Revoked,
                &[State::Prepared, State::Active, State::Retiring],
            ),
        ];
        for (step, to, from) in steps {
            for state in STATES {
                let taken = step(in_state(state), later);
                if from.contains(&state) {
                    assert_eq!(taken.unwrap().state, to, "from {state:?}");
                } else {
                    let refusal = taken.unwrap_err();
                    assert_eq!(refusal.reason(), Reason::SigningKeyState, "{refusal}");
                }
            }
        }
    }

    #[test]
    fn a_key_signs_once_every_verifier_has_fetched_it_or_by_force() {
        let prepared = Life::prepared(BEGIN);
        let early = BEGIN + Duration::from_mins(10) - Duration::from_micros(1);
        let refusal = prepared.activate(early, false).unwrap_err();
        assert_eq!(refusal.retry_delay(), Some(Duration::from_micros(1)));
        assert_eq!(
            prepared.activate(early, true).unwrap().activate_time,
            Some(early)
        );
        prepared
            .activate(BEGIN + Duration::from_mins(10), false)
            .unwrap();
        // A clock that was set back: not before it has caught up.
        assert!(
            prepared
                .activate(BEGIN - Duration::from_hours(1), false)
                .is_err()
        );
        for (max_age, least) in [(0, 10), (5, 10), (6, 12), (60, 120)] {
            assert_eq!(
                notice(Duration::from_mins(max_age)),
                Duration::from_mins(least)
            );
        }
    }

    #[test]
    fn a_key_that_signs_no_more_is_published_until_its_last_token_has_expired() {
        let retiring = in_state(State::Retiring);
        let last_expiry = retiring.retire_time.unwrap() + Duration::from_hours(24);
        let leeway_and_cache = Duration::from_secs(30) + Duration::from_mins(5);
        let until = last_expiry + leeway_and_cache + Duration::from_hours(1);
        assert_eq!(retiring.remove_time, Some(until));
        assert!(retiring.remove(until - Duration::from_micros(1)).is_err());
        assert_eq!(retiring.remove(until).unwrap().state, State::Retired);
        // Without a time, as somebody may have left it in the database, it stays.
        let endless = Life {
            remove_time: None,
            ..retiring
        };
        assert!(!endless.is_over(until + Duration::from_hours(10_000)));
    }

    #[test]
    fn a_key_is_due_when_it_has_signed_for_its_period() {
        let period = Duration::from_hours(720);
        let active = in_state(State::Active);
        let due = active.activate_time.unwrap() + period;
        assert!(!active.is_due(due - Duration::from_micros(1), period));
        assert!(active.is_due(due, period));
        for state in STATES.into_iter().filter(|state| *state != State::Active) {
            assert!(!in_state(state).is_due(due + period, period), "{state:?}");
        }
    }

    #[test]
    fn a_revoked_key_leaves_the_set_at_once() {
        let now = BEGIN + Duration::from_hours(10_000);
        for (state, stopped) in [
            (State::Prepared, None),
            (State::Active, Some(now)),
            (State::Retiring, in_state(State::Retiring).retire_time),
        ] {
            let revoked = in_state(state).revoke(now).unwrap();
            assert_eq!(revoked.remove_time, Some(now));
            assert_eq!(revoked.retire_time, stopped, "{state:?}");
            assert!(!revoked.state.is_published());
        }
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in STATES {
            assert_eq!(State::parse(state.as_str()), Some(state));
            assert!(state.is_published() || !state.may_sign());
        }
        assert_eq!(State::parse("Active"), None);
    }
}

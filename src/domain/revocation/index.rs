//! Many entries, asked in the time of a few look-ups.

use std::collections::HashMap;

use aws_lc_rs::digest;

use super::{Entry, Kind, Position, Subject, by_role::ByRole};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{ApiKeyId, SpaceId, UserId},
        jwt::AccessToken,
    },
};

/// What is dead as such, by kind, id and space: 128 bits of their SHA-256, so that a million of them stay small.
type Target = [u8; 16];

/// What of a token can be named by entries that kill "as such". Computed once for each token.
#[derive(Debug, Clone)]
pub struct Targets([Target; 6]);

impl Targets {
    /// The token, its session and its signing key, each in the token's space and in every space.
    pub fn of(token: &AccessToken) -> Self {
        let space = Some(&token.space_id);
        Self([
            target(b't', token.token_id.as_str(), space),
            target(b't', token.token_id.as_str(), None),
            target(b's', token.session_id.as_str(), space),
            target(b's', token.session_id.as_str(), None),
            target(b'k', token.signing_key_id.as_str(), space),
            target(b'k', token.signing_key_id.as_str(), None),
        ])
    }
}

impl Targets {
    /// The same but for the token itself: whether it would be good had it not been rotated.
    #[must_use]
    pub fn without_token(&self) -> Self {
        let [_, _, rest @ ..] = self.0;
        let [session, session_anywhere, key, key_anywhere] = rest;
        Self([
            session,
            session_anywhere,
            session,
            session_anywhere,
            key,
            key_anywhere,
        ])
    }
}

fn target(kind: u8, id: &str, space: Option<&SpaceId>) -> Target {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[kind]);
    context.update(space.map_or("", SpaceId::as_str).as_bytes());
    context.update(&[0]);
    context.update(id.as_bytes());
    let mut target = [0; 16];
    target.copy_from_slice(&context.finish().as_ref()[..16]);
    target
}

/// Until when it must be remembered that something is dead as such: whole seconds since 1970, rounded up. A million of these and
/// of their targets are as small as they can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct KeptUntil(u32);

impl KeptUntil {
    fn at_least(time: Timestamp) -> Self {
        let seconds = time.seconds() + i64::from(time > time.to_the_second());
        Self(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
    }
}

/// A cutoff: what was issued before a place in the log is dead.
#[derive(Debug, Clone)]
struct Cutoff {
    position: Position,
    space_id: Option<SpaceId>,
    sessions_until: Option<Timestamp>,
    effective_time: Option<Timestamp>,
    forget_time: Timestamp,
}

impl Cutoff {
    fn kills(&self, token: &AccessToken, now: Timestamp) -> bool {
        token.rev < self.position.0
            && self.effective_time.is_none_or(|from| from <= now)
            && self
                .space_id
                .as_ref()
                .is_none_or(|space| *space == token.space_id)
            && self
                .sessions_until
                .is_none_or(|until| token.auth_time <= until)
    }

    /// Whether everything that `earlier` kills this one kills as well, now and as long as `earlier` would have.
    fn covers(&self, earlier: &Self) -> bool {
        self.effective_time.is_none()
            && self.sessions_until.is_none()
            && (self.space_id.is_none() || self.space_id == earlier.space_id)
            && self.position >= earlier.position
            && self.forget_time >= earlier.forget_time
    }
}

type Cutoffs<K> = HashMap<K, Vec<Cutoff>>;

/// Everything in the log that kills, as of the last entry applied.
#[derive(Debug, Default)]
pub struct Revocations {
    dead: HashMap<Target, KeptUntil>,
    /// Those of the dead that live until a moment yet: few.
    dying: HashMap<Target, Timestamp>,
    users: Cutoffs<UserId>,
    api_keys: Cutoffs<ApiKeyId>,
    roles: ByRole<Vec<Cutoff>>,
    spaces: Cutoffs<SpaceId>,
    everything: Vec<Cutoff>,
}

impl Revocations {
    /// Takes in one more entry, in the order of the log.
    pub fn apply(&mut self, entry: &Entry) {
        let decision = &entry.decision;
        match decision.kind {
            Kind::Change => return,
            Kind::Revocation => {}
        }
        let space = decision.space_id.as_ref();
        match &decision.subject {
            Subject::Token(id) => self.kill(target(b't', id.as_str(), space), entry),
            Subject::Session(id) => self.kill(target(b's', id.as_str(), space), entry),
            Subject::SigningKey(id) => self.kill(target(b'k', id.as_str(), space), entry),
            Subject::User(id) => cut(self.users.entry(id.clone()).or_default(), entry),
            Subject::ApiKey(id) => cut(self.api_keys.entry(id.clone()).or_default(), entry),
            Subject::Role(name) => cut(self.roles.entry(name, space).or_default(), entry),
            Subject::Space(id) => cut(self.spaces.entry(id.clone()).or_default(), entry),
            Subject::Everything | Subject::Unknown => cut(&mut self.everything, entry),
        }
    }

    /// Whether any entry kills `token` at `now`; `targets` are the token's own.
    pub fn kills(&self, token: &AccessToken, targets: &Targets, now: Timestamp) -> bool {
        let as_such = |target| {
            self.dead.contains_key(target) && self.dying.get(target).is_none_or(|from| *from <= now)
        };
        targets.0.iter().any(as_such) || self.cuts(token, now)
    }

    fn cuts(&self, token: &AccessToken, now: Timestamp) -> bool {
        let api_key = token
            .api_key_id
            .as_ref()
            .and_then(|id| self.api_keys.get(id));
        let of_roles = token
            .roles
            .iter()
            .flat_map(|name| self.roles.of(name, &token.space_id))
            .flatten();
        self.users
            .get(&token.subject)
            .into_iter()
            .chain(api_key)
            .chain(self.spaces.get(&token.space_id))
            .flatten()
            .chain(of_roles)
            .chain(&self.everything)
            .any(|cutoff| cutoff.kills(token, now))
    }

    /// Lets go of what can kill nothing any more.
    pub fn forget(&mut self, now: Timestamp) {
        let seconds = now.seconds();
        self.dead.retain(|_, until| i64::from(until.0) > seconds);
        self.dying
            .retain(|target, _| self.dead.contains_key(target));
        forget(&mut self.users, now);
        forget(&mut self.api_keys, now);
        self.roles.retain(|cutoffs| forget_some(cutoffs, now));
        forget(&mut self.spaces, now);
        self.everything.retain(|cutoff| cutoff.forget_time > now);
    }

    fn kill(&mut self, target: Target, entry: &Entry) {
        let until = KeptUntil::at_least(entry.forget_time);
        let known = self.dead.insert(target, until);
        if let Some(known) = known.filter(|known| *known > until) {
            self.dead.insert(target, known);
        }
        match entry.decision.effective_time {
            None => drop(self.dying.remove(&target)),
            // Whoever was dead already stays so.
            Some(from) if known.is_none() => drop(self.dying.insert(target, from)),
            Some(from) => {
                let earlier = |known: &mut Timestamp| *known = from.min(*known);
                self.dying.entry(target).and_modify(earlier);
            }
        }
    }
}

fn cut(cutoffs: &mut Vec<Cutoff>, entry: &Entry) {
    let cutoff = Cutoff {
        position: entry.position,
        space_id: entry.decision.space_id.clone(),
        sessions_until: entry.decision.sessions_until,
        effective_time: entry.decision.effective_time,
        forget_time: entry.forget_time,
    };
    cutoffs.retain(|earlier| !cutoff.covers(earlier));
    cutoffs.push(cutoff);
}

fn forget<K>(cutoffs: &mut Cutoffs<K>, now: Timestamp) {
    cutoffs.retain(|_, cutoffs| forget_some(cutoffs, now));
}

/// Whether any is left.
fn forget_some(cutoffs: &mut Vec<Cutoff>, now: Timestamp) -> bool {
    cutoffs.retain(|cutoff| cutoff.forget_time > now);
    !cutoffs.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        ids::{EventId, RoleName, SessionId, SigningKeyId, SpaceSlug, TokenId, Username},
        permission::PermissionSet,
        revocation::{Decision, Reason},
    };

    const FAR: Timestamp = Timestamp::from_seconds(1_000_000);

    fn token(name: u8, space: u8, rev: u64, auth_time: i64, by_key: bool) -> AccessToken {
        let auth_time = Timestamp::from_seconds(auth_time);
        AccessToken {
            issuer: "i".into(),
            subject: UserId::known(format!("u{name}")),
            audiences: Vec::new(),
            expire_time: FAR,
            issue_time: auth_time,
            not_before: auth_time,
            token_id: TokenId::known(format!("t{name}")),
            client_id: "password".to_owned(),
            scopes: PermissionSet::default(),
            space_id: SpaceId::known(format!("s{space}")),
            space_slug: SpaceSlug::known("s"),
            username: Username::known("u"),
            email: None,
            roles: vec![RoleName::known(format!("r{name}"))],
            api_key_id: by_key.then(|| ApiKeyId::known(format!("k{name}"))),
            narrowed: false,
            session_id: SessionId::known(format!("d{name}")),
            auth_time,
            rev,
            signing_key_id: SigningKeyId::known(format!("g{name}")),
        }
    }

    fn subject(kind: u8, name: u8) -> Subject {
        match kind {
            0 => Subject::Token(TokenId::known(format!("t{name}"))),
            1 => Subject::Session(SessionId::known(format!("d{name}"))),
            2 => Subject::User(UserId::known(format!("u{name}"))),
            3 => Subject::ApiKey(ApiKeyId::known(format!("k{name}"))),
            4 => Subject::Role(RoleName::known(format!("r{name}"))),
            5 => Subject::Space(SpaceId::known(format!("s{name}"))),
            6 => Subject::SigningKey(SigningKeyId::known(format!("g{name}"))),
            7 => Subject::Everything,
            _ => Subject::Unknown,
        }
    }

    prop_compose! {
        fn decision()(
            (kind, name) in (0_u8..9, 0_u8..3),
            change in prop::bool::weighted(0.1),
            space in prop::option::of(0_u8..2),
            until in prop::option::weighted(0.3, 0_i64..10),
            from in prop::option::weighted(0.3, 0_i64..10),
        ) -> Decision {
            Decision {
                kind: if change { Kind::Change } else { Kind::Revocation },
                subject: subject(kind, name),
                space_id: space.map(|space| SpaceId::known(format!("s{space}"))),
                sessions_until: until.map(Timestamp::from_seconds),
                effective_time: from.map(Timestamp::from_seconds),
                reason: Reason::Unspecified,
            }
        }
    }

    proptest! {
        #[test]
        fn the_index_kills_exactly_what_some_entry_kills(
            decisions in prop::collection::vec(decision(), 0..12),
            (name, space, rev, auth) in (0_u8..3, 0_u8..2, 0_u64..14, 0_i64..10),
            by_key: bool,
            now in 0_i64..12,
        ) {
            let entries: Vec<Entry> = decisions
                .into_iter()
                .zip(1..)
                .map(|(decision, position)| Entry {
                    event_id: EventId::known("e"),
                    position: Position(position),
                    decision,
                    create_time: Timestamp::default(),
                    forget_time: FAR,
                })
                .collect();
            let mut index = Revocations::default();
            for entry in &entries {
                index.apply(entry);
            }
            index.forget(Timestamp::from_seconds(now));

            let token = token(name, space, rev, auth, by_key);
            let now = Timestamp::from_seconds(now);
            let killed = entries.iter().any(|entry| entry.kills(&token, now));
            prop_assert_eq!(index.kills(&token, &Targets::of(&token), now), killed);
        }
    }
}

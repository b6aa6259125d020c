//! Slows down who guesses: attempts are counted by name, whether or not somebody bears it, and by network, in the database.
//!
//! A few attempts at a time write down what they count: however many sign in, revocations find the database free.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ipnet::IpNet;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    authority::{Authority, Call, sign_in::hashing::overloaded},
    clock::Timestamp,
    domain::{
        ids::Username,
        throttle::{Kind, Outcome, Tally, WINDOW},
    },
    error::{Error, Reason, Result},
    storage::{Transaction, sign_in_failures},
};

/// How many attempts write at a time.
const WRITERS: usize = 4;
/// How long an attempt waits for its turn to write.
const PATIENCE: Duration = Duration::from_secs(2);

/// What subjects are counted under.
#[derive(Debug)]
pub struct Throttle {
    key: hmac::Key,
    trusted: Vec<IpNet>,
    turns: Semaphore,
}

/// An attempt that was booked.
#[derive(Debug)]
pub struct Attempt<'a> {
    authority: &'a Authority,
    subjects: Subjects,
}

/// Under what an attempt is counted, always in the same order, in which the rows are locked.
type Subjects = Vec<(Kind, String)>;

impl Throttle {
    /// `key` is for this purpose alone. Networks that are `trusted` are not counted: whoever signs in from there, does so for
    /// many others.
    pub fn new(key: &[u8], trusted: Vec<IpNet>) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            trusted,
            turns: Semaphore::new(WRITERS),
        }
    }

    fn subjects(&self, username: &str, call: &Call) -> Subjects {
        let mut subjects = vec![self.name(username)];
        if let Some(network) = call
            .client_address
            .parse()
            .ok()
            .and_then(|it| self.network(it))
        {
            subjects.insert(0, network);
        }
        subjects
    }

    /// A name in its one spelling, or whatever else was given in place of one.
    fn name(&self, username: &str) -> (Kind, String) {
        let parsed = Username::parse(username, "username");
        let name = parsed.as_ref().map_or(username, Username::as_str);
        (Kind::Name, self.subject("name", name))
    }

    /// An IPv4 address, or the /64 of an IPv6 address: whoever has one of it has all of it. None where it is trusted.
    fn network(&self, address: IpAddr) -> Option<(Kind, String)> {
        if self
            .trusted
            .iter()
            .any(|network| network.contains(&address))
        {
            return None;
        }
        let network = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        };
        Some((Kind::Network, self.subject("network", &network.to_string())))
    }

    fn subject(&self, kind: &str, value: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{kind}/{value}").as_bytes());
        URL_SAFE_NO_PAD.encode(tag)
    }
}

/// Books an attempt. `RESOURCE_EXHAUSTED/SIGN_IN_THROTTLED` where the name or the network has to wait.
pub async fn begin<'a>(
    authority: &'a Authority,
    username: &str,
    call: &Call,
) -> Result<Attempt<'a>> {
    let subjects = authority.throttle.subjects(username, call);
    refuse_early(authority, &subjects, authority.clock.now()).await?;
    let turn = timeout(PATIENCE, authority.throttle.turns.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(overloaded());
    };
    let transaction = authority.db.begin().await?;
    let mut known = Vec::with_capacity(subjects.len());
    for (_, subject) in &subjects {
        known.push(sign_in_failures::lock(&transaction, subject).await?);
    }
    // Read only now: who came later may have had the row first.
    let booked = booked(&subjects, &known, authority.clock.now())?;
    for ((_, subject), tally) in subjects.iter().zip(&booked) {
        sign_in_failures::put(&transaction, subject, tally).await?;
    }
    transaction.commit().await?;
    Ok(Attempt {
        authority,
        subjects,
    })
}

/// Who has to wait is told so without a write: a flood must not keep the database busy.
async fn refuse_early(authority: &Authority, subjects: &Subjects, now: Timestamp) -> Result<()> {
    let wanted: Vec<String> = subjects
        .iter()
        .map(|(_, subject)| subject.clone())
        .collect();
    let found = sign_in_failures::find(authority.db.reader(), &wanted).await?;
    let known = |wanted| {
        let found = found.iter().find(|(subject, _)| subject == wanted);
        found.map_or_else(Tally::default, |(_, tally)| *tally)
    };
    let known: Vec<Tally> = wanted.iter().map(known).collect();
    booked(subjects, &known, now).map(drop)
}

/// What is counted once the attempt is booked. Who has to wait for one of them waits for all.
fn booked(subjects: &Subjects, known: &[Tally], now: Timestamp) -> Result<Vec<Tally>> {
    let mut tallies = Vec::with_capacity(known.len());
    let mut wait = Duration::ZERO;
    for ((kind, _), tally) in subjects.iter().zip(known) {
        match tally.booked(*kind, now) {
            Ok(booked) => tallies.push(booked),
            Err(longer) => wait = wait.max(longer),
        }
    }
    if wait.is_zero() {
        Ok(tallies)
    } else {
        Err(throttled(wait))
    }
}

impl Attempt<'_> {
    /// Writes down what came of it. Where that fails it stays booked, as a failure: the safe side.
    pub async fn settle(self, outcome: Outcome) {
        if let Err(error) = self.try_settle(outcome).await {
            tracing::warn!(error = ?error, "sign_in.not_settled");
        }
    }

    async fn try_settle(&self, outcome: Outcome) -> Result<()> {
        let turns = &self.authority.throttle.turns;
        let Ok(_turn) = timeout(PATIENCE, turns.acquire()).await else {
            return Err(overloaded());
        };
        let transaction = self.authority.db.begin().await?;
        for (kind, subject) in &self.subjects {
            let known = sign_in_failures::lock(&transaction, subject).await?;
            let settled = known.settled(*kind, outcome, self.authority.clock.now());
            sign_in_failures::put(&transaction, subject, &settled).await?;
        }
        transaction.commit().await
    }
}

/// Forgets the failures under a name: whoever sets its password knows whose it is.
pub async fn lift(
    authority: &Authority,
    transaction: &Transaction,
    username: &Username,
) -> Result<()> {
    let (_, subject) = authority.throttle.name(username.as_str());
    sign_in_failures::clear(transaction, &subject).await
}

/// Forgets counts that are over, up to `limit` of them; says how many.
pub async fn forget(transaction: &Transaction, now: Timestamp, limit: u32) -> Result<u64> {
    sign_in_failures::forget(transaction, now - WINDOW, limit).await
}

fn throttled(wait: Duration) -> Error {
    Error::new(
        Reason::SignInThrottled,
        "too many sign-ins failed for this name or from this network",
    )
    .retry_after(wait)
}

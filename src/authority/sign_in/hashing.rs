//! Hashing passwords with argon2id (RFC 9106), exactly once an attempt and never more at a time than there are cores.
//!
//! Who waits, waits in a bounded queue and not for long (2 s, unless the settings say otherwise). Who would not get its turn
//! by then, as long as hashes take now, is turned away at the door: to be told so costs neither it nor us anything. A hash
//! that has begun is finished even if nobody waits for it any more: its permit goes with it to its thread, so that clients
//! which go away cannot pile up work. Memory is got once for each that may run at a time, and used again: an allocator that is
//! asked for so much over and over keeps many times of it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::{
        self,
        phc::{Output, ParamsString, Salt},
    },
};
use metrics::{Counter, Gauge};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time,
};

use super::threads::Threads;
use crate::{
    domain::password::Password,
    error::{Error, Reason, Result},
    random,
    telemetry::metrics as names,
};

/// How long an attempt for which there was no turn should stay away.
const STAY_AWAY: Duration = Duration::from_secs(2);

/// What a new hash costs at least, and what a stored one may cost at most: it comes from the database, and must not be able to
/// take all memory.
const FLOOR: (u32, u32, u32) = (19_456, 2, 1);
const CAP: (u32, u32, u32) = (256 * 1024, 10, 4);

/// What a hash costs, and how many are made at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashingSettings {
    /// Memory in KiB, 19456 to 262144.
    pub memory_kib: u32,
    /// Passes over the memory, 2 to 10.
    pub iterations: u32,
    /// Lanes, 1 to 4.
    pub parallelism: u32,
    /// How many hashes are made at a time.
    pub concurrent: usize,
    /// How many attempts may wait for their turn.
    pub queue: usize,
    /// For how long.
    pub max_wait: Duration,
}

impl Default for HashingSettings {
    fn default() -> Self {
        let (memory_kib, iterations, parallelism) = FLOOR;
        Self {
            memory_kib,
            iterations,
            parallelism,
            concurrent: thread::available_parallelism().map_or(1, Into::into),
            queue: 256,
            max_wait: Duration::from_secs(2),
        }
    }
}

/// What came of comparing a password with a stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is the right one.
    pub matches: bool,
    /// Whether the stored hash is weaker than new ones are, and should be made anew.
    pub needs_rehash: bool,
}

/// Makes and compares hashes. Cheap to clone; clones share their limits.
#[derive(Debug, Clone)]
pub struct Hashing {
    params: Params,
    threads: Threads,
    concurrent: usize,
    turns: Arc<Semaphore>,
    capacity: usize,
    places: Arc<Semaphore>,
    max_wait: Duration,
    hash_time: Arc<HashTime>,
    count: Arc<AtomicU64>,
    counted: Counter,
    waiting: Gauge,
    spare: Arc<Mutex<Vec<Memory>>>,
}

/// What argon2 works in.
type Memory = Vec<Block>;

/// A place among those who hash or wait for their turn, until dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Hashing {
    /// `INTERNAL` where the settings are below the floor or above the cap.
    pub fn new(settings: &HashingSettings) -> Result<Self> {
        let HashingSettings {
            memory_kib,
            iterations,
            parallelism,
            concurrent,
            queue,
            max_wait,
        } = *settings;
        let wanted = (memory_kib, iterations, parallelism);
        if !at_least(wanted, FLOOR) || !at_least(CAP, wanted) || concurrent == 0 {
            return Err(Error::internal(
                "password hashing takes 19456 to 262144 KiB, 2 to 10 iterations, 1 to 4 lanes, and at least one at a time",
            ));
        }
        let params = Params::new(memory_kib, iterations, parallelism, None)
            .map_err(|error| Error::internal("argon2 refuses its settings").because(error))?;
        let places = concurrent.saturating_add(queue).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            params,
            threads: Threads::start(concurrent.min(places))?,
            concurrent,
            turns: Arc::new(Semaphore::new(concurrent.min(places))),
            capacity: places,
            places: Arc::new(Semaphore::new(places)),
            max_wait,
            hash_time: Arc::default(),
            count: Arc::default(),
            counted: metrics::counter!(names::HASHES),
            waiting: metrics::gauge!(names::HASHING_QUEUE),
            spare: Arc::default(),
        })
    }

    /// A place, before any other work is done for who wants it. `OVERLOADED` at once where none is left, or where those before
    /// it would take more than half of the time that it may wait: should they take longer than the last ones did, it still
    /// has its turn.
    pub fn enter(&self) -> Result<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let place = Place {
            _permit: permit.map_err(|_| overloaded())?,
        };
        let taken = self.capacity - self.places.available_permits();
        let rounds = taken.saturating_sub(1) / self.concurrent;
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        if self.hash_time.lately().saturating_mul(rounds) > self.max_wait / 2 {
            return Err(overloaded());
        }
        Ok(place)
    }

    /// Compares a password with a stored hash. Where there is none, or none that can be read, a hash of today's cost is made
    /// all the same, so that this is not seen from outside. `OVERLOADED` where its turn does not come in time.
    pub async fn verify(
        &self,
        place: Place,
        password: &Password,
        stored: Option<&str>,
    ) -> Result<Verdict> {
        let password = password.clone();
        let Some(stored) = stored.and_then(readable) else {
            let params = self.params.clone();
            self.run_in_memory(place, move |memory| dummy(params, &password, memory))
                .await?;
            return Ok(Verdict {
                matches: false,
                needs_rehash: false,
            });
        };
        let needs_rehash = !at_least(cost(&stored)?, self.cost());
        let matches = self
            .run_in_memory(place, move |memory| compare(&password, &stored, memory))
            .await?;
        Ok(Verdict {
            matches,
            needs_rehash,
        })
    }

    /// Hashes a password under a new salt: a PHC string, to be stored. `OVERLOADED` where its turn does not come in time.
    pub async fn hash(&self, password: &Password) -> Result<String> {
        let (password, params) = (password.clone(), self.params.clone());
        let salt = random::bytes::<16>()?;
        self.run_in_memory(self.enter()?, move |memory| {
            make(params, &password, &salt, memory)
        })
        .await
    }

    /// How many hashes were made so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn cost(&self) -> (u32, u32, u32) {
        cost_of(&self.params)
    }

    /// Runs one hash in memory that is kept for the next one.
    async fn run_in_memory<T: Send + 'static>(
        &self,
        place: Place,
        hash: impl FnOnce(&mut Memory) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let spare = Arc::clone(&self.spare);
        self.run(place, move || {
            let lock = || spare.lock().unwrap_or_else(PoisonError::into_inner);
            let mut memory = lock().pop().unwrap_or_default();
            let hashed = hash(&mut memory);
            // It is not wiped, which would cost a tenth of the hash: what the last pass leaves can be compared with a guess only
            // by whoever has done all of the pass before it, and is little nearer to the password than the stored hash.
            lock().push(memory);
            hashed
        })
        .await
    }

    /// Runs one hash on a thread for hashing when its turn has come.
    async fn run<T: Send + 'static>(
        &self,
        place: Place,
        hash: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        let waiting = Waiting::begin(&self.waiting);
        let Ok(Ok(turn)) = time::timeout(self.max_wait, turn).await else {
            return Err(overloaded());
        };
        drop(waiting);
        let (count, counted) = (Arc::clone(&self.count), self.counted.clone());
        let hash_time = Arc::clone(&self.hash_time);
        let (answer, answered) = oneshot::channel();
        self.threads.run(move || {
            let until_done = (place, turn);
            count.fetch_add(1, Ordering::Relaxed);
            counted.increment(1);
            let begun = Instant::now();
            let hashed = hash();
            hash_time.note(begun.elapsed());
            drop(until_done);
            let _nobody_waits = answer.send(hashed);
        });
        answered
            .await
            .map_err(|error| Error::internal("hashing a password did not end").because(error))?
    }
}

/// How long a hash takes while others are made beside it, in nanoseconds; 0 before the first. Each counts for an eighth.
#[derive(Debug, Default)]
struct HashTime(AtomicU64);

impl HashTime {
    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let known = self.0.load(Ordering::Relaxed);
        let now = if known == 0 {
            took
        } else {
            known - known / 8 + took / 8
        };
        // Of two that end together one may not count.
        self.0.store(now, Ordering::Relaxed);
    }

    fn lately(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// One that waits for its turn, until dropped: whoever is told to return, or goes away, waits no more.
struct Waiting<'a>(&'a Gauge);

impl<'a> Waiting<'a> {
    fn begin(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

pub(super) fn overloaded() -> Error {
    Error::new(Reason::Overloaded, "too many sign-ins at a time").retry_after(STAY_AWAY)
}

fn failed(error: password_hash::Error) -> Error {
    Error::internal("hashing a password failed").because(error)
}

fn argon2id(params: Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A new hash, as a PHC string.
fn make(params: Params, password: &Password, salt: &[u8], memory: &mut Memory) -> Result<String> {
    let described = ParamsString::try_from(&params).map_err(failed)?;
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    fill(params, password, salt, &mut out, memory)?;
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: described,
        salt: Some(Salt::new(salt).map_err(|error| failed(error.into()))?),
        hash: Some(Output::new(&out).map_err(|error| failed(error.into()))?),
    };
    Ok(hash.to_string())
}

/// As much work as a comparison, for nothing.
fn dummy(params: Params, password: &Password, memory: &mut Memory) -> Result<()> {
    fill(params, password, &[0; 16], &mut [0; 32], memory)
}

fn compare(password: &Password, stored: &PasswordHash, memory: &mut Memory) -> Result<bool> {
    let params = Params::try_from(stored).map_err(failed)?;
    let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else {
        return Ok(false);
    };
    let mut out = [0; Output::MAX_LENGTH];
    let out = &mut out[..expected.len()];
    fill(params, password, salt, out, memory)?;
    let found = Output::new(out)
        .map_err(|error| Error::internal("hashing a password failed").because(error))?;
    // In constant time, as `Output` compares.
    Ok(found == *expected)
}

fn fill(
    params: Params,
    password: &Password,
    salt: &[u8],
    out: &mut [u8],
    memory: &mut Memory,
) -> Result<()> {
    memory.resize(params.block_count(), Block::default());
    argon2id(params)
        .hash_password_into_with_memory(password.as_bytes(), salt, out, memory)
        .map_err(|error| Error::internal("hashing a password failed").because(error))
}

/// The stored hash, where it is argon2id and costs no more than the cap. Another one is a fault of the database, which the log
/// is told and the caller not.
fn readable(text: &str) -> Option<PasswordHash> {
    let stored = PasswordHash::new(text).ok().filter(|stored| {
        stored.algorithm == ARGON2ID_IDENT
            && stored.version == Some(Version::V0x13.into())
            && stored.salt.is_some()
            && stored.hash.is_some()
            && cost(stored).is_ok_and(|cost| at_least(CAP, cost))
    });
    if stored.is_none() {
        tracing::error!("a stored password hash cannot be used");
    }
    stored
}

fn cost(stored: &PasswordHash) -> Result<(u32, u32, u32)> {
    Params::try_from(stored)
        .map(|params| cost_of(&params))
        .map_err(failed)
}

fn cost_of(params: &Params) -> (u32, u32, u32) {
    (params.m_cost(), params.t_cost(), params.p_cost())
}

fn at_least(one: (u32, u32, u32), other: (u32, u32, u32)) -> bool {
    one.0 >= other.0 && one.1 >= other.1 && one.2 >= other.2
}

#[cfg(test)]
mod tests;

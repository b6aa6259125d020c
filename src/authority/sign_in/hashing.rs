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
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn hashing(concurrent: usize, queue: usize) -> Hashing {
        let settings = HashingSettings {
            concurrent,
            queue,
            ..HashingSettings::default()
        };
        Hashing::new(&settings).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::presented(text.to_owned(), "password").unwrap()
    }

    fn enter(hashing: &Hashing) -> Place {
        hashing.enter().unwrap()
    }

    const NO: Verdict = Verdict {
        matches: false,
        needs_rehash: false,
    };

    #[tokio::test]
    async fn every_attempt_makes_exactly_one_hash() {
        let hashing = hashing(1, 1);
        let stored = hashing.hash(&password("right")).await.unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );
        let right = hashing
            .verify(enter(&hashing), &password("right"), Some(&stored))
            .await;
        assert!(right.unwrap().matches);
        assert_eq!(hashing.count(), 2);
        let expensive = stored.replace("m=19456", "m=4194304");
        let foreign = stored.replace("argon2id", "argon2i");
        let attempts = [
            ("wrong", Some(stored.as_str())),
            ("", Some(&stored)),
            ("right", None),
            ("right", Some("")),
            ("right", Some("$2b$12$abcdefghijklmnopqrstuv")),
            ("right", Some(&expensive)),
            ("right", Some(&foreign)),
        ];
        for (index, (text, stored)) in attempts.into_iter().enumerate() {
            let verdict = hashing
                .verify(enter(&hashing), &password(text), stored)
                .await
                .unwrap();
            assert_eq!(verdict, NO, "{text} {stored:?}");
            assert_eq!(hashing.count(), index as u64 + 3);
        }
    }

    #[tokio::test]
    async fn however_many_hashes_are_made_memory_is_kept_for_those_at_a_time() {
        let hashing = hashing(1, 1);
        let mut stored = String::new();
        for _ in 0..3 {
            stored = hashing.hash(&password("right")).await.unwrap();
        }
        let verdict = hashing
            .verify(enter(&hashing), &password("right"), Some(&stored))
            .await;
        assert!(verdict.unwrap().matches);
        let kept = hashing.spare.lock().unwrap();
        let blocks: Vec<usize> = kept.iter().map(Vec::len).collect();
        assert_eq!(blocks, [hashing.params.block_count()]);
    }

    #[tokio::test]
    async fn l17_a_weaker_hash_is_to_be_renewed_and_a_stronger_one_kept() {
        let weak = hashing(1, 1);
        let strong = HashingSettings {
            iterations: 3,
            ..HashingSettings::default()
        };
        let strong = Hashing::new(&strong).unwrap();
        for (maker, judge, needs_rehash) in [
            (&weak, &strong, true),
            (&strong, &weak, false),
            (&weak, &weak, false),
        ] {
            let stored = maker.hash(&password("right")).await.unwrap();
            let verdict = judge
                .verify(enter(judge), &password("right"), Some(&stored))
                .await;
            let expected = Verdict {
                matches: true,
                needs_rehash,
            };
            assert_eq!(verdict.unwrap(), expected);
        }
    }

    #[test]
    fn c04_settings_outside_floor_and_cap_are_refused() {
        let good = HashingSettings::default();
        let changes: [fn(&mut HashingSettings); 7] = [
            |settings| settings.memory_kib = 19_455,
            |settings| settings.memory_kib = 262_145,
            |settings| settings.iterations = 1,
            |settings| settings.iterations = 11,
            |settings| settings.parallelism = 0,
            |settings| settings.parallelism = 5,
            |settings| settings.concurrent = 0,
        ];
        for change in changes {
            let mut settings = good.clone();
            change(&mut settings);
            assert!(Hashing::new(&settings).is_err(), "{settings:?}");
        }
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_or_waits_too_long_is_told_when_to_return() {
        let mut hashing = hashing(1, 1);
        hashing.max_wait = Duration::from_millis(20);
        let (release, released) = mpsc::channel::<()>();
        let first = hashing.run(enter(&hashing), move || Ok(released.recv().is_err()));
        let outcome = async {
            // One place in the queue, and none for the last.
            let waited = hashing.run(enter(&hashing), || Ok(()));
            let refused = hashing.enter();
            for error in [waited.await.unwrap_err(), refused.unwrap_err()] {
                assert_eq!(error.reason(), Reason::Overloaded);
                assert_eq!(error.retry_delay(), Some(STAY_AWAY));
            }
            drop(release);
        };
        let (first, ()) = tokio::join!(first, outcome);
        assert!(first.unwrap());
        hashing.run(enter(&hashing), || Ok(())).await.unwrap();
        assert_eq!(hashing.count(), 2);
    }

    #[test]
    fn who_would_not_get_its_turn_in_time_is_turned_away_at_the_door() {
        let mut hashing = hashing(2, 16);
        hashing.max_wait = Duration::from_secs(2);
        hashing.hash_time.note(Duration::from_millis(400));
        // Two who hash, and two rounds of two who wait: 0, 400 and 800 ms. The next would have to wait for 1200.
        let mut inside: Vec<Place> = (0..6).map(|_| enter(&hashing)).collect();
        let error = hashing.enter().unwrap_err();
        assert_eq!(error.reason(), Reason::Overloaded);
        assert_eq!(error.retry_delay(), Some(STAY_AWAY));
        inside.pop();
        inside.push(enter(&hashing));
        assert!(hashing.enter().is_err());
    }

    #[test]
    fn who_finds_nobody_before_it_is_let_in_however_long_hashes_take() {
        let hashing = hashing(2, 16);
        hashing.hash_time.note(Duration::from_mins(1));
        let _inside = [enter(&hashing), enter(&hashing)];
        assert!(hashing.enter().is_err());
    }

    #[tokio::test]
    async fn the_door_goes_by_how_long_hashes_take_now() {
        let hashing = hashing(1, 16);
        assert_eq!(hashing.hash_time.lately(), Duration::ZERO);
        hashing.hash(&password("right")).await.unwrap();
        assert!(hashing.hash_time.lately() > Duration::ZERO);
        for (taking, expected) in [(800, 750..=800), (80, 80..=90)] {
            for _ in 0..64 {
                hashing.hash_time.note(Duration::from_millis(taking));
            }
            let found = hashing.hash_time.lately().as_millis();
            assert!(expected.contains(&found), "{found} ms");
        }
    }

    #[tokio::test]
    async fn a_hash_that_nobody_waits_for_keeps_its_turn_until_it_is_done() {
        let hashing = hashing(1, 0);
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let abandoned = hashing.run(enter(&hashing), move || {
            assert!(begun.send(()).is_ok());
            Ok(released.recv().is_err())
        });
        tokio::select! {
            biased;
            _ = abandoned => panic!("it waits to be released"),
            begun = has_begun => begun.unwrap(),
        }
        let error = hashing.enter().unwrap_err();
        assert_eq!(error.reason(), Reason::Overloaded);
        drop(release);
        let _done = hashing.places.acquire().await.unwrap();
    }
}

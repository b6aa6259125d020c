//! A release that is rolled out: one replica after the other ends and starts again, under load. Clients who retry on UNAVAILABLE
//! notice nothing; subscribers are told of every entry once, and come back one by one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use token_authority::proto::{
    WatchRevocationsRequest, WatchRevocationsResponse,
    revocation_service_client::RevocationServiceClient, watch_revocations_response::Message,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{
    At, Cluster, Count, Dice, Engine, Load, TestDatabase, as_caller, never_sent, postgres, reason,
    span, spawn,
};

const WATCHERS: Count = Count {
    quick: 60,
    full: 1000,
};
const CLIENTS: usize = 6;
/// Watchers on one connection: fewer than it carries streams, even where all of them are at one replica.
const TOGETHER: usize = 64;
/// When a subscriber asks again who was not told when.
const PAUSE: Duration = Duration::from_millis(100);
/// Longer than it takes until everybody has a stream.
const PATIENCE: Duration = Duration::from_mins(1);
/// In which those are counted who come back at once.
const WINDOW: Duration = Duration::from_millis(100);

/// What all watchers have in common.
struct Watched {
    load: Arc<Load>,
    /// The event at each place, as whoever came first was told.
    log: Mutex<BTreeMap<u64, String>>,
    /// Who was told by which replica to stay away for how long, and when they came back.
    closings: Mutex<Vec<Closing>>,
    /// What nobody should have been told.
    unexpected: Mutex<Vec<String>>,
    /// How often what was UNAVAILABLE, and why.
    unavailable: Mutex<BTreeMap<String, usize>>,
    /// How many have a stream.
    following: AtomicUsize,
    /// The last place of the run, once it is known.
    head: watch::Sender<u64>,
}

struct Closing {
    replica: String,
    delay: Duration,
    back: Instant,
}

/// A few who share their connections.
struct Group {
    watched: Arc<Watched>,
    channels: Mutex<BTreeMap<String, Channel>>,
}

/// One who holds everything up to a place.
struct Watcher {
    group: Arc<Group>,
    dice: Dice,
    held: u64,
    cursor: String,
    streams: usize,
}

/// How a stream is over.
#[derive(Clone, Copy)]
enum Over {
    /// Nothing more is to come.
    Reached,
    /// With `closing`: go on elsewhere after so long.
    SentAway(Duration),
    /// With UNAVAILABLE: ask elsewhere after so long.
    Unavailable(Duration),
    /// With anything else.
    Unexpectedly,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_replicas_restart_one_by_one_nobody_misses_an_entry_or_sees_more_than_unavailable() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let load = Load::on(Cluster::start(database).await).await;
    let watched = Arc::new(Watched::new(&load));
    let watchers = watched.begin(WATCHERS.get());
    watched.eventually_all_follow(watchers.len()).await;
    let clients: Vec<_> = (0..CLIENTS as u64)
        .map(|number| spawn(Arc::clone(&load).go_on(Dice::seeded(number))))
        .collect();
    for slot in &load.cluster.slots[..3] {
        slot.leave().await;
        slot.start().await;
    }
    // The last ones are on their way still.
    watched.eventually_all_follow(watchers.len()).await;
    load.stop.cancel();
    for client in clients {
        client.await.unwrap();
    }
    let log = logged(&load).await;
    watched.head.send_replace(*log.keys().last().unwrap());
    let mut streams = 0;
    for watcher in watchers {
        streams += watcher.await.unwrap();
    }
    watched.assert_nothing_missed(&log);
    watched.assert_spread();
    let outcome = load.outcome();
    eprintln!(
        "{} watchers over {streams} streams, each told of {} entries; {} calls, {} of them UNAVAILABLE and {} never sent, {} tokens revoked",
        WATCHERS.get(),
        log.len(),
        outcome.calls,
        outcome.retries,
        outcome.never_sent,
        outcome.dead.len(),
    );
    assert_eq!(outcome.unexpected, [""; 0]);
    assert!(outcome.dead.len() > 10 && outcome.retries > 0);
}

/// The log as the database has it.
async fn logged(load: &Load) -> BTreeMap<u64, String> {
    let mut connection = postgres(&load.cluster.database).await.unwrap();
    let sql = "SELECT position, event_id FROM revocation_log";
    let rows: Vec<(i64, String)> = sqlx::query_as(sql)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    rows.into_iter()
        .map(|(position, event)| (position.try_into().unwrap(), event))
        .collect()
}

impl Watched {
    fn new(load: &Arc<Load>) -> Self {
        Self {
            load: Arc::clone(load),
            log: Mutex::default(),
            closings: Mutex::default(),
            unexpected: Mutex::default(),
            unavailable: Mutex::default(),
            following: AtomicUsize::new(0),
            head: watch::Sender::new(u64::MAX),
        }
    }

    /// So many watchers begin.
    fn begin(self: &Arc<Self>, count: usize) -> Vec<JoinHandle<usize>> {
        let mut group = Arc::new(Group::of(self));
        let watcher = |number: usize| {
            if number.is_multiple_of(TOGETHER) {
                group = Arc::new(Group::of(self));
            }
            spawn(Watcher::new(&group, Dice::seeded(1000 + number as u64)).follow())
        };
        (0..count).map(watcher).collect()
    }

    async fn eventually_all_follow(&self, count: usize) {
        let following = async {
            while self.following.load(Ordering::SeqCst) < count {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let following = tokio::time::timeout(PATIENCE, following).await;
        following.expect("every watcher follows");
    }

    /// What the first one was told of a place, all others are told of it.
    fn told_at(&self, position: u64, event: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let first = log.entry(position).or_insert_with(|| event.to_owned());
        if first != event {
            self.note(format!("at {position} there are {first} and {event}"));
        }
    }

    /// How a stream is over that a failure ends.
    fn over(&self, at: &At, when: &str, status: &Status) -> Over {
        if status.code() != Code::Unavailable {
            self.note(format!("{when} a stream at {}: {status:?}", at.name));
            return Over::Unexpectedly;
        }
        let mut unavailable = self.unavailable.lock().unwrap();
        *unavailable.entry(reason(status)).or_default() += 1;
        drop(unavailable);
        let told = status.get_details_retry_info();
        let delay = told.and_then(|told| told.retry_delay);
        Over::Unavailable(delay.unwrap_or(PAUSE))
    }

    fn note(&self, unexpected: String) {
        let mut noted = self
            .unexpected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        noted.push(unexpected);
    }

    /// Each watcher has noted what was missing or there twice, and has gone on to the end.
    fn assert_nothing_missed(&self, log: &BTreeMap<u64, String>) {
        let unexpected = self.unexpected.lock().unwrap();
        assert_eq!(*unexpected, [""; 0]);
        assert_eq!(*self.log.lock().unwrap(), *log);
        for (_, place) in &self.load.outcome().dead {
            assert!(log.contains_key(place), "{place} was acknowledged");
        }
    }

    /// Whoever is sent away is sent away for a time of its own: however busy the machine, no replica has told many of its
    /// watchers to come back at once.
    fn assert_spread(&self) {
        let closings = self.closings.lock().unwrap();
        let mut delays: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        // A machine that stands still for longer than a lease lasts has a replica fenced, which then sends its watchers away, too.
        // Every first life has ended as it was to.
        let of_first_lives = closings.iter().filter(|it| it.replica.ends_with('1'));
        for closing in of_first_lives {
            delays
                .entry(&closing.replica)
                .or_default()
                .push(closing.delay);
        }
        assert_eq!(delays.len(), 3, "{:?}", delays.keys());
        for (replica, delays) in delays {
            let (sent_away, at_once) = (delays.len(), most_within(WINDOW, delays));
            eprintln!(
                "{replica} sent {sent_away} away, at most {at_once} of them to come back within {WINDOW:?}"
            );
            assert!(sent_away >= WATCHERS.get() / 6, "{replica}: {sent_away}");
            assert!(
                at_once * 2 <= sent_away,
                "{replica}: {at_once} of {sent_away}"
            );
        }
        let begun = closings.iter().map(|closing| closing.back).min().unwrap();
        let came_back = closings.iter().map(|closing| closing.back - begun);
        let at_once = most_within(WINDOW, came_back.collect());
        eprintln!(
            "{} came back, at most {at_once} within {WINDOW:?}",
            closings.len()
        );
        let unavailable = self.unavailable.lock().unwrap();
        eprintln!("UNAVAILABLE, by reason: {unavailable:?}");
    }
}

/// How many of these are within one `window` at most.
fn most_within(window: Duration, mut moments: Vec<Duration>) -> usize {
    moments.sort();
    let from = |first: usize| {
        let within = |moment: &Duration| *moment < moments[first] + window;
        moments.partition_point(within) - first
    };
    (0..moments.len()).map(from).max().unwrap_or_default()
}

impl Group {
    fn of(watched: &Arc<Watched>) -> Self {
        Self {
            watched: Arc::clone(watched),
            channels: Mutex::default(),
        }
    }

    fn channel(&self, at: &At) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = channels.entry(at.name.clone());
        channel.or_insert_with(|| at.another_channel()).clone()
    }
}

impl Watcher {
    fn new(group: &Arc<Group>, dice: Dice) -> Self {
        Self {
            group: Arc::clone(group),
            dice,
            held: 0,
            cursor: String::new(),
            streams: 0,
        }
    }

    /// Reads to the last place, from one replica after the other; over how many streams.
    async fn follow(mut self) -> usize {
        let watched = Arc::clone(&self.group.watched);
        let mut last = String::new();
        loop {
            let at = watched.load.anywhere_but(&last, &mut self.dice).await;
            self.streams += 1;
            match self.read(&at).await {
                Over::Reached => return self.streams,
                Over::SentAway(delay) => {
                    tokio::time::sleep(delay).await;
                    let closing = Closing {
                        replica: at.name.clone(),
                        delay,
                        back: Instant::now(),
                    };
                    watched.closings.lock().unwrap().push(closing);
                }
                Over::Unavailable(delay) => tokio::time::sleep(delay).await,
                Over::Unexpectedly => tokio::time::sleep(PAUSE).await,
            }
            last = at.name;
        }
    }

    /// One stream, from the cursor of the one before.
    async fn read(&mut self, at: &At) -> Over {
        let watched = Arc::clone(&self.group.watched);
        let request = WatchRevocationsRequest {
            start_cursor: self.cursor.clone(),
            heartbeat_interval: span(1),
            ..Default::default()
        };
        let mut client = RevocationServiceClient::new(self.group.channel(at));
        let request = as_caller(&watched.load.admin, request);
        let mut stream = match client.watch_revocations(request).await {
            Ok(opened) => opened.into_inner(),
            Err(status) if never_sent(&status) => return Over::Unavailable(PAUSE),
            Err(status) => return watched.over(at, "opening", &status),
        };
        watched.following.fetch_add(1, Ordering::SeqCst);
        let over = loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    if let Some(over) = self.take(message) {
                        break over;
                    }
                }
                Ok(None) => {
                    watched.note(format!("{} ended a stream without a word", at.name));
                    break Over::Unexpectedly;
                }
                Err(status) => break watched.over(at, "reading", &status),
            }
        };
        watched.following.fetch_sub(1, Ordering::SeqCst);
        over
    }

    fn take(&mut self, message: WatchRevocationsResponse) -> Option<Over> {
        let watched = &self.group.watched;
        let what = message.message.expect("a kind that is known");
        if let Message::Batch(batch) = &what {
            for event in &batch.events {
                if event.position != self.held + 1 {
                    let (held, next) = (self.held, event.position);
                    watched.note(format!("after {held} came {next}"));
                }
                self.held = event.position;
                watched.told_at(event.position, &event.event_id);
            }
        }
        if message.position != self.held {
            let (held, told) = (self.held, message.position);
            watched.note(format!("{told} was told to who held {held}"));
        }
        self.cursor = message.cursor;
        match what {
            Message::Closing(closing) => {
                let delay = closing.reconnect_delay.expect("always told");
                Some(Over::SentAway(delay.try_into().unwrap()))
            }
            _ => (self.held >= *watched.head.borrow()).then_some(Over::Reached),
        }
    }
}

//! Who watches: reads a stream, cuts it, and goes on from its cursor at another replica.

use std::{collections::HashSet, sync::Arc, time::Duration};

use token_authority::{
    clock::{Clock, boottime},
    proto::{
        self, RevocationKind, WatchRevocationsRequest,
        revocation_service_client::RevocationServiceClient, revocation_subject::Subject,
        watch_revocations_response::Message,
    },
};
use tokio::time::Instant;

use super::{
    calls::PAUSE,
    record::{Entry, Failure, Leg, Subscriber, Told, What},
    world::World,
};
use crate::support::{At, Dice, PATIENCE, as_caller, span};

/// The longest that a stream is left alone.
const LONGEST: u64 = 4000;

/// How long one may take to be told all that there is, however often a replica ends a stream.
const SHORT_PATIENCE: Duration = Duration::from_mins(1);

/// The same for a log of many entries.
const LONG_PATIENCE: Duration = Duration::from_mins(5);

/// Where to go on from: a place and its cursor.
type Bookmark = (u64, String);

struct Watcher {
    world: Arc<World>,
    /// The names in entries.
    names: HashSet<Arc<str>>,
    subscriber: Subscriber,
    bookmarks: Vec<Bookmark>,
}

/// Watches until the world stops, and then until it has reached the place that is asked for; what it was told.
pub(super) async fn watch(world: Arc<World>, number: usize, mut dice: Dice) -> Subscriber {
    let mut watcher = Watcher {
        subscriber: Subscriber {
            name: number.to_string(),
            legs: Vec::new(),
        },
        bookmarks: Vec::new(),
        names: HashSet::new(),
        world,
    };
    let stop = watcher.world.stop.clone();
    while !stop.is_cancelled() {
        let longest = Duration::from_millis(dice.below(LONGEST));
        let at = watcher.world.anywhere(&mut dice, usize::MAX).await;
        let bookmark = watcher.bookmark(&mut dice);
        watcher.follow(&at, bookmark, u64::MAX, longest).await;
        tokio::time::sleep(PAUSE).await;
    }
    watcher.subscriber
}

/// Reads on from where it was, up to `head`.
pub(super) async fn catch_up(world: &Arc<World>, subscriber: Subscriber, head: u64) -> Subscriber {
    let mut dice = Dice::seeded(head);
    let mut watcher = Watcher {
        world: Arc::clone(world),
        subscriber,
        bookmarks: Vec::new(),
        names: HashSet::new(),
    };
    // As much may have been told in a long run as the servers can tell in minutes.
    let (mut longest, patience) = if world.long {
        (LONG_PATIENCE, LONG_PATIENCE)
    } else {
        (PATIENCE, SHORT_PATIENCE)
    };
    let end = Instant::now() + patience;
    // From the floor: what was told before must be told again, and be the same.
    loop {
        let begun = Instant::now();
        assert!(begun < end, "nobody tells all that there is up to {head}");
        let at = world.anywhere(&mut dice, usize::MAX).await;
        watcher.follow(&at, None, head, longest).await;
        if watcher.has_reached(head) {
            return watcher.subscriber;
        }
        if begun.elapsed() >= longest {
            longest *= 2;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Watcher {
    /// The newest cursor; now and then an older one, which is as good.
    fn bookmark(&self, dice: &mut Dice) -> Option<Bookmark> {
        let older = if dice.below(6) == 0 {
            dice.below(20)
        } else {
            0
        };
        let newest = self.bookmarks.len().checked_sub(1)?;
        let drawn = newest.saturating_sub(usize::try_from(older).unwrap());
        self.bookmarks.get(drawn).cloned()
    }

    /// Whether the last stream went as far.
    fn has_reached(&self, head: u64) -> bool {
        let last = self.subscriber.legs.last();
        let told = last.and_then(|leg| leg.messages.last());
        told.is_some_and(|told| told.position >= head)
    }

    /// One stream, for a while or up to `head`.
    async fn follow(&mut self, at: &At, from: Option<Bookmark>, head: u64, longest: Duration) {
        let (after, start_cursor) = from.unzip();
        let mut leg = Leg {
            replica: at.name.clone(),
            begun: boottime(),
            after,
            messages: Vec::new(),
            failure: None,
        };
        let request = WatchRevocationsRequest {
            start_cursor: start_cursor.unwrap_or_default(),
            heartbeat_interval: span(1),
            ..Default::default()
        };
        let end = Instant::now() + longest;
        let told = self.read(at, request, head, &mut leg);
        if let Ok(Err(status)) = tokio::time::timeout_at(end, told).await {
            leg.failure = Some(Failure::from(status));
        }
        self.subscriber.legs.push(leg);
    }

    async fn read(
        &mut self,
        at: &At,
        request: WatchRevocationsRequest,
        head: u64,
        leg: &mut Leg,
    ) -> Result<(), tonic::Status> {
        let mut client = RevocationServiceClient::new(at.channel.clone());
        let request = as_caller(&self.world.admin, request);
        let mut stream = client.watch_revocations(request).await?.into_inner();
        while let Some(told) = stream.message().await? {
            self.bookmarks.push((told.position, told.cursor));
            let what = told.message.expect("a kind that is known");
            leg.messages.push(Told {
                arrived: Clock::system().now().micros(),
                position: told.position,
                what: self.understand(what),
            });
            if told.position >= head {
                break;
            }
        }
        Ok(())
    }

    fn understand(&mut self, message: Message) -> What {
        match message {
            Message::Started(started) => {
                assert!(started.space_ids.is_empty(), "admin watches every space");
                What::Started
            }
            Message::Batch(batch) => {
                let entries = batch.events.into_iter().map(|event| self.entry(event));
                What::Entries(entries.collect())
            }
            Message::CaughtUp(_) => What::CaughtUp,
            Message::Heartbeat(heartbeat) => What::Heartbeat(micros(heartbeat.read_time)),
            Message::Closing(_) => What::Closing,
        }
    }

    fn entry(&mut self, event: proto::RevocationEvent) -> Entry {
        let kills = event.kind() != RevocationKind::Change;
        let subject = match event.subject.and_then(|subject| subject.subject) {
            Some(Subject::TokenId(id)) => format!("token {id}"),
            Some(Subject::SessionId(id)) => format!("session {id}"),
            Some(Subject::UserId(id)) => format!("user {id}"),
            Some(Subject::ApiKeyId(id)) => format!("api key {id}"),
            Some(Subject::Role(name)) => format!("role {name}"),
            other => format!("{other:?}"),
        };
        Entry {
            position: event.position,
            event: event.event_id,
            kills,
            subject: self.name(subject),
            space: self.name(event.space_id),
            create_time: micros(event.create_time),
        }
    }

    fn name(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.names.get(&*text) {
            return Arc::clone(known);
        }
        let name: Arc<str> = text.into();
        self.names.insert(Arc::clone(&name));
        name
    }
}

fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.expect("always sent");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}

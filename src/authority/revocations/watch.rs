//! The log as a stream: from a place in the past to now, and on from there, in one code path.
//!
//! A stream is a position over what all streams share, and never a queue: it reads, sends, and waits for the reader. Every
//! message carries the cursor up to which everything was sent; a heartbeat follows a read of the log that began after the
//! last message, so that it proves that nothing is missing.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch as changes},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Spaces, lag::OpenStream};
use crate::{
    authority::{Authority, caller::Caller, subscriber::Subscriber},
    clock::Timestamp,
    domain::revocation::{Entry, Position},
    error::{Error, Reason, Result},
    log::{
        self,
        cursor::{Coverage, EntryMark},
    },
    random,
};

/// How long a stream lives, give or take a tenth.
const LIFE: Duration = Duration::from_mins(30);
/// Over what time readers of an ending stream are spread.
const SPREAD: Duration = Duration::from_secs(5);

/// From where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The oldest entry in force.
    Floor,
    /// What comes next.
    Live,
    /// After this cursor.
    After(String),
}

/// One message of a stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// What it says.
    pub kind: Kind,
    /// Every entry up to here was sent.
    pub position: Position,
    /// The same place, to resume from.
    pub cursor: String,
}

/// What a message says.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The first: the ids of the spaces covered; empty: every one.
    Started(Vec<String>),
    /// Entries, in the order of the log.
    Batch(Vec<Arc<Entry>>),
    /// The head as it was at the beginning has been reached, after so many entries.
    CaughtUp(usize),
    /// Nothing is missing, as of this read.
    Heartbeat(Timestamp),
    /// The stream ends; resume after this delay.
    Closing(Duration),
}

/// Opens a stream. The errors of a cursor come here, before the first message.
pub async fn open(
    authority: Arc<Authority>,
    caller: Caller,
    start: Start,
    named: &[String],
    heartbeat: Duration,
    draining: CancellationToken,
    tasks: &TaskTracker,
) -> Result<mpsc::Receiver<Result<Message>>> {
    let spaces = Spaces::named(&authority, &caller, named).await?;
    let head = authority.log.catch_up().await?;
    let begun = authority.log.applied().await?.beginning();
    let (position, mark) = place(&authority, &start, spaces.coverage(), head.position).await?;
    let (subscriber, last_word, receiver) = Subscriber::open()?;
    let life = LIFE.mul_f64(0.9 + 0.2 * fraction());
    let stream = Stream {
        checked: caller.position,
        beginning: begun,
        end_time: authority.clock.now() + life,
        place: authority.log.place(),
        subscriber,
        noted: authority.streams.open(position),
        position,
        mark,
        target: head.position,
        sent: 0,
        caught_up: false,
        authority,
        caller,
        spaces,
    };
    tasks.spawn(async move {
        match stream.run(heartbeat, life, draining).await {
            None => {}
            Some(End::Closing(message)) => drop(last_word.send(Ok(message))),
            Some(End::Failed(error)) => {
                tracing::debug!(error = ?error, "revocation_stream.failed");
                last_word.send(Err(error));
            }
        }
    });
    Ok(receiver)
}

/// The place after which a stream begins.
async fn place(
    authority: &Authority,
    start: &Start,
    coverage: Coverage,
    head: Position,
) -> Result<(Position, EntryMark)> {
    match start {
        Start::Floor => Ok((authority.log.floor().await?, EntryMark::default())),
        Start::Live => {
            let applied = authority.log.applied().await?;
            Ok((applied.position(), applied.mark()))
        }
        Start::After(text) => {
            let cursor = authority.log.open_cursor(text)?;
            if cursor.coverage != coverage {
                return Err(Error::new(
                    Reason::CursorFilter,
                    "the cursor was of a stream of other spaces",
                ));
            }
            if cursor.position > head {
                return Err(Error::new(
                    Reason::CursorAhead,
                    "the cursor is ahead of the log",
                ));
            }
            check_mark(authority, cursor.position, cursor.mark).await?;
            Ok((cursor.position, cursor.mark))
        }
    }
}

/// Whether the entry at a cursor's place is still the one that it was given out at.
async fn check_mark(authority: &Authority, position: Position, mark: EntryMark) -> Result<()> {
    let floor = authority.log.floor().await?;
    if position < floor {
        return Err(Error::new(
            Reason::CursorExpired,
            "the log no longer reaches back to the cursor",
        ));
    }
    if position == floor {
        return Ok(());
    }
    let before = Position(position.0 - 1);
    let there = authority.log.after(before, 1).await?;
    if there
        .first()
        .is_some_and(|entry| EntryMark::of(&entry.event_id) == mark)
    {
        return Ok(());
    }
    Err(Error::new(
        Reason::CursorForeign,
        "the cursor is of another log",
    ))
}

struct Stream {
    authority: Arc<Authority>,
    caller: Caller,
    spaces: Spaces,
    subscriber: Subscriber<Result<Message>>,
    /// Wakes the stream.
    place: changes::Receiver<Position>,
    /// How often the log had been loaded from nothing.
    beginning: u64,
    /// When its life is over, by the clock.
    end_time: Timestamp,
    /// What was sent: moved on after a message, never before, for whatever ends the stream names this place.
    position: Position,
    mark: EntryMark,
    /// The same place, for those who ask how far behind the streams are.
    noted: OpenStream,
    /// The head as it was at the beginning.
    target: Position,
    caught_up: bool,
    sent: usize,
    /// Nothing up to here touches the caller's standing.
    checked: Position,
}

/// How a stream ends where its reader has not gone.
enum End {
    /// With a last message.
    Closing(Message),
    /// With an error.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Stream {
    /// Tells until something ends it, whatever it is at: a reader who takes nothing does not hold up the end. None where the
    /// reader has gone.
    async fn run(
        mut self,
        heartbeat: Duration,
        life: Duration,
        draining: CancellationToken,
    ) -> Option<End> {
        let gone = self.subscriber.gone();
        let end = Instant::now() + life.min(self.until_expiry());
        tokio::select! {
            Err(end) = self.tell(heartbeat) => Some(end),
            () = tokio::time::sleep_until(end) => Some(self.closing()),
            () = draining.cancelled() => Some(self.closing()),
            () = gone => None,
        }
    }

    async fn tell(&mut self, heartbeat: Duration) -> Result<Infallible, End> {
        let mut next_heartbeat = Instant::now() + heartbeat;
        self.send(Kind::Started(self.spaces.ids())).await?;
        loop {
            self.send_entries().await?;
            tokio::select! {
                changed = self.place.changed() => changed.map_err(|_| self.closing())?,
                () = tokio::time::sleep_until(next_heartbeat) => {
                    self.send_heartbeat().await?;
                    next_heartbeat = Instant::now() + heartbeat;
                }
            }
        }
    }

    /// Sends what is applied and not sent yet, and says once that the past is over.
    async fn send_entries(&mut self) -> Result<(), End> {
        loop {
            self.check_standing().await?;
            let entries = self.authority.log.after(self.position, log::PAGE).await?;
            let Some(last) = entries.last() else { break };
            // Read from the same log as what was sent before.
            let (beginning, over) = {
                let applied = self.authority.log.applied().await?;
                (applied.beginning(), applied.over())
            };
            if beginning != self.beginning {
                return Err(self.closing());
            }
            let (position, mark) = (last.position, EntryMark::of(&last.event_id));
            let shown: Vec<_> = entries
                .into_iter()
                .filter(|entry| self.spaces.show(entry) && entry.forget_time > over)
                .collect();
            let count = shown.len();
            if count > 0 {
                let message = self.message_at(position, mark, Kind::Batch(shown));
                self.hand_over(message).await?;
            }
            (self.position, self.mark) = (position, mark);
            self.noted.sent(position);
            self.sent += count;
        }
        if !self.caught_up && self.position >= self.target {
            self.send(Kind::CaughtUp(self.sent)).await?;
            self.caught_up = true;
        }
        Ok(())
    }

    /// Proves that nothing is missing; says nothing where the log cannot be read.
    async fn send_heartbeat(&mut self) -> Result<(), End> {
        let Ok(read) = self.authority.log.catch_up().await else {
            return Ok(());
        };
        self.send_entries().await?;
        if self.position >= read.position && self.caught_up {
            self.send(Kind::Heartbeat(read.read_time)).await?;
        }
        Ok(())
    }

    /// Ends the stream where its life or the caller's credential is over, or what it may watch may have changed.
    async fn check_standing(&mut self) -> Result<(), End> {
        let now = self.authority.clock.now();
        let applied = self.authority.log.applied().await?;
        let stands = self.caller.credential.stands(&applied, self.checked, now);
        let (position, beginning) = (applied.position(), applied.beginning());
        drop(applied);
        if !stands || beginning != self.beginning || now >= self.end_time {
            return Err(self.closing());
        }
        self.checked = position;
        Ok(())
    }

    fn until_expiry(&self) -> Duration {
        let now = self.authority.clock.now();
        self.caller
            .expire_time()
            .map_or(LIFE, |expiry| expiry.since(now))
    }

    async fn send(&self, kind: Kind) -> Result<(), End> {
        self.hand_over(self.message(kind)).await
    }

    async fn hand_over(&self, message: Message) -> Result<(), End> {
        let told = self.subscriber.tell(Ok(message)).await;
        told.map_err(End::Failed)
    }

    fn closing(&self) -> End {
        End::Closing(self.message(Kind::Closing(SPREAD.mul_f64(fraction()))))
    }

    fn message(&self, kind: Kind) -> Message {
        self.message_at(self.position, self.mark, kind)
    }

    fn message_at(&self, position: Position, mark: EntryMark, kind: Kind) -> Message {
        let log = &self.authority.log;
        Message {
            kind,
            position,
            cursor: log.cursor(position, mark, self.spaces.coverage()),
        }
    }
}

/// Anything from 0 to 1; the middle where the machine gives no randomness.
fn fraction() -> f64 {
    random::bytes::<4>().map_or(0.5, |bytes| {
        f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
    })
}

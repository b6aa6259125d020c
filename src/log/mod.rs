//! The revocation log at work: what was decided gets its place, is applied in memory, and is told to whoever waits or watches.
//!
//! Everybody else holds a `handle`: [`RevocationLog`]. What its parts have in common is put together in `shared`.
//!
//! A writer appends in its own transaction ([`Pending`]) and commits. On PostgreSQL the `sequencer` then gives the entry its
//! place; on SQLite the append did. The `tail` reads what is new, in order and without a gap, applies it in `memory` (`applied`),
//! tells those by whom it is `awaited`, and only then does the writer learn the [`Effect`] and reply. Streams read what was applied
//! (`recent`, most of it packed: `packing`, `packed_id`), or the table where they are further behind. `herald` tells who holds
//! signing keys before an entry about one is applied. `retention` forgets the oldest, by a clock that is
//! `steady`. [`cursor`] makes places opaque. `beginning`
//! is for logs that have lost their end.
//!
//! Each server holds a `lease`, which it renews as long as it follows the log, and which gives it the `right` to answer from memory
//! for a while. Over one PostgreSQL database there may be many: there the lease says how far its server has applied the log, and
//! the `barrier` waits until none is behind a place, and takes away those of servers that have fallen silent.
//!
//! Invariants: positions are dense from the floor to the head, but where the log began anew; nothing is applied before it is
//! durable; a reply that calls a revocation effective comes after every server that may answer from memory has applied it.

mod applied;
mod awaited;
mod barrier;
mod beginning;
pub mod cursor;
mod effect;
mod handle;
mod herald;
mod lease;
mod memory;
mod packed_id;
mod packing;
mod recent;
mod retention;
mod right;
mod scan_bound;
mod sequencer;
mod shared;
mod steady;
mod tail;

use std::time::Duration;

pub use applied::Applied;
pub use barrier::Replica;
pub use beginning::begin_anew;
pub use effect::{Effect, Pending, WaitUntil};
pub use handle::{Opening, RevocationLog};
pub use herald::Herald;
pub use memory::Progress;

use self::shared::Shared;

/// How many entries a reader best asks for at a time.
pub const PAGE: u32 = 500;
const _: () = assert!(PAGE as usize == recent::PACKED);

/// How long an entry is remembered: longer than anything it kills can live, so that verifiers which were away for long find
/// it still.
const RETENTION: Duration = Duration::from_hours(48);

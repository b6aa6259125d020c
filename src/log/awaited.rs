//! Entries whose places are waited for: by whoever wrote them, and by those who found them there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::domain::{
    ids::EventId,
    revocation::{Entry, Position},
};

type Tellers = HashMap<EventId, Vec<oneshot::Sender<Position>>>;

#[derive(Debug, Default)]
pub(super) struct Awaited(Mutex<Tellers>);

impl Awaited {
    /// Waits for the entry's place. Whoever waits no more closes the receiver and says so: [`Awaited::given_up`].
    pub(super) fn wait_for(&self, event_id: &EventId) -> oneshot::Receiver<Position> {
        let (teller, told) = oneshot::channel();
        let mut tellers = self.tellers();
        tellers.entry(event_id.clone()).or_default().push(teller);
        told
    }

    /// These have their places, and are applied.
    pub(super) fn tell(&self, entries: &[Arc<Entry>]) {
        let mut tellers = self.tellers();
        for entry in entries {
            for teller in tellers.remove(&entry.event_id).unwrap_or_default() {
                // One whose call has ended waits no more.
                let _ = teller.send(entry.position);
            }
        }
    }

    /// Some of those who waited for these have closed their receivers.
    pub(super) fn given_up<'a>(&self, event_ids: impl Iterator<Item = &'a EventId>) {
        let mut tellers = self.tellers();
        for event_id in event_ids {
            if let Some(waiting) = tellers.get_mut(event_id) {
                waiting.retain(|teller| !teller.is_closed());
                if waiting.is_empty() {
                    tellers.remove(event_id);
                }
            }
        }
    }

    fn tellers(&self) -> MutexGuard<'_, Tellers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

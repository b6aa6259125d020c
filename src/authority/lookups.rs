//! Look-ups in memory, counted by whether it had what was looked for.

use metrics::{Counter, counter};

use crate::telemetry::metrics as names;

/// The look-ups of one cache. The handles are made once: to find them would take longer than the look-up.
#[derive(Debug)]
pub struct Lookups {
    hits: Counter,
    misses: Counter,
}

impl Lookups {
    /// Of the cache that the metric calls so.
    pub fn of(cache: &'static str) -> Self {
        let counter = |result| counter!(names::CACHE_LOOKUPS, "cache" => cache, "result" => result);
        Self {
            hits: counter("hit"),
            misses: counter("miss"),
        }
    }

    /// Counts one.
    pub fn count(&self, hit: bool) {
        if hit {
            self.hits.increment(1);
        } else {
            self.misses.increment(1);
        }
    }
}

//! How many statements something takes, apart from those that a server sends by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::{Engine, Server};

impl Server {
    /// How many statements `work` takes, and what comes of it. Those are not counted that the server may have sent by its timers
    /// meanwhile: the longer a busy machine takes, the more they are.
    pub(crate) async fn statements_of<T>(&self, work: impl Future<Output = T>) -> (u64, T) {
        let (before, begun) = (self.authority.db.query_count(), Instant::now());
        let done = work.await;
        let sent = self.authority.db.query_count() - before;
        let by_itself = sent_by_itself(self.database.engine(), begun.elapsed());
        (sent.saturating_sub(by_itself), done)
    }
}

/// The most that a server sends by its timers in such a time. On PostgreSQL its tail and its sequencer look fifty times a second
/// each, and whoever chains audit events ten times; what else there is comes about once a second.
fn sent_by_itself(engine: Engine, elapsed: Duration) -> u64 {
    let each_second = match engine {
        Engine::Sqlite => 5,
        Engine::Postgres => 130,
    };
    each_second * u64::try_from(elapsed.as_millis()).unwrap() / 1000
}

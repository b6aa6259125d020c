//! How connections end: asked first, cut later.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What all listeners and connections of a server share. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// Nothing new is accepted, streams end, clients are asked to leave.
    pub draining: CancellationToken,
    /// Whatever is still open is dropped.
    pub cut: CancellationToken,
    /// Listeners, connections and the calls on them.
    pub tasks: TaskTracker,
}

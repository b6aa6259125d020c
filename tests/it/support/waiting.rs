//! What tests wait for that comes about by itself, sooner or later, by how busy the machine is.

use std::time::Duration;

use token_authority::log::WaitUntil;
use tokio::time::Instant;
use tonic::{Code, Status};

/// However often PostgreSQL lets nobody in meanwhile, a server has started by then.
pub(crate) const STARTS_WITHIN: Duration = Duration::from_mins(2);

/// Long enough to wait for a revocation.
pub(crate) fn soon() -> WaitUntil {
    WaitUntil::from(Instant::now() + Duration::from_secs(5))
}

/// Waits until something that goes on by itself has come about, and fails where it does not.
pub(crate) async fn eventually(what: &str, mut come_about: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !come_about().await {
        assert!(Instant::now() < end, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Calls until the answer is not UNAVAILABLE, as clients of several servers do: one that stood still for longer than its lease says
/// nothing else until it has joined again.
pub(crate) async fn answered<T>(
    mut call: impl AsyncFnMut() -> Result<T, Status>,
) -> Result<T, Status> {
    let mut answer = None;
    eventually("it answers", async || {
        let told = call().await;
        let unavailable = matches!(&told, Err(status) if status.code() == Code::Unavailable);
        answer = Some(told);
        !unavailable
    })
    .await;
    answer.unwrap()
}

//! The threads that hash: as many as may hash at a time, at a lower priority than those that answer calls. Where every core
//! hashes, a call that takes a moment is not kept waiting until a hash has used up its slice.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use rustix::process::nice;

use crate::error::{Error, Result};

/// By how much nicer than the others: enough to let them go first. Where there is too little for all, a hash still gets a tenth
/// of what each of them does: with much less, a busy neighbour on the machine would keep everybody from signing in.
const NICENESS: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

/// Threads for hashing. They end when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Threads(mpsc::Sender<Work>);

impl Threads {
    /// Starts so many.
    pub(super) fn start(count: usize) -> Result<Self> {
        let (sender, work) = mpsc::channel::<Work>();
        let work = Arc::new(Mutex::new(work));
        for _ in 0..count {
            let work = Arc::clone(&work);
            thread::Builder::new()
                .name("hashing".to_owned())
                .spawn(move || run_all(&work))
                .map_err(|error| Error::internal("no thread to hash on").because(error))?;
        }
        Ok(Self(sender))
    }

    /// Runs something on the first thread that is free.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) {
        // Whoever waits for it sees that it was dropped, should there be no thread any more.
        let _dropped = self.0.send(Box::new(work));
    }
}

fn run_all(work: &Mutex<mpsc::Receiver<Work>>) {
    // Of this thread alone, on Linux. Where it is not to be had, hashes only disturb more.
    if let Err(error) = nice(NICENESS) {
        tracing::debug!(error = %error, "hashing.priority_kept");
    }
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else {
            return;
        };
        // A hash that panics takes its answer with it, not the thread.
        let _panicked = catch_unwind(AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::getpriority_process;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn niceness() -> i32 {
        getpriority_process(None).unwrap()
    }

    #[test]
    fn work_is_done_at_a_lower_priority_and_nothing_else_is() {
        let before = niceness();
        let (found, is_found) = mpsc::channel();
        let threads = Threads::start(1).unwrap();
        threads.run(move || found.send(niceness()).unwrap());
        let expected = (before + NICENESS).min(19);
        assert_eq!(is_found.recv_timeout(LONG).unwrap(), expected);
        assert_eq!(niceness(), before);
    }

    #[test]
    fn a_panic_takes_its_answer_and_not_the_thread() {
        let (lost, is_lost) = mpsc::channel::<()>();
        let (done, is_done) = mpsc::channel();
        let threads = Threads::start(1).unwrap();
        threads.run(move || {
            let _lost = lost;
            panic!("as it should");
        });
        threads.run(move || done.send(()).unwrap());
        is_done.recv_timeout(LONG).unwrap();
        assert!(is_lost.recv().is_err());
    }

    #[test]
    fn as_many_work_at_a_time_as_there_are_threads() {
        let threads = Threads::start(2).unwrap();
        let (one, from_one) = mpsc::channel();
        let (other, from_other) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let also_done = done.clone();
        threads.run(move || {
            one.send(()).unwrap();
            done.send(from_other.recv_timeout(LONG)).unwrap();
        });
        threads.run(move || {
            other.send(()).unwrap();
            also_done.send(from_one.recv_timeout(LONG)).unwrap();
        });
        for _ in 0..2 {
            is_done.recv_timeout(LONG).unwrap().unwrap();
        }
    }
}

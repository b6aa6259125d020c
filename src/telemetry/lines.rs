//! Log lines on their way out. A reader that is slow or gone must not hold up whoever logs, so a thread of its own writes, and
//! what it cannot keep up with is dropped and counted.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait to be written.
const QUEUE: usize = 8_192;

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where lines go.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Begins to write to stderr.
    pub(super) fn start() -> io::Result<Self> {
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&messages, &counted))?;
        Ok(Self { queue, dropped })
    }

    /// Waits until what was logged so far is written, but not for longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, written) = mpsc::sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _late = written.recv_timeout(patience);
        }
    }
}

fn write_all(messages: &Receiver<Message>, dropped: &AtomicU64) {
    for message in messages {
        match message {
            Message::Line(line) => {
                let mut stderr = io::stderr().lock();
                let missing = dropped.swap(0, Ordering::Relaxed);
                if missing > 0 {
                    let _gone = writeln!(stderr, "{{\"log.lines_dropped\":{missing}}}");
                }
                let _gone = stderr.write_all(&line);
            }
            Message::Flush(done) => {
                let _nobody_waits = done.try_send(());
            }
        }
    }
}

/// One line as it is put together.
pub(super) struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = Message::Line(std::mem::take(&mut self.text));
        if self.lines.queue.try_send(line).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            lines: self,
            text: Vec::new(),
        }
    }
}

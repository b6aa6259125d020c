//! Following the revocation log: prints entries as they come, remembers how far, and takes up again where a stream ends.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{
        client::Client,
        failure::{Exit, Failure},
        input::{self, proto_duration},
        output::Output,
        revocation::COLUMNS,
        stored_login::replace_private,
    },
    proto::{
        WatchRevocationsRequest, WatchRevocationsResponse, watch_revocations_response::Message,
    },
    random,
};

const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Follow the revocation log: print the entries in force, then each new one as it comes
///
/// Where the server ends the stream or goes away, it connects again and goes on after the last entry; each entry is printed
/// once. Ctrl-C ends it. Where the server says that the log no longer reaches back to the cursor, or that the cursor is of
/// another log, it fails: begin again without a cursor, and forget what came before.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  token-authority revocation watch
  token-authority revocation watch --live --space acme
  token-authority revocation watch --cursor-file cursor -o json | jq -r .subject.userId")]
pub(crate) struct WatchArguments {
    /// Go on after this cursor, rather than from the oldest entry in force or what --cursor-file holds: the line in a cursor
    /// file, what `watch` says when it ends, or `cursor` in `watch --messages` and `list -o json`
    #[arg(long, value_name = "CURSOR")]
    since_cursor: Option<String>,
    /// Go on after the cursor that this file holds, where there is one, and keep in it how far has been printed
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Leave out what is in force already
    #[arg(long, conflicts_with = "since_cursor")]
    live: bool,
    /// Of this space (slug or id) alone; may be given several times
    #[arg(long = "space", value_name = "SPACE")]
    spaces: Vec<String>,
    /// How often the server gives a sign of life, from 1s to 1m; after three that fail to come, it is taken for lost
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    heartbeat: Option<Duration>,
    /// Print every message of the stream whole, with cursors and heartbeats, as JSON
    #[arg(long)]
    messages: bool,
}

impl WatchArguments {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut stop = signal(SignalKind::terminate())
            .map_err(|error| Failure::new(Exit::Failed, format!("no signals: {error}")))?;
        let mut follower = Follower::new(client, self)?;
        let ended = tokio::select! {
            ended = follower.follow() => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = stop.recv() => Ok(()),
        };
        if !follower.cursor.is_empty() && follower.arguments.cursor_file.is_none() {
            let notice = format!("go on with --since-cursor {}", follower.cursor);
            client.output.notice(&notice);
        }
        ended
    }
}

/// Somebody who reads the log, and how far they are.
struct Follower<'a> {
    client: &'a Client,
    arguments: WatchArguments,
    cursor: String,
    pause: Pause,
}

impl<'a> Follower<'a> {
    fn new(client: &'a Client, arguments: WatchArguments) -> Result<Self, Failure> {
        let stored = arguments
            .cursor_file
            .as_deref()
            .map(load_cursor)
            .transpose()?;
        let cursor = arguments
            .since_cursor
            .clone()
            .or(stored)
            .unwrap_or_default();
        Ok(Self {
            client,
            arguments,
            cursor,
            pause: Pause(FIRST_PAUSE),
        })
    }

    /// Reads one stream after the other; returns only where going on makes no sense.
    async fn follow(&mut self) -> Result<(), Failure> {
        loop {
            let (why, pause) = match self.read_stream().await {
                Ok(Some(delay)) => ("the server ends the stream".to_owned(), delay),
                Ok(None) => ("the stream ended".to_owned(), self.pause.next()?),
                Err(failure) if failure.is_temporary() => {
                    let asked = failure.retry_after().unwrap_or_default();
                    (failure.to_string(), self.pause.next()?.max(asked))
                }
                Err(failure) => return Err(failure),
            };
            let seconds = pause.as_secs_f32();
            self.client
                .output
                .notice(&format!("{why}; going on in {seconds:.1} s"));
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads a stream to its end, and tells how long the server asks to wait.
    async fn read_stream(&mut self) -> Result<Option<Duration>, Failure> {
        let connection = self.client.connect().await?;
        let request = connection.endless_request(self.request());
        let silence = self.arguments.heartbeat.unwrap_or(DEFAULT_HEARTBEAT) * 3;
        let opening = connection.revocations().watch_revocations(request).await;
        let mut stream = opening?.into_inner();
        loop {
            let Ok(message) = tokio::time::timeout(silence, stream.message()).await else {
                let lost = format!("no sign of life for {} s", silence.as_secs());
                return Err(Failure::new(Exit::Unavailable, lost));
            };
            let Some(message) = message? else {
                return Ok(None);
            };
            self.pause = Pause(FIRST_PAUSE);
            if let Some(delay) = self.take(message)? {
                return Ok(Some(delay));
            }
        }
    }

    fn request(&self) -> WatchRevocationsRequest {
        WatchRevocationsRequest {
            start_cursor: self.cursor.clone(),
            live_only: self.arguments.live && self.cursor.is_empty(),
            spaces: self.arguments.spaces.clone(),
            heartbeat_interval: self.arguments.heartbeat.map(proto_duration),
        }
    }

    /// Prints, then remembers: an entry may be printed twice after a crash, but is never left out.
    fn take(&mut self, message: WatchRevocationsResponse) -> Result<Option<Duration>, Failure> {
        let output = &self.client.output;
        let mut delay = None;
        if self.arguments.messages {
            Output::json_line(&message)?;
        }
        match &message.message {
            Some(Message::Batch(batch)) if !self.arguments.messages => {
                output.stream(&batch.events, COLUMNS)?;
            }
            Some(Message::CaughtUp(caught_up)) => output.notice(&format!(
                "caught up after {} entries; waiting for more",
                caught_up.event_count
            )),
            Some(Message::Closing(closing)) => {
                let asked = closing
                    .reconnect_delay
                    .and_then(|delay| delay.try_into().ok());
                delay = Some(asked.unwrap_or(FIRST_PAUSE));
            }
            Some(Message::Batch(_) | Message::Started(_) | Message::Heartbeat(_)) | None => {}
        }
        if !message.cursor.is_empty() && message.cursor != self.cursor {
            self.cursor = message.cursor;
            if let Some(path) = &self.arguments.cursor_file {
                let line = format!("{}\n", self.cursor);
                replace_private(path, line.as_bytes())
                    .map_err(|error| Failure::file(path, &error))?;
            }
        }
        Ok(delay)
    }
}

/// A file that is not there yet holds no cursor.
fn load_cursor(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::file(path, &error)),
    }
}

/// The pause before the next attempt: twice as long each time, and by chance up to half of it shorter, so that those who were
/// cut off together do not come back together.
struct Pause(Duration);

impl Pause {
    fn next(&mut self) -> Result<Duration, Failure> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        let chance = u32::from(u16::from_be_bytes(random::bytes::<2>()?));
        Ok(pause / 2 + pause / 2 * chance / u32::from(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, sync::Mutex};

    use clap::Parser as _;
    use tokio::net::TcpListener;
    use tokio_stream::{Stream, wrappers::TcpListenerStream};
    use tonic::{Request, Response, Status};

    use super::*;
    use crate::{
        cli::Cli,
        proto::{
            CreateRevocationRequest, CreateRevocationResponse, Heartbeat, ListRevocationsRequest,
            ListRevocationsResponse, StreamClosing,
            revocation_service_server::{RevocationService, RevocationServiceServer},
        },
    };

    type Answers = Vec<Result<WatchRevocationsResponse, Status>>;

    /// Plays one script a stream, and keeps what was asked for.
    #[derive(Default)]
    struct Scripted {
        scripts: Mutex<Vec<Answers>>,
        asked: Mutex<Vec<WatchRevocationsRequest>>,
    }

    #[tonic::async_trait]
    impl RevocationService for std::sync::Arc<Scripted> {
        type WatchRevocationsStream =
            Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

        async fn watch_revocations(
            &self,
            request: Request<WatchRevocationsRequest>,
        ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
            self.asked.lock().unwrap().push(request.into_inner());
            let script = self.scripts.lock().unwrap().remove(0);
            Ok(Response::new(Box::pin(tokio_stream::iter(script))))
        }

        async fn create_revocation(
            &self,
            _: Request<CreateRevocationRequest>,
        ) -> Result<Response<CreateRevocationResponse>, Status> {
            Err(Status::unimplemented("not asked for"))
        }

        async fn list_revocations(
            &self,
            _: Request<ListRevocationsRequest>,
        ) -> Result<Response<ListRevocationsResponse>, Status> {
            Err(Status::unimplemented("not asked for"))
        }
    }

    fn answer(cursor: &str, message: Message) -> WatchRevocationsResponse {
        WatchRevocationsResponse {
            cursor: cursor.to_owned(),
            message: Some(message),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_watcher_goes_on_after_what_it_has_whatever_ended_the_stream() {
        let heartbeat = || Message::Heartbeat(Heartbeat::default());
        let closing = Message::Closing(StreamClosing {
            reconnect_delay: Some(prost_types::Duration::default()),
        });
        let scripted = std::sync::Arc::new(Scripted::default());
        *scripted.scripts.lock().unwrap() = vec![
            vec![Ok(answer("one", heartbeat())), Ok(answer("two", closing))],
            vec![
                Ok(answer("three", heartbeat())),
                Err(Status::unavailable("going away")),
            ],
            vec![],
            vec![Err(Status::out_of_range("the log no longer reaches back"))],
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(RevocationServiceServer::new(scripted.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));

        let folder = tempfile::tempdir().unwrap();
        let (token, cursor) = (folder.path().join("token"), folder.path().join("cursor"));
        fs::write(&token, "ta_token\n").unwrap();
        let line = format!(
            "token-authority revocation watch --quiet --live --address http://{address} --token-file {} --cursor-file {}",
            token.display(),
            cursor.display()
        );
        let cli = Cli::parse_from(line.split(' '));
        let client = Client::new(cli.options);
        let ended = tokio::select! {
            ended = cli.command.run(&client) => ended.unwrap_err(),
            ended = server => panic!("{ended:?}"),
        };

        assert_eq!(ended.to_string(), "the log no longer reaches back");
        let asked = scripted.asked.lock().unwrap();
        let from: Vec<&str> = asked.iter().map(|ask| ask.start_cursor.as_str()).collect();
        assert_eq!(from, ["", "two", "three", "three"]);
        let live_only: Vec<bool> = asked.iter().map(|ask| ask.live_only).collect();
        assert_eq!(live_only, [true, false, false, false]);
        assert_eq!(fs::read_to_string(&cursor).unwrap(), "three\n");
    }

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let mut pause = Pause(FIRST_PAUSE);
        let pauses: Vec<Duration> = (0..20).map(|_| pause.next().unwrap()).collect();
        assert!((FIRST_PAUSE / 2..=FIRST_PAUSE).contains(&pauses[0]));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        let long = &pauses[10..];
        assert!(long.iter().all(|pause| *pause >= LONGEST_PAUSE / 2));
        assert!(long.iter().any(|pause| *pause != long[0]));
    }

    #[test]
    fn a_cursor_file_is_made_when_the_first_cursor_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        assert_eq!(load_cursor(&path).unwrap(), "");
        replace_private(&path, b"abc\n").unwrap();
        assert_eq!(load_cursor(&path).unwrap(), "abc");
    }
}

//! HTTP/2 by hand, for what no client library would send: frames as bytes (RFC 9113) and header fields without compression
//! (RFC 7541).

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const NO_FLAG: u8 = 0;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// What every connection begins with.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest payload of a frame that every peer takes.
pub(crate) const FRAME_MAX: usize = 16_384;

/// Longer than anything here takes; a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// The PING that ends a flood: its answer says that everything before it was taken.
const LAST: &[u8; 8] = b"the last";

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A block of header fields.
pub(crate) fn fields<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    fields: impl IntoIterator<Item = (N, V)>,
) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // Literal without indexing, new name.
        block.push(0);
        push_text(&mut block, name.as_ref());
        push_text(&mut block, value.as_ref());
    }
    block
}

/// The head of a gRPC call, and whatever else is given.
pub(crate) fn call_fields<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields(usual.iter().chain(more).copied())
}

/// A message as gRPC frames it.
pub(crate) fn message(message: &impl prost::Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(encoded.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&encoded);
    bytes
}

fn push_text(block: &mut Vec<u8>, text: &[u8]) {
    const PREFIX_MAX: usize = 127;
    if text.len() < PREFIX_MAX {
        block.push(u8::try_from(text.len()).unwrap());
    } else {
        block.push(127);
        let mut rest = text.len() - PREFIX_MAX;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend_from_slice(text);
}

/// A frame that was received.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of an `RST_STREAM` or a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    fn is_answer_to(&self, opaque: &[u8; 8]) -> bool {
        self.kind == PING && self.flags & ACK != 0 && self.payload == opaque
    }
}

/// A connection that has begun as HTTP/2 does.
pub(crate) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// Connects, and sends preface and settings.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (reader, writer) = stream.into_split();
        let mut connection = Self {
            reader: BufReader::new(reader),
            writer,
        };
        connection.send(&opening()).await;
        connection
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    /// The next frame; none when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        next(&mut self.reader).await
    }

    /// The next frame of a kind; what comes before it is passed over.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Frame {
        next_of(&mut self.reader, kind).await
    }

    /// The next frame of a kind, which comes before the last of `chunks` is sent, each of them after a pause.
    pub(crate) async fn trickle_until(
        &mut self,
        kind: u8,
        chunks: impl Iterator<Item = Vec<u8>>,
        pause: Duration,
    ) -> Frame {
        let Self { reader, writer } = self;
        let sending = async {
            for chunk in chunks {
                sleep(pause).await;
                writer.write_all(&chunk).await.unwrap();
            }
        };
        // Begun once: who begins to read anew loses what was read of a frame.
        tokio::select! {
            frame = next_of(reader, kind) => frame,
            () = sending => panic!("everything was sent, and nothing of the kind has come"),
        }
    }

    /// Everything until a PING is answered: whatever the server had to say about what was sent before.
    pub(crate) async fn settle(&mut self) -> Vec<Frame> {
        self.send(&frame(PING, NO_FLAG, 0, LAST)).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            let frame = frame.unwrap_or_else(|| panic!("closed after {frames:?}"));
            if frame.is_answer_to(LAST) {
                return frames;
            }
            frames.push(frame);
        }
    }
}

/// What came of a flood.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether the server ended the connection.
    pub(crate) closed: bool,
    /// Whether everything could be sent.
    pub(crate) sent: bool,
    /// The code of its GOAWAY.
    pub(crate) goaway: Option<u32>,
    /// How many streams were answered or reset.
    pub(crate) answered: usize,
}

/// Sends all of `chunks` as fast as they are taken, reads all that comes, and says what came of it.
pub(crate) async fn flood(
    address: SocketAddr,
    chunks: impl IntoIterator<Item = Vec<u8>>,
) -> Outcome {
    let (reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let writing = async {
        writer.write_all(&opening()).await?;
        for chunk in chunks {
            writer.write_all(&chunk).await?;
        }
        writer.write_all(&frame(PING, NO_FLAG, 0, LAST)).await
    };
    let mut outcome = Outcome {
        closed: true,
        sent: false,
        goaway: None,
        answered: 0,
    };
    let reading = async {
        let mut reader = BufReader::new(reader);
        while let Some(frame) = read_frame(&mut reader).await {
            match frame.kind {
                GOAWAY => outcome.goaway = Some(frame.code()),
                HEADERS | RST_STREAM => outcome.answered += 1,
                _ if frame.is_answer_to(LAST) => {
                    outcome.closed = false;
                    return;
                }
                _ => {}
            }
        }
    };
    let both = async { tokio::join!(writing, reading) };
    let (written, ()) = timeout(PATIENCE, both).await.expect("the flood ends");
    outcome.sent = written.is_ok();
    outcome
}

fn opening() -> Vec<u8> {
    [&PREFACE[..], &frame(SETTINGS, NO_FLAG, 0, &[])].concat()
}

async fn next(reader: &mut BufReader<OwnedReadHalf>) -> Option<Frame> {
    let read = timeout(PATIENCE, read_frame(reader)).await;
    read.expect("something comes, or the end")
}

async fn next_of(reader: &mut BufReader<OwnedReadHalf>, kind: u8) -> Frame {
    loop {
        let frame = next(reader).await.expect("the connection is open");
        if frame.kind == kind {
            return frame;
        }
    }
}

async fn read_frame(reader: &mut BufReader<OwnedReadHalf>) -> Option<Frame> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    reader.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes(head[5..9].try_into().unwrap()),
        payload,
    })
}

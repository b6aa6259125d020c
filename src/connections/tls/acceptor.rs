//! From an accepted connection to one that can be spoken on: by a handshake, where there are certificates.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::Certificates;
use crate::connections::Stream;

/// How long a client that was refused may take to hear why.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How much it may say meanwhile.
const UNHEARD_MAX: u64 = 64 * 1024;

/// What is spoken inside TLS, as clients ask for it (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
}

/// How the connections of a listener begin. Clones are the same.
#[derive(Debug, Clone)]
pub struct Acceptor(Option<Arc<Handshakes>>);

#[derive(Debug)]
struct Handshakes {
    certificates: Certificates,
    protocol: Protocol,
    patience: Duration,
}

impl Acceptor {
    /// Takes connections as they come.
    pub fn plain() -> Self {
        Self(None)
    }

    /// Shakes hands on each, for `patience` at most, where there are certificates.
    pub fn new(certificates: Option<Certificates>, protocol: Protocol, patience: Duration) -> Self {
        Self(certificates.map(|certificates| {
            Arc::new(Handshakes {
                certificates,
                protocol,
                patience,
            })
        }))
    }

    /// The connection, ready to be spoken on. Fails where the handshake does, `TIMED_OUT` where it takes too long.
    pub(in crate::connections) async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let Some(handshakes) = &self.0 else {
            return Ok(Stream::Plain(stream));
        };
        // Boxed, so that it takes no room in the tasks of plaintext connections.
        Box::pin(handshakes.shake(stream)).await
    }
}

impl Handshakes {
    async fn shake(&self, stream: TcpStream) -> io::Result<Stream> {
        let acceptor = TlsAcceptor::from(self.certificates.current(self.protocol));
        let shaken = acceptor.accept(stream).into_fallible();
        match timeout(self.patience, shaken).await? {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err((error, stream)) => {
                let_go(stream).await;
                Err(error)
            }
        }
    }
}

/// The alert is sent. What the client has said beyond must be read, or the reset that follows would take the alert with it.
async fn let_go(mut stream: TcpStream) {
    let _late_or_gone = timeout(LAST_WORD, async {
        stream.shutdown().await?;
        let mut unheard = (&mut stream).take(UNHEARD_MAX);
        tokio::io::copy(&mut unheard, &mut tokio::io::sink()).await
    })
    .await;
}

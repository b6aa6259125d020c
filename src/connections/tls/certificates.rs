//! What handshakes are made with, and how it is renewed: the files are read every two seconds, whoever changes them and however,
//! and new connections get what they hold. Connections that are open go on.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::{Protocol, files::Files};
use crate::{
    config::TlsSettings,
    error::{Error, Result},
};

/// How often the files are read.
const LOOKING: Duration = Duration::from_secs(2);

/// The certificates in use. Clones are the same.
#[derive(Debug, Clone)]
pub struct Certificates {
    settings: TlsSettings,
    current: Arc<ArcSwap<Current>>,
}

/// How hands are shaken now.
pub(super) struct Current {
    pub(super) http1: Arc<ServerConfig>,
    pub(super) http2: Arc<ServerConfig>,
    /// Of the files that it was made from.
    pub(super) digest: [u8; 32],
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

impl Certificates {
    /// Reads what is configured; none where nothing is. `FIELD_INVALID` names the setting whose file cannot be used.
    pub fn read(settings: &TlsSettings) -> Result<Option<Self>> {
        let Some(files) = Files::read(settings)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            settings: settings.clone(),
            current: Arc::new(ArcSwap::from_pointee(files.usable()?)),
        }))
    }

    /// What the next handshake is made with.
    pub(super) fn current(&self, protocol: Protocol) -> Arc<ServerConfig> {
        let current = self.current.load();
        Arc::clone(match protocol {
            Protocol::Http1 => &current.http1,
            Protocol::Http2 => &current.http2,
        })
    }

    /// Takes over what the files hold whenever they have changed, until `stop`. What cannot be used changes nothing and is
    /// logged once.
    pub async fn follow(self, stop: CancellationToken) {
        let mut known = Ok(self.current.load().digest);
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOKING))
            .await
            .is_some()
        {
            let settings = self.settings.clone();
            // Files may lie on a disk that does not answer.
            let reading = tokio::task::spawn_blocking(move || read_again(&settings));
            let Some(Ok(read)) = stop.run_until_cancelled(reading).await else {
                continue;
            };
            let seen = match &read {
                Ok(files) => Ok(files.digest()),
                Err(error) => Err(error.message().to_owned()),
            };
            if seen == known {
                continue;
            }
            known = seen;
            self.renew(read);
        }
    }

    fn renew(&self, read: Result<Files>) {
        match read.and_then(|files| files.usable()) {
            Ok(renewed) => {
                self.current.store(Arc::new(renewed));
                tracing::info!("TLS certificates renewed");
            }
            Err(error) => tracing::error!(
                error.cause = %error,
                "the TLS files cannot be used; what they held before stays in use"
            ),
        }
    }
}

fn read_again(settings: &TlsSettings) -> Result<Files> {
    Files::read(settings)?.ok_or_else(|| Error::internal("TLS is not configured"))
}

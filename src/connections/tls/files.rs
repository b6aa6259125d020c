//! The files of TLS: PEM in, configurations of rustls out.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use zeroize::Zeroizing;

use super::{certificates::Current, names::WithGoodNames};
use crate::{
    config::TlsSettings,
    error::{Error, Result},
};

const CERTIFICATE: &str = "tls.certificate_file";
const KEY: &str = "tls.key_file";
const CLIENT_CA: &str = "tls.client_ca_file";

/// No chain is longer, nor is a list of authorities.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What the files hold.
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    /// None where none are configured.
    pub(super) fn read(settings: &TlsSettings) -> Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&settings.certificate_file, &settings.key_file)
        else {
            return Ok(None);
        };
        let client_ca = |path: &PathBuf| content(CLIENT_CA, path);
        let (certificate, key, client_ca) = (
            content(CERTIFICATE, certificate),
            secret_content(KEY, key),
            settings.client_ca_file.as_ref().map(client_ca).transpose(),
        );
        match (certificate, key, client_ca) {
            (Ok(certificate), Ok(key), Ok(client_ca)) => Ok(Some(Self {
                certificate,
                key,
                client_ca,
            })),
            (certificate, key, client_ca) => {
                let refusals = [certificate.err(), key.err(), client_ca.err()];
                Error::together(refusals.into_iter().flatten()).map_or(Ok(None), Err)
            }
        }
    }

    /// Tells whether they have changed.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let client_ca = self.client_ca.as_deref().unwrap_or_default();
        for part in [&self.certificate, self.key.as_slice(), client_ca] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        bytes
    }

    /// How hands are shaken with them.
    pub(super) fn usable(&self) -> Result<Current> {
        let provider = Arc::new(default_provider());
        let clients = match &self.client_ca {
            Some(pem) => client_verifier(pem, &provider)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let config = self.config(&provider, clients)?;
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Current {
            http1: speaking(b"http/1.1"),
            http2: speaking(b"h2"),
            digest: self.digest(),
        })
    }

    fn config(
        &self,
        provider: &Arc<CryptoProvider>,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<ServerConfig> {
        let chain = certificates(CERTIFICATE, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| Error::field(KEY, "holds no private key in PEM that is not encrypted"))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| Error::internal("TLS cannot be used").because(error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&error))?;
        // A session that is taken up again would bring back a client certificate that is no longer good.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn unusable(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => Error::field(
            KEY,
            format!("is not the key of the certificate in {CERTIFICATE}"),
        ),
        rustls::Error::InvalidCertificate(cause) => {
            Error::field(CERTIFICATE, format!("cannot be used: {cause}"))
        }
        other => Error::field(KEY, format!("cannot be used: {other}")),
    }
}

/// Takes clients with a certificate that one of these authorities has signed, for clients, and that is good now.
fn client_verifier(
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, pem)? {
        let added = authorities.add(certificate);
        added.map_err(|error| Error::field(CLIENT_CA, format!("cannot be used: {error}")))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(provider));
    let verifier = builder
        .build()
        .map_err(|error| Error::field(CLIENT_CA, format!("cannot be used: {error}")))?;
    Ok(Arc::new(WithGoodNames(verifier)))
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|error| Error::field(key, format!("is no PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(Error::field(key, "holds no certificate in PEM"));
    }
    Ok(certificates)
}

fn content(key: &str, path: &Path) -> Result<Vec<u8>> {
    read(key, path, File::open(path))
}

/// The same of a file that nobody else may read.
fn secret_content(key: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let opened = File::open(path);
    let mode = opened.as_ref().ok().and_then(|file| file.metadata().ok());
    if let Some(mode) = mode.map(|found| found.permissions().mode() & 0o7777)
        && mode != 0o400
        && mode != 0o600
    {
        let path = path.display();
        let told = format!("{path} has mode {mode:04o}, it must be 0400 or 0600");
        return Err(Error::field(key, told));
    }
    read(key, path, opened).map(Zeroizing::new)
}

fn read(key: &str, path: &Path, opened: std::io::Result<File>) -> Result<Vec<u8>> {
    let cannot = |why: &dyn std::fmt::Display| {
        Error::field(key, format!("{} cannot be read: {why}", path.display()))
    };
    let file = opened.map_err(|error| cannot(&error))?;
    if !file.metadata().map_err(|error| cannot(&error))?.is_file() {
        return Err(cannot(&"it is not a regular file"));
    }
    // As much room as it can take, so that no part of a key stays behind where the text has grown out of its place.
    let mut bytes = Vec::with_capacity(room(&file));
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(&error))?;
    Ok(bytes)
}

fn room(file: &File) -> usize {
    let length = file.metadata().map_or(0, |found| found.len());
    usize::try_from(length.min(MAX_FILE_BYTES)).unwrap_or_default() + 1
}

//! TLS, ended by the server itself: who gets in, what is refused, and what happens when the files change.

mod calls;
mod clients;
mod files;
mod handshakes;
mod rotation;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tempfile::TempDir;
use token_authority::{clock::Clock, config::Settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::support::{
    Engine, Server, TestDatabase,
    wire::{NO_FLAG, PREFACE, SETTINGS, frame},
};

const PATIENCE: Duration = Duration::from_secs(20);
const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const GET_KEYS: &[u8] = b"GET /.well-known/jwks.json HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// One that signs certificates.
struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate, with its authority's behind it, and its key; as PEM and as DER.
struct Issued {
    certificate: String,
    key: String,
    der: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, purpose: ExtendedKeyUsagePurpose) -> Issued {
        self.issue_with(purpose, |_| {})
    }

    fn issue_with(
        &self,
        purpose: ExtendedKeyUsagePurpose,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.extended_key_usages = vec![purpose];
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: [certificate.pem(), self.0.pem()].concat(),
            key: key.serialize_pem(),
            der: (
                certificate.der().clone(),
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            ),
        }
    }

    fn for_server(&self) -> Issued {
        self.issue(ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn for_client(&self) -> Issued {
        self.issue(ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A client that trusts this authority and speaks `versions`.
    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<Issued>,
        protocol: &[u8],
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        let mut client = match identity {
            Some(Issued {
                der: (certificate, key),
                ..
            }) => builder
                .with_client_auth_cert(vec![certificate], key)
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        if !protocol.is_empty() {
            client.alpn_protocols = vec![protocol.to_vec()];
        }
        client
    }
}

/// Where a server's certificate, its key and the authorities of clients lie.
struct Folder(TempDir);

impl Folder {
    fn with(issued: &Issued) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put(issued);
        folder
    }

    fn put(&self, issued: &Issued) {
        self.write("key", &issued.key);
        self.write("certificate", &issued.certificate);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        write(&self.path(name), text, 0o600);
        self.text(name)
    }

    fn configure(&self, settings: &mut Settings) {
        settings.tls.certificate_file = Some(self.path("certificate"));
        settings.tls.key_file = Some(self.path("key"));
        let clients = self.path("clients");
        settings.tls.client_ca_file = clients.exists().then_some(clients);
    }

    /// A server with what lies here.
    async fn serve(&self) -> Server {
        let database = TestDatabase::create(Engine::Sqlite).await.unwrap();
        let data = tempfile::tempdir().unwrap();
        Server::start_in(database, data, Clock::system(), |settings| {
            self.configure(settings);
        })
        .await
    }
}

/// As a rename puts it there: nobody reads half of it.
fn write(path: &Path, text: &str, mode: u32) {
    let aside = path.with_extension("new");
    fs::write(&aside, text).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(aside, path).unwrap();
}

async fn channel(address: SocketAddr, ca: &Ca) -> Channel {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.0.pem()));
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

async fn shake(address: SocketAddr, client: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    timeout(PATIENCE, connector.connect(name, stream)).await?
}

/// Says something and hears the beginning of the answer. What is refused after the handshake (TLS 1.3) shows here.
async fn hear(stream: &mut TlsStream<TcpStream>, said: &[u8]) -> io::Result<Vec<u8>> {
    let _refused = stream.write_all(said).await;
    let mut heard = Vec::with_capacity(16);
    timeout(PATIENCE, stream.read_buf(&mut heard)).await??;
    Ok(heard)
}

/// How an HTTP/2 client begins.
fn begin_http2() -> Vec<u8> {
    [&PREFACE[..], &frame(SETTINGS, NO_FLAG, 0, &[])].concat()
}

/// What the server presents to the next client.
async fn presented(address: SocketAddr, ca: &Ca) -> CertificateDer<'static> {
    let stream = shake(address, ca.client(BOTH, None, b"")).await.unwrap();
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

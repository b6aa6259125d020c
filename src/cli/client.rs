//! The way to the server: whose credential goes with a call, over which connection, for how long.

use std::{fs, path::Path, sync::OnceLock, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    cli::{
        failure::{Exit, Failure},
        options::Options,
        output::Output,
        secret,
        stored_login::LoginStore,
    },
    clock::Clock,
    proto::{
        RevocationEffect, api_key_service_client::ApiKeyServiceClient,
        audit_service_client::AuditServiceClient,
        revocation_service_client::RevocationServiceClient, role_service_client::RoleServiceClient,
        signing_key_service_client::SigningKeyServiceClient,
        space_service_client::SpaceServiceClient, system_service_client::SystemServiceClient,
        token_service_client::TokenServiceClient, user_service_client::UserServiceClient,
    },
};

/// An answer of 10 000 entries is larger than what tonic takes by itself.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) options: Options,
    pub(crate) output: Output,
    pub(crate) clock: Clock,
    /// What stdin held for --token-file: it can be read only once.
    from_stdin: OnceLock<SecretString>,
}

/// The caller's own token or API key.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) token: SecretString,
    /// Whether it is what `login` stored for the address.
    pub(crate) stored: bool,
}

impl Client {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            output: Output::new(&options),
            options,
            clock: Clock::system(),
            from_stdin: OnceLock::new(),
        }
    }

    /// The caller's credential: of --token-file, otherwise of the variable, otherwise the stored login's.
    pub(crate) fn credential(&self) -> Result<Credential, Failure> {
        if let Some(token) = self.given_token()? {
            return Ok(Credential {
                token,
                stored: false,
            });
        }
        let login = LoginStore::of_the_user()?.load(&self.options.address)?;
        match login {
            Some(login) => Ok(Credential {
                token: login.access_token.as_str().into(),
                stored: true,
            }),
            None => Err(Failure::new(
                Exit::Denied,
                format!(
                    "not signed in at {}: run `token-authority login`, or give a token by TOKEN_AUTHORITY_TOKEN or --token-file",
                    self.options.address
                ),
            )),
        }
    }

    /// The token that --token-file or the variable gives.
    pub(crate) fn given_token(&self) -> Result<Option<SecretString>, Failure> {
        match &self.options.token_file {
            Some(path) => self.token_in(path).map(Some),
            None => Ok(token_variable()),
        }
    }

    fn token_in(&self, path: &Path) -> Result<SecretString, Failure> {
        if let Some(token) = self.from_stdin.get() {
            return Ok(token.clone());
        }
        let token = secret::from_file(path)?;
        if path == Path::new("-") {
            return Ok(self.from_stdin.get_or_init(|| token).clone());
        }
        Ok(token)
    }

    /// A connection whose calls carry the caller's credential.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let bearer = bearer(&self.credential()?.token)?;
        self.open(Some(bearer)).await
    }

    /// A connection for methods that take no credential.
    pub(crate) async fn connect_anonymously(&self) -> Result<Connection, Failure> {
        self.open(None).await
    }

    async fn open(&self, bearer: Option<MetadataValue<Ascii>>) -> Result<Connection, Failure> {
        let channel = self
            .endpoint()?
            .connect()
            .await
            .map_err(|error| Failure::unreachable(&self.options.address, &error))?;
        Ok(Connection {
            channel,
            bearer,
            timeout: self.options.timeout,
        })
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let address = &self.options.address;
        let wrong = |error: tonic::transport::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            Failure::usage(format!(
                "--address {address}: {}",
                cause.unwrap_or_else(|| error.to_string())
            ))
        };
        let endpoint = Endpoint::from_shared(address.clone())
            .map_err(wrong)?
            .user_agent(concat!("token-authority/", env!("CARGO_PKG_VERSION")))
            .map_err(wrong)?
            .connect_timeout(self.options.timeout.min(Duration::from_secs(10)))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        match endpoint.uri().scheme_str() {
            Some("http") => Ok(endpoint),
            Some("https") => endpoint.tls_config(self.tls()?).map_err(wrong),
            _ => Err(Failure::usage(format!(
                "--address {address}: must begin with http:// or https://"
            ))),
        }
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.options.ca_file {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (
            &self.options.client_certificate_file,
            &self.options.client_key_file,
        ) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }

    /// Says so where a revocation is not known to have reached everybody. A caller that did not wait did not ask.
    pub(crate) fn require_effective(
        effect: Option<&RevocationEffect>,
        wait: Option<Duration>,
    ) -> Result<(), Failure> {
        let Some(effect) = effect else {
            return Ok(());
        };
        if effect.effective() || wait.is_some_and(|wait| wait.is_zero()) {
            return Ok(());
        }
        let message = format!(
            "revoked for good, but only {} of {} replicas are known to have applied it; run it again to wait anew",
            effect.replicas_applied, effect.replicas_total
        );
        Err(Failure::new(Exit::NotEffective, message))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "clap ties a variable to a flag, and a secret must not be a flag"
)]
fn token_variable() -> Option<SecretString> {
    let token = std::env::var("TOKEN_AUTHORITY_TOKEN").ok()?;
    (!token.is_empty()).then(|| token.into())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::file(path, &error))
}

fn bearer(token: &SecretString) -> Result<MetadataValue<Ascii>, Failure> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose_secret())
        .parse()
        .map_err(|_| Failure::usage("the caller's token holds characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection to the server.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    bearer: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

impl Connection {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel())
    }

    pub(crate) fn api_keys(&self) -> ApiKeyServiceClient<Channel> {
        ApiKeyServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel())
    }

    pub(crate) fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn revocations(&self) -> RevocationServiceClient<Channel> {
        RevocationServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn signing_keys(&self) -> SigningKeyServiceClient<Channel> {
        SigningKeyServiceClient::new(self.channel())
    }

    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel())
    }

    pub(crate) fn spaces(&self) -> SpaceServiceClient<Channel> {
        SpaceServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// 500 roles of 256 long permissions are many megabytes.
    pub(crate) fn roles(&self) -> RoleServiceClient<Channel> {
        RoleServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// A call that has to be answered within --timeout.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        self.waiting_request(message, None)
    }

    /// A call that the server may answer only after `wait`: it has that much, and a little more, even beyond --timeout.
    pub(crate) fn waiting_request<M>(&self, message: M, wait: Option<Duration>) -> Request<M> {
        let least = wait.map_or(Duration::ZERO, |wait| wait + Duration::from_secs(2));
        let mut request = self.endless_request(message);
        request.set_timeout(self.timeout.max(least));
        request
    }

    /// A call that is answered by a stream.
    pub(crate) fn endless_request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn client(line: &str) -> Client {
        Client::new(Cli::parse_from(line.split_whitespace()).options)
    }

    #[test]
    fn an_address_without_a_scheme_is_refused() {
        for address in ["localhost:50051", "ftp://localhost", "/run/socket"] {
            let client = client(&format!("token-authority whoami --address {address}"));
            let failure = client.endpoint().unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage, "{address}");
        }
        assert!(client("token-authority whoami").endpoint().is_ok());
    }

    #[test]
    fn a_token_does_not_show_in_what_is_debugged() {
        let value = bearer(&"eyJsecret".into()).unwrap();
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert!(bearer(&"two\nlines".into()).is_err());
    }

    #[test]
    fn a_revocation_that_is_not_effective_is_no_success_for_who_waited() {
        let effect = RevocationEffect {
            effective: Some(false),
            replicas_applied: 1,
            replicas_total: 2,
            ..Default::default()
        };
        let told = Client::require_effective(Some(&effect), None).unwrap_err();
        assert_eq!(told.exit(), Exit::NotEffective);
        assert!(Client::require_effective(Some(&effect), Some(Duration::ZERO)).is_ok());
        assert!(Client::require_effective(None, None).is_ok());
    }

    #[tokio::test]
    async fn a_call_that_waits_has_time_to() {
        let wait = Duration::from_secs(20);
        let connection = Connection {
            channel: Channel::from_static("http://127.0.0.1:1").connect_lazy(),
            bearer: None,
            timeout: Duration::from_secs(1),
        };
        let request = connection.waiting_request((), Some(wait));
        assert_eq!(request.metadata().get("grpc-timeout").unwrap(), "22000000u");
    }
}

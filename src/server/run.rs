//! Serving an authority: everything that calls reach is made here, once, and handed to whoever needs it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::layer::util::Stack;

use super::{Life, Listeners, Services, open, report, serve};
use crate::{
    authority::{Authority, audit, forgetting, last_use, signing_keys::rotation},
    background::Background,
    clock::Clock,
    config::Settings,
    error::Result,
    grpc::{
        api_key_service::ApiKeys, audit_service::Audit, authentication::AuthenticationLayer,
        direct::DirectLayer, revocation_service::Revocations, role_service::Roles,
        signing_key_service::SigningKeys, space_service::Spaces, system_service::System,
        token_service::Tokens, user_service::Users,
    },
    http::jwks::{JwksDocument, JwksSource},
    proto::{
        api_key_service_server::ApiKeyServiceServer, audit_service_server::AuditServiceServer,
        revocation_service_server::RevocationServiceServer, role_service_server::RoleServiceServer,
        signing_key_service_server::SigningKeyServiceServer,
        space_service_server::SpaceServiceServer, system_service_server::SystemServiceServer,
        token_service_server::TokenServiceServer, user_service_server::UserServiceServer,
    },
    shutdown::Shutdown,
};

/// The largest request that carries tokens, in bytes.
const TOKENS_MAX: usize = 3 * 1024 * 1024;
/// The largest of any other.
const REQUEST_MAX: usize = 64 * 1024;
/// How often it is looked whether calls can be answered.
const READINESS: Duration = Duration::from_millis(250);

/// Runs the server until `shutdown`. Fails where it cannot start.
pub async fn run(
    settings: Settings,
    listeners: Listeners,
    shutdown: Shutdown,
    clock: Clock,
) -> Result<()> {
    let life = Life::default();
    let authority = open(&settings, clock, &life.background).await?;
    run_with(authority, &settings, listeners, shutdown, life).await
}

/// Serves an authority that is open until `shutdown`, and closes it.
pub async fn run_with(
    authority: Arc<Authority>,
    settings: &Settings,
    listeners: Listeners,
    shutdown: Shutdown,
    life: Life,
) -> Result<()> {
    work_in_background(&authority, &life, &shutdown);
    let authentication = AuthenticationLayer::new(Arc::clone(&authority));
    let services = Services {
        grpc: routes(&authority, settings, &life),
        authentication: Stack::new(direct(&authority), authentication),
        jwks: publish_keys(&authority, &life.background),
    };
    let served = serve(settings, listeners, shutdown, life, services).await;
    authority.db.close().await;
    served
}

fn work_in_background(authority: &Arc<Authority>, life: &Life, shutdown: &Shutdown) {
    let background = &life.background;
    let of = || Arc::clone(authority);
    background.begin("last use", |stop| last_use::write_regularly(of(), stop));
    background.begin("forgetting", |stop| {
        forgetting::forget_regularly(of(), stop)
    });
    background.begin("report", |stop| report::report_regularly(of(), stop));
    background.begin("rotation", |stop| rotation::rotate_regularly(of(), stop));
    background.begin("audit", |stop| audit::keeping::keep(of(), stop));
    let (ready, shutdown) = (life.ready.clone(), shutdown.clone());
    background.begin("readiness", |stop| watch_over(of(), ready, shutdown, stop));
}

/// `TokenService`, which does without the routes of the others.
fn direct(authority: &Arc<Authority>) -> DirectLayer<TokenServiceServer<Tokens>> {
    let tokens = TokenServiceServer::new(Tokens(Arc::clone(authority)));
    DirectLayer::new(tokens.max_decoding_message_size(TOKENS_MAX))
}

fn routes(authority: &Arc<Authority>, settings: &Settings, life: &Life) -> Routes {
    let (draining, tasks) = (life.draining.clone(), life.background.tasks().clone());
    let keys = ApiKeyServiceServer::new(ApiKeys(Arc::clone(authority)));
    let users = UserServiceServer::new(Users(Arc::clone(authority)));
    let spaces = SpaceServiceServer::new(Spaces(Arc::clone(authority)));
    let roles = RoleServiceServer::new(Roles(Arc::clone(authority)));
    let revocations = Revocations::new(Arc::clone(authority), draining.clone(), tasks.clone());
    let revocations = RevocationServiceServer::new(revocations);
    let signing_keys =
        SigningKeyServiceServer::new(SigningKeys::new(Arc::clone(authority), draining, tasks));
    let audit = AuditServiceServer::new(Audit(Arc::clone(authority)));
    let system = SystemServiceServer::new(System::new(authority, limits(settings)));
    Routes::new(keys.max_decoding_message_size(REQUEST_MAX))
        .add_service(users.max_decoding_message_size(REQUEST_MAX))
        .add_service(spaces.max_decoding_message_size(REQUEST_MAX))
        .add_service(roles.max_decoding_message_size(REQUEST_MAX))
        .add_service(revocations.max_decoding_message_size(REQUEST_MAX))
        .add_service(signing_keys.max_decoding_message_size(REQUEST_MAX))
        .add_service(audit.max_decoding_message_size(REQUEST_MAX))
        .add_service(system.max_decoding_message_size(REQUEST_MAX))
}

/// What a client may run into, of what is settled here; spans in seconds.
fn limits(settings: &Settings) -> BTreeMap<String, String> {
    let limits = &settings.limits;
    [
        ("request_bytes_max", REQUEST_MAX.to_string()),
        ("token_request_bytes_max", TOKENS_MAX.to_string()),
        (
            "request_timeout_seconds",
            limits.request_timeout.as_secs_f64().to_string(),
        ),
        (
            "connection_age_seconds",
            limits.connection_age.as_secs_f64().to_string(),
        ),
        (
            "connections_per_address_max",
            limits.connections_per_address.to_string(),
        ),
        (
            "streams_per_connection_max",
            limits.streams_per_connection.to_string(),
        ),
    ]
    .into_iter()
    .map(|(name, limit)| (name.to_owned(), limit))
    .collect()
}

/// The public keys as HTTP serves them, renewed whenever they change.
fn publish_keys(authority: &Arc<Authority>, background: &Background) -> JwksSource {
    let document = |authority: &Authority| {
        Some(Arc::new(JwksDocument::new(
            authority.keyring.published().jwks_json.to_string(),
        )))
    };
    let (sender, source) = watch::channel(document(authority));
    let mut changes = authority.keyring.changes();
    let authority = Arc::clone(authority);
    background.begin("key set", |stop| async move {
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            sender.send_replace(document(&authority));
        }
    });
    source
}

/// Ready while calls can be answered from memory, until `shutdown`: from then on the server is what it is said to be.
async fn watch_over(
    authority: Arc<Authority>,
    known: watch::Sender<bool>,
    shutdown: Shutdown,
    stop: CancellationToken,
) {
    let watching = async {
        loop {
            let ready = authority.log.is_current();
            known.send_if_modified(|known| std::mem::replace(known, ready) != ready);
            tokio::time::sleep(READINESS).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.asked() => {}
        () = watching => {}
    }
    stop.cancelled().await;
}

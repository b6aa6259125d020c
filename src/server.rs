//! The server as a whole: whether it would start ([`check`]), how it is put together ([`open()`], [`run()`]), what it listens on, what it
//! serves there, and how it ends.

mod audit;
mod check;
mod open;
mod recover;
mod report;
mod restore;
mod run;

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tower::Layer;

use crate::{
    background::Background,
    config::{Listen, Settings, variable_of},
    connections::{
        Ending, Seats,
        tls::{Acceptor, Certificates, Protocol},
    },
    error::{Error, Result},
    grpc::{self, layers::LayerSettings, transport::TransportSettings},
    http::{self, jwks::JwksSource},
    shutdown::Shutdown,
    telemetry::metrics,
};

pub use audit::verify_audit;
pub use check::check;
pub use open::{database_settings, hashing_settings, open};
pub use recover::recover;
pub use restore::{Kept, restore};
pub use run::{run, run_with};

/// How often histograms are folded.
const FOLDING: Duration = Duration::from_secs(5);
/// What is left of the time when connections have been cut, for their tasks to notice.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// Probes and scrapes are few.
const OPS_CONNECTIONS: usize = 256;
const OPS_CONNECTIONS_PER_ADDRESS: usize = 64;

/// Sockets that are bound and not served yet, and the certificates that clients will see there.
#[derive(Debug)]
pub struct Listeners {
    grpc: Option<TcpListener>,
    http: Option<TcpListener>,
    ops: Option<TcpListener>,
    certificates: Option<Certificates>,
}

impl Listeners {
    /// Binds what is not off. The error names setting, address, and the variable that changes it; or the setting whose file is
    /// of no use for TLS.
    pub async fn bind(settings: &Settings) -> Result<Self> {
        Ok(Self {
            certificates: Certificates::read(&settings.tls)?,
            grpc: bind("grpc.listen", settings.grpc.listen).await?,
            http: bind("http.listen", settings.http.listen).await?,
            ops: bind("ops.listen", settings.ops.listen).await?,
        })
    }

    /// Where gRPC is served.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        address_of(self.grpc.as_ref())
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        address_of(self.http.as_ref())
    }

    /// Where operators' tools are served.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        address_of(self.ops.as_ref())
    }

    fn announce(&self) {
        let at = |address: Option<SocketAddr>| {
            address.map_or_else(|| "off".to_owned(), |address| address.to_string())
        };
        let (grpc, http, ops) = (
            at(self.grpc_address()),
            at(self.http_address()),
            at(self.ops_address()),
        );
        tracing::info!(
            listen.grpc = grpc,
            listen.http = http,
            listen.ops = ops,
            listen.tls = self.certificates.is_some(),
            "listening"
        );
    }
}

async fn bind(key: &str, listen: Listen) -> Result<Option<TcpListener>> {
    let Some(address) = listen.address() else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|error| {
        let variable = variable_of(key);
        Error::field(
            key,
            format!("cannot listen at {address}: {error}; {variable} sets another address"),
        )
    })
}

fn address_of(listener: Option<&TcpListener>) -> Option<SocketAddr> {
    listener.and_then(|listener| listener.local_addr().ok())
}

/// What the parts of a server go by in its life. Made before the services, which hold clones of its parts.
#[derive(Debug)]
pub struct Life {
    /// Cancelled when the server begins to end: streams of the contract say `closing`.
    pub draining: CancellationToken,
    /// Told to stop when no call is left.
    pub background: Background,
    /// Whether calls are answered; false until somebody says so, and again while draining.
    pub ready: watch::Sender<bool>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            draining: CancellationToken::new(),
            background: Background::default(),
            ready: watch::Sender::new(false),
        }
    }
}

/// What is served.
#[derive(Debug)]
pub struct Services<L> {
    /// The services of the contract.
    pub grpc: Routes,
    /// Stands between the layers and the services: authentication.
    pub authentication: L,
    /// The key set.
    pub jwks: JwksSource,
}

/// Serves until `shutdown`, then ends within `settings.shutdown.timeout`: not ready → pause → streams end and clients are
/// asked to leave → calls finish → background work stops; what is left at the end of that time is cut. The caller closes the
/// database afterwards. It ends in the same way, and fails, where work in the background was lost.
pub async fn serve<L>(
    settings: &Settings,
    listeners: Listeners,
    shutdown: Shutdown,
    life: Life,
    services: Services<L>,
) -> Result<()>
where
    L: Layer<Routes>,
    L::Service: grpc::layers::Calls,
{
    let ending = Ending {
        draining: life.draining.clone(),
        ..Ending::default()
    };
    let calls = TaskTracker::new();
    listeners.announce();
    start(settings, listeners, &life, services, &ending, &calls).await?;
    tokio::select! {
        () = shutdown.asked() => {}
        () = life.background.lost() => {}
    }
    tracing::info!("ending");
    tokio::select! {
        () = shutdown.insisted() => tracing::warn!("ending at once"),
        () = end(settings, &life, &ending, &calls) => {}
    }
    ending.draining.cancel();
    ending.cut.cancel();
    life.background.stop();
    let _late = tokio::time::timeout(LAST_MOMENT, async {
        ending.tasks.wait().await;
        life.background.ended().await;
    })
    .await;
    tracing::info!("ended");
    life.background.require_whole()
}

async fn start<L>(
    settings: &Settings,
    listeners: Listeners,
    life: &Life,
    services: Services<L>,
    ending: &Ending,
    calls: &TaskTracker,
) -> Result<()>
where
    L: Layer<Routes>,
    L::Service: grpc::layers::Calls,
{
    let limits = &settings.limits;
    let seats = |listener, total, one| {
        let gauge = ::metrics::gauge!(metrics::CONNECTIONS, "listener" => listener);
        Seats::new(total, one, gauge)
    };
    let clients = |listener| seats(listener, limits.connections, limits.connections_per_address);
    let certificates = listeners.certificates;
    let acceptor =
        |protocol| Acceptor::new(certificates.clone(), protocol, limits.first_byte_timeout);
    if let Some(listener) = listeners.grpc {
        let routes = grpc::reflection::add_to(services.grpc)?;
        let routes = with_health(routes, life).await;
        let layers = LayerSettings {
            in_flight: limits.in_flight,
            request_timeout: limits.request_timeout,
            calls: calls.clone(),
            draining: ending.draining.clone(),
        };
        let inner = services.authentication.layer(routes.prepare());
        let transport = TransportSettings {
            streams_max: limits.streams_per_connection,
            first_byte_timeout: limits.first_byte_timeout,
            connection_age: limits.connection_age,
        };
        let calls = grpc::layers::around(inner, &layers);
        let served = grpc::transport::serve(
            listener,
            acceptor(Protocol::Http2),
            calls,
            transport,
            clients("grpc"),
            ending.clone(),
        );
        listen(life, ending, "grpc listener", served);
    }
    if let Some(listener) = listeners.http {
        let router = http::jwks::routes(services.jwks);
        let patience = limits.first_byte_timeout;
        let served = http::serve::serve(
            listener,
            acceptor(Protocol::Http1),
            router,
            patience,
            clients("http"),
            ending.clone(),
        );
        listen(life, ending, "http listener", served);
    }
    if let Some(listener) = listeners.ops {
        let router = http::ops::routes(life.ready.subscribe());
        let seats = seats("ops", OPS_CONNECTIONS, OPS_CONNECTIONS_PER_ADDRESS);
        let patience = limits.first_byte_timeout;
        let plain = Acceptor::plain();
        let served = http::serve::serve(listener, plain, router, patience, seats, ending.clone());
        listen(life, ending, "ops listener", served);
    }
    work_in_background(life, certificates);
    Ok(())
}

fn listen(
    life: &Life,
    ending: &Ending,
    name: &'static str,
    served: impl Future<Output = ()> + Send + 'static,
) {
    let draining = ending.draining.clone();
    ending
        .tasks
        .spawn(life.background.watched(name, draining, served));
}

async fn with_health(routes: Routes, life: &Life) -> Routes {
    let (routes, reporter) = grpc::health::add_to(routes).await;
    let health = grpc::health::follow(reporter, life.ready.subscribe());
    life.background.begin("health", |stop| async move {
        stop.run_until_cancelled(health).await;
    });
    routes
}

fn work_in_background(life: &Life, certificates: Option<Certificates>) {
    life.background.begin("metrics", |stop| async move {
        stop.run_until_cancelled(fold_for_ever()).await;
    });
    if let Some(certificates) = certificates {
        let follow = |stop| certificates.follow(stop);
        life.background.begin("certificates", follow);
    }
}

async fn fold_for_ever() {
    loop {
        tokio::time::sleep(FOLDING).await;
        metrics::fold();
    }
}

/// The polite end. Returns when everything is done, or the time is up.
async fn end(settings: &Settings, life: &Life, ending: &Ending, calls: &TaskTracker) {
    let by = Instant::now() + settings.shutdown.timeout;
    life.ready.send_replace(false);
    let finished = tokio::time::timeout_at(by, async {
        tokio::time::sleep(settings.shutdown.pause).await;
        ending.draining.cancel();
        ending.tasks.close();
        ending.tasks.wait().await;
        // Calls that nobody waits for any more, too, before what they work with goes away.
        calls.close();
        calls.wait().await;
        life.background.stop();
        life.background.ended().await;
    })
    .await;
    if finished.is_err() {
        tracing::warn!(
            calls.abandoned = calls.len(),
            connections.tasks = ending.tasks.len(),
            "the time is up; what is left is cut"
        );
    }
}

#[cfg(test)]
mod tests;

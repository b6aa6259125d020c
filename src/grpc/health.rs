//! Health (grpc.health.v1): every service of the contract, and the empty name for all of them, follow the server's readiness.

use std::collections::BTreeSet;

use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, health_reporter},
};

use crate::proto;

/// Adds the service to `routes`, not serving yet; the reporter is for [`follow`].
pub async fn add_to(routes: Routes) -> (Routes, HealthReporter) {
    let (reporter, service) = health_reporter();
    report(&reporter, false).await;
    (routes.add_service(service), reporter)
}

/// Reports what `ready` says, until nobody can change it any more.
pub async fn follow(reporter: HealthReporter, mut ready: watch::Receiver<bool>) {
    loop {
        let now = *ready.borrow_and_update();
        report(&reporter, now).await;
        if ready.changed().await.is_err() {
            return report(&reporter, false).await;
        }
    }
}

async fn report(reporter: &HealthReporter, ready: bool) {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    let services: BTreeSet<&str> = proto::METHODS
        .iter()
        .filter_map(|path| path.split('/').nth(1))
        .collect();
    for service in std::iter::once("").chain(services) {
        reporter.set_service_status(service, status).await;
    }
}

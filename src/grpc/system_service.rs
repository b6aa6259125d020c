//! `SystemService`: the server itself, and the others over its database.

use std::{collections::BTreeMap, sync::Arc};

use tonic::{Request, Response, Status, async_trait};

use super::convert;
use crate::{
    authority::{Authority, api_keys, tokens},
    domain::{jwt, standing::MAX_TOKEN_TTL},
    error::Result,
    log::Replica,
    proto::{self, system_service_server::SystemService},
    storage::Engine,
};

/// The service.
#[derive(Debug, Clone)]
pub struct System {
    authority: Arc<Authority>,
    info: proto::GetServerInfoResponse,
}

impl System {
    /// Describes a server by its authority and by `limits`, to which those of the methods are added.
    pub fn new(authority: &Arc<Authority>, limits: BTreeMap<String, String>) -> Self {
        let database = match authority.db.engine() {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        };
        let info = proto::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("TOKEN_AUTHORITY_COMMIT")
                .unwrap_or_default()
                .to_owned(),
            issuer: authority.issuer.to_string(),
            database: database.to_owned(),
            limits: limits.into_iter().chain(limits_of_methods()).collect(),
        };
        Self {
            authority: Arc::clone(authority),
            info,
        }
    }
}

/// What the methods take at most; spans in seconds.
fn limits_of_methods() -> impl Iterator<Item = (String, String)> {
    [
        ("batch_introspect_max", convert::BATCH_MAX as u64),
        ("token_bytes_max", jwt::MAX_PRESENTED_BYTES as u64),
        ("issued_token_bytes_max", jwt::MAX_MADE_BYTES as u64),
        ("token_ttl_seconds_max", MAX_TOKEN_TTL.as_secs()),
        (
            "token_overlap_seconds_max",
            tokens::rotate::MAX_OVERLAP.as_secs(),
        ),
        (
            "api_key_overlap_seconds_max",
            api_keys::rotate::MAX_OVERLAP.as_secs(),
        ),
        ("wait_seconds_max", convert::MAX_WAIT.as_secs()),
        ("page_size_max", convert::PAGE_MAX as u64),
    ]
    .into_iter()
    .map(|(name, limit)| (name.to_owned(), limit.to_string()))
}

#[async_trait]
impl SystemService for System {
    async fn get_server_info(
        &self,
        _: Request<proto::GetServerInfoRequest>,
    ) -> Result<Response<proto::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn list_replicas(
        &self,
        _: Request<proto::ListReplicasRequest>,
    ) -> Result<Response<proto::ListReplicasResponse>, Status> {
        let replicas = self.authority.log.replicas().await?;
        Ok(Response::new(proto::ListReplicasResponse {
            replicas: replicas.into_iter().map(replica).collect(),
        }))
    }
}

fn replica(replica: Replica) -> proto::Replica {
    proto::Replica {
        replica_id: replica.id.as_str().to_owned(),
        name: replica.name,
        self_: replica.this,
        applied_position: replica.applied.0,
        lag: replica.lag,
        beat_age: Some(convert::duration(replica.beat_age)),
        fenced: replica.fenced,
    }
}

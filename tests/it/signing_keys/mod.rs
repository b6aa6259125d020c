//! The keys that sign: what can be done with them, and what becomes of the tokens that they signed.

mod automatic;
mod elsewhere;
mod killing;
mod listing;
mod master_keys;
mod steps;
mod unknown;
mod verifiers;

use std::time::Duration;

use token_authority::{
    authority::signing_keys::rotation,
    proto::{self, SigningKeyState as State},
};
use tonic::{Response, Status};

use crate::support::{Server, as_caller, claims_of};

/// As long as a key is published before it may sign.
const NOTICE: Duration = Duration::from_mins(10);
const DAY: Duration = Duration::from_hours(24);

impl Server {
    /// `ListSigningKeys`, all of them, newest first.
    async fn keys(&self, caller: &str) -> Vec<proto::SigningKey> {
        let request = proto::ListSigningKeysRequest {
            page_size: 500,
            ..Default::default()
        };
        let mut client = self.signing_keys().await;
        let listed = client.list_signing_keys(as_caller(caller, request)).await;
        listed.unwrap().into_inner().signing_keys
    }

    /// The ids of the keys in a state, newest first.
    async fn ids(&self, caller: &str, state: State) -> Vec<String> {
        let mut keys = self.keys(caller).await;
        keys.retain(|key| key.state() == state);
        keys.into_iter().map(|key| key.signing_key_id).collect()
    }

    /// The one key in a state.
    async fn id(&self, caller: &str, state: State) -> String {
        let mut ids = self.ids(caller, state).await;
        assert_eq!(ids.len(), 1, "{state:?}: {ids:?}");
        ids.remove(0)
    }

    /// One key as it stands.
    async fn key_of(&self, caller: &str, id: &str) -> proto::SigningKey {
        let mut keys = self.keys(caller).await.into_iter();
        keys.find(|key| key.signing_key_id == id).unwrap()
    }

    /// `PrepareSigningKey`.
    async fn prepare(
        &self,
        caller: &str,
        algorithm: proto::SigningAlgorithm,
    ) -> Result<proto::SigningKey, Status> {
        let request = proto::PrepareSigningKeyRequest {
            algorithm: algorithm.into(),
        };
        let mut client = self.signing_keys().await;
        let made = client.prepare_signing_key(as_caller(caller, request));
        Ok(made.await?.into_inner().signing_key.unwrap())
    }

    /// `ActivateSigningKey`.
    async fn activate(
        &self,
        caller: &str,
        id: &str,
        force: bool,
    ) -> Result<proto::SigningKey, Status> {
        let request = proto::ActivateSigningKeyRequest {
            signing_key_id: id.to_owned(),
            force,
        };
        let mut client = self.signing_keys().await;
        let active = client.activate_signing_key(as_caller(caller, request));
        Ok(active.await?.into_inner().signing_key.unwrap())
    }

    /// `RevokeSigningKey`.
    async fn revoke_signing_key(
        &self,
        caller: &str,
        id: &str,
    ) -> Result<proto::RevokeSigningKeyResponse, Status> {
        let request = proto::RevokeSigningKeyRequest {
            signing_key_id: id.to_owned(),
            wait: None,
        };
        let mut client = self.signing_keys().await;
        let revoked = client.revoke_signing_key(as_caller(caller, request));
        revoked.await.map(Response::into_inner)
    }

    /// What the task does every minute.
    async fn rotate_keys(&self) {
        rotation::rotate(&self.authority).await.unwrap();
    }

    /// The published set, as gRPC tells it.
    async fn jwks(&self) -> String {
        let mut client = self.signing_keys().await;
        let told = client.get_jwks(proto::GetJwksRequest {}).await;
        told.unwrap().into_inner().jwks_json
    }
}

/// The `kid` of a token.
fn kid_of(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap());
    let header: serde_json::Value = serde_json::from_slice(&header.unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// When a token expires, in seconds since 1970.
fn expiry_of(token: &str) -> i64 {
    claims_of(token)["exp"].as_i64().unwrap()
}

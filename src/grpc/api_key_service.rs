//! `ApiKeyService`: long-lived opaque keys.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status, async_trait};

use super::{authentication::caller_of, convert};
use crate::{
    authority::{
        Authority,
        api_keys::{
            create::{self, Wanted},
            read::{self, Filter},
            revoke,
            rotate::{self, DEFAULT_OVERLAP, MAX_OVERLAP},
            update::{self, Changes},
        },
        idempotency,
    },
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, Bounds, KeyPrefix, State, hint},
        permission::PermissionSet,
    },
    error::{Error, Result},
    proto::{self, api_key_service_server::ApiKeyService},
};

/// The service.
#[derive(Debug, Clone)]
pub struct ApiKeys(pub Arc<Authority>);

#[async_trait]
impl ApiKeyService for ApiKeys {
    async fn create_api_key(
        &self,
        request: Request<proto::CreateApiKeyRequest>,
    ) -> Result<Response<proto::CreateApiKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let remembered = idempotency::Request::of_caller(&caller, "CreateApiKey", &key, &request)?;
        let wanted = wanted(request)?;
        let minted = create::create(&self.0, &caller, wanted, remembered).await?;
        let granted = read::granted(&self.0, &minted.key).await?;
        Ok(Response::new(proto::CreateApiKeyResponse {
            api_key: Some(self.described(minted.key)),
            api_key_token: minted.token.expose().to_string(),
            granted_scopes: granted.to_strings(),
        }))
    }

    async fn get_api_key(
        &self,
        request: Request<proto::GetApiKeyRequest>,
    ) -> Result<Response<proto::GetApiKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let key = read::get(&self.0, &caller, &request.get_ref().api_key_id).await?;
        Ok(Response::new(proto::GetApiKeyResponse {
            api_key: Some(self.described(key)),
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<proto::ListApiKeysRequest>,
    ) -> Result<Response<proto::ListApiKeysResponse>, Status> {
        let caller = caller_of(&request)?;
        let mut request = request.into_inner();
        let page_token = std::mem::take(&mut request.page_token);
        let page_size = std::mem::take(&mut request.page_size);
        let wanted = convert::page(&caller, "ListApiKeys", page_size, &page_token, &request)?;
        let page = read::list(&self.0, &caller, filter(request)?, &wanted).await?;
        Ok(Response::new(proto::ListApiKeysResponse {
            api_keys: page
                .rows
                .into_iter()
                .map(|key| self.described(key))
                .collect(),
            next_page_token: page.next,
        }))
    }

    async fn update_api_key(
        &self,
        request: Request<proto::UpdateApiKeyRequest>,
    ) -> Result<Response<proto::UpdateApiKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let key = given(request.api_key)?;
        let changes = changes(&key, &convert::mask(request.update_mask)?)?;
        let named = convert::required(&key.api_key_id, "api_key.api_key_id")?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let (key, effect) = update::update(&self.0, &caller, named, changes, until).await?;
        let granted = read::granted(&self.0, &key).await?;
        Ok(Response::new(proto::UpdateApiKeyResponse {
            api_key: Some(self.described(key)),
            effect: effect.map(convert::effect),
            granted_scopes: granted.to_strings(),
        }))
    }

    async fn rotate_api_key(
        &self,
        request: Request<proto::RotateApiKeyRequest>,
    ) -> Result<Response<proto::RotateApiKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let overlap = convert::span(request.overlap, "overlap", Duration::ZERO, MAX_OVERLAP)?;
        let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
        let remembered = idempotency::Request::of_caller(&caller, "RotateApiKey", &key, &request)?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let named = &request.api_key_id;
        let rotated = rotate::rotate(&self.0, &caller, named, overlap, remembered, until).await?;
        Ok(Response::new(proto::RotateApiKeyResponse {
            api_key: Some(self.described(rotated.minted.key)),
            api_key_token: rotated.minted.token.expose().to_string(),
            effect: rotated.effect.map(convert::effect),
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<proto::RevokeApiKeyRequest>,
    ) -> Result<Response<proto::RevokeApiKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let until = caller.call.wait_until(convert::wait(request.wait)?);
        let reason = request.reason();
        let (key, effect) =
            revoke::revoke(&self.0, &caller, &request.api_key_id, reason, until).await?;
        Ok(Response::new(proto::RevokeApiKeyResponse {
            api_key: Some(self.described(key)),
            effect: effect.map(convert::effect),
        }))
    }
}

impl ApiKeys {
    fn described(&self, key: ApiKey) -> proto::ApiKey {
        let now = self.0.clock.now();
        let state = key.state(now);
        // A deadline that has passed is no deadline of anything.
        let previous = key
            .previous_secret_expire_time
            .filter(|deadline| *deadline > now);
        proto::ApiKey {
            api_key_id: key.id.to_string(),
            space_id: key.space_id.to_string(),
            user_id: key.user_id.to_string(),
            display_name: key.display_name,
            description: key.description,
            roles: key.bounds.roles.iter().map(ToString::to_string).collect(),
            scopes: key.bounds.scopes.to_strings(),
            audiences: key.bounds.audiences,
            allowed_cidrs: key
                .bounds
                .allowed_cidrs
                .iter()
                .map(ToString::to_string)
                .collect(),
            labels: key.labels.into_iter().collect(),
            disabled: key.disabled,
            expire_time: key.bounds.expire_time.map(convert::timestamp),
            state: state.into(),
            hint: hint(&KeyPrefix::known(key.prefix), &key.id),
            create_time: Some(convert::timestamp(key.create_time)),
            update_time: Some(convert::timestamp(key.update_time)),
            last_use_time: key.last_use_time.map(convert::timestamp),
            last_use_address: key.last_use_address.unwrap_or_default(),
            previous_secret_expire_time: previous.map(convert::timestamp),
            previous_secret_last_use_time: previous
                .and(key.previous_secret_last_use_time)
                .map(convert::timestamp),
            revoke_time: key.revoke_time.map(convert::timestamp),
        }
    }
}

fn given(key: Option<proto::ApiKey>) -> Result<proto::ApiKey> {
    key.ok_or_else(|| Error::field("api_key", "is required"))
}

fn wanted(request: proto::CreateApiKeyRequest) -> Result<Wanted> {
    let key = given(request.api_key)?;
    display_name(&key)?;
    convert::text(&key.description, "api_key.description", 1024)?;
    let bounds = Bounds {
        roles: convert::role_names(&key.roles, "api_key.roles")?,
        scopes: scopes(&key)?,
        audiences: convert::audiences(&key.audiences, "api_key.audiences")?,
        allowed_cidrs: convert::networks(&key.allowed_cidrs, "api_key.allowed_cidrs")?,
        expire_time: convert::moment(key.expire_time, "api_key.expire_time")?,
    };
    if request.no_expiry && bounds.expire_time.is_some() {
        return Err(Error::field(
            "no_expiry",
            "must not be set together with an expiry",
        ));
    }
    Ok(Wanted {
        bounds,
        no_expiry: request.no_expiry,
        labels: convert::labels(&key.labels, "api_key.labels")?,
        disabled: key.disabled,
        space: key.space_id,
        user: key.user_id,
        display_name: key.display_name,
        description: key.description,
    })
}

fn display_name(key: &proto::ApiKey) -> Result<()> {
    if key.display_name.trim().is_empty() {
        return Err(Error::field("api_key.display_name", "is required"));
    }
    convert::text(&key.display_name, "api_key.display_name", 63)
}

fn scopes(key: &proto::ApiKey) -> Result<PermissionSet> {
    convert::at_most(&key.scopes, "api_key.scopes", 256)?;
    PermissionSet::parse(&key.scopes, "api_key.scopes")
}

/// What a mask names. INVALID_ARGUMENT for a field that cannot be changed.
fn changes(key: &proto::ApiKey, paths: &[String]) -> Result<Changes> {
    let mut changes = Changes::default();
    for path in paths {
        match path.as_str() {
            "display_name" => {
                display_name(key)?;
                changes.display_name = Some(key.display_name.clone());
            }
            "description" => {
                convert::text(&key.description, "api_key.description", 1024)?;
                changes.description = Some(key.description.clone());
            }
            "roles" => changes.roles = Some(convert::role_names(&key.roles, "api_key.roles")?),
            "scopes" => changes.scopes = Some(scopes(key)?),
            "audiences" => {
                changes.audiences = Some(convert::audiences(&key.audiences, "api_key.audiences")?);
            }
            "allowed_cidrs" => {
                let networks = convert::networks(&key.allowed_cidrs, "api_key.allowed_cidrs")?;
                changes.allowed_cidrs = Some(networks);
            }
            "labels" => changes.labels = Some(convert::labels(&key.labels, "api_key.labels")?),
            "disabled" => changes.disabled = Some(key.disabled),
            "expire_time" => {
                let expiry = convert::moment(key.expire_time, "api_key.expire_time")?;
                changes.expire_time = Some(expiry);
            }
            other => return Err(convert::unchangeable(other)),
        }
    }
    Ok(changes)
}

fn filter(request: proto::ListApiKeysRequest) -> Result<Filter> {
    let states: Vec<State> = request.states().collect();
    if states.len() != request.states.len() || states.contains(&State::Unspecified) {
        return Err(Error::field("states", "must be states of a key"));
    }
    let time = |time, field| -> Result<Option<Timestamp>> { convert::moment(time, field) };
    Ok(Filter {
        states,
        expire_before: time(request.expire_before, "expire_before")?,
        unused_since: time(request.unused_since, "unused_since")?,
        space: request.space,
        user: request.user,
    })
}

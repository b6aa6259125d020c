//! `SpaceService`: tenants.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status, async_trait};

use super::{authentication::caller_of, convert};
use crate::{
    authority::{
        Authority,
        directory::spaces::{self, Settings},
    },
    domain::{
        api_key::KeyPrefix,
        directory::{DEFAULT_KEY_PREFIX, Space},
        ids::SpaceSlug,
        standing::MAX_TOKEN_TTL,
    },
    error::{Error, Result},
    proto::{self, space_service_server::SpaceService},
};

const MINUTE: Duration = Duration::from_mins(1);
/// The longest session, and the longest life of a key, that a space can name: ten years.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// The service.
#[derive(Debug, Clone)]
pub struct Spaces(pub Arc<Authority>);

#[async_trait]
impl SpaceService for Spaces {
    async fn create_space(
        &self,
        request: Request<proto::CreateSpaceRequest>,
    ) -> Result<Response<proto::CreateSpaceResponse>, Status> {
        let caller = caller_of(&request)?;
        let space = given(request.into_inner().space)?;
        let slug = SpaceSlug::parse(&space.slug, "space.slug")?;
        let settings = settings(&space, FIELDS)?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let space = spaces::create(&self.0, &caller, slug, settings, until).await?;
        Ok(Response::new(proto::CreateSpaceResponse {
            space: Some(described(space)),
        }))
    }

    async fn get_space(
        &self,
        request: Request<proto::GetSpaceRequest>,
    ) -> Result<Response<proto::GetSpaceResponse>, Status> {
        let caller = caller_of(&request)?;
        let named = convert::required(&request.get_ref().space, "space")?;
        let space = spaces::get(&self.0, &caller, named).await?;
        Ok(Response::new(proto::GetSpaceResponse {
            space: Some(described(space)),
        }))
    }

    async fn list_spaces(
        &self,
        request: Request<proto::ListSpacesRequest>,
    ) -> Result<Response<proto::ListSpacesResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let wanted = convert::page(
            &caller,
            "ListSpaces",
            request.page_size,
            &request.page_token,
            &proto::ListSpacesRequest::default(),
        )?;
        let page = spaces::list(&self.0, &caller, &wanted).await?;
        Ok(Response::new(proto::ListSpacesResponse {
            spaces: page.rows.into_iter().map(described).collect(),
            next_page_token: page.next,
        }))
    }

    async fn update_space(
        &self,
        request: Request<proto::UpdateSpaceRequest>,
    ) -> Result<Response<proto::UpdateSpaceResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let space = given(request.space)?;
        let paths = convert::mask(request.update_mask)?;
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let settings = settings(&space, &paths)?;
        let named = convert::either(&space.space_id, &space.slug, "space.space_id")?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let space = spaces::update(&self.0, &caller, named, settings, until).await?;
        Ok(Response::new(proto::UpdateSpaceResponse {
            space: Some(described(space)),
        }))
    }

    async fn delete_space(
        &self,
        request: Request<proto::DeleteSpaceRequest>,
    ) -> Result<Response<proto::DeleteSpaceResponse>, Status> {
        let caller = caller_of(&request)?;
        let named = convert::required(&request.get_ref().space, "space")?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let effect = spaces::delete(&self.0, &caller, named, until).await?;
        Ok(Response::new(proto::DeleteSpaceResponse {
            effect: effect.map(convert::effect),
        }))
    }
}

fn given(space: Option<proto::Space>) -> Result<proto::Space> {
    space.ok_or_else(|| Error::field("space", "is required"))
}

/// What can be set, at the beginning and later.
const FIELDS: &[&str] = &[
    "display_name",
    "key_prefix",
    "max_token_ttl",
    "max_session_age",
    "max_api_key_ttl",
    "default_audiences",
];

/// What a mask names.
fn settings(space: &proto::Space, paths: &[&str]) -> Result<Settings> {
    let mut settings = Settings::default();
    for path in paths {
        match *path {
            "display_name" => {
                convert::text(&space.display_name, "space.display_name", 128)?;
                settings.display_name = Some(space.display_name.clone());
            }
            "key_prefix" => settings.key_prefix = Some(key_prefix(space)?),
            "max_token_ttl" => {
                let span = (space.max_token_ttl, "space.max_token_ttl");
                settings.max_token_ttl =
                    Some(convert::span(span.0, span.1, MINUTE, MAX_TOKEN_TTL)?);
            }
            "max_session_age" => {
                let span = (space.max_session_age, "space.max_session_age");
                settings.max_session_age = Some(convert::span(span.0, span.1, MINUTE, LONGEST)?);
            }
            "max_api_key_ttl" => {
                let span = (space.max_api_key_ttl, "space.max_api_key_ttl");
                settings.max_api_key_ttl = Some(convert::span(span.0, span.1, MINUTE, LONGEST)?);
            }
            "default_audiences" => {
                let audiences = &space.default_audiences;
                let audiences = convert::audiences(audiences, "space.default_audiences")?;
                settings.default_audiences = Some(audiences);
            }
            other => return Err(convert::unchangeable(other)),
        }
    }
    Ok(settings)
}

fn key_prefix(space: &proto::Space) -> Result<String> {
    if space.key_prefix.is_empty() {
        return Ok(DEFAULT_KEY_PREFIX.to_owned());
    }
    KeyPrefix::parse(&space.key_prefix, "space.key_prefix").map(|prefix| prefix.to_string())
}

fn described(space: Space) -> proto::Space {
    proto::Space {
        space_id: space.id.to_string(),
        slug: space.slug.to_string(),
        display_name: space.display_name,
        key_prefix: space.key_prefix,
        max_token_ttl: space.max_token_ttl.map(convert::duration),
        max_session_age: space.max_session_age.map(convert::duration),
        max_api_key_ttl: space.max_api_key_ttl.map(convert::duration),
        default_audiences: space.default_audiences,
        create_time: Some(convert::timestamp(space.create_time)),
        update_time: Some(convert::timestamp(space.update_time)),
    }
}

//! `AuditService`: what was done, by whom, to what.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{authentication::caller_of, convert};
use crate::{
    authority::{
        Authority,
        audit::list::{self, Filter},
    },
    domain::ids::NamedUser,
    error::{Error, Result},
    proto::{self, audit_service_server::AuditService},
    storage::audit::Recorded,
};

/// The longest action or id that a filter can name.
const NAME_MAX: usize = 128;

/// The service.
#[derive(Debug, Clone)]
pub struct Audit(pub Arc<Authority>);

#[async_trait]
impl AuditService for Audit {
    async fn list_audit_events(
        &self,
        request: Request<proto::ListAuditEventsRequest>,
    ) -> Result<Response<proto::ListAuditEventsResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let filter = filter(&request)?;
        let asked = proto::ListAuditEventsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let wanted = convert::page(
            &caller,
            "ListAuditEvents",
            request.page_size,
            &request.page_token,
            &asked,
        )?;
        let page = list::list(&self.0, &caller, filter, &wanted).await?;
        Ok(Response::new(proto::ListAuditEventsResponse {
            audit_events: page.rows.into_iter().map(described).collect(),
            next_page_token: page.next,
        }))
    }
}

fn filter(request: &proto::ListAuditEventsRequest) -> Result<Filter> {
    let actor = match name(&request.actor_user_id, "actor_user_id")? {
        Some(named) => Some(NamedUser::parse(&named).map_err(|_| no_name("actor_user_id"))?),
        None => None,
    };
    let filter = Filter {
        space: request.space.clone(),
        action: name(&request.action, "action")?,
        actor,
        resource: name(&request.resource_id, "resource_id")?,
        start_time: convert::moment(request.start_time, "start_time")?,
        end_time: convert::moment(request.end_time, "end_time")?,
    };
    let reversed = filter.start_time.zip(filter.end_time);
    if reversed.is_some_and(|(start, end)| start >= end) {
        return Err(Error::field("end_time", "must be after start_time"));
    }
    Ok(filter)
}

/// A name as actions and ids are spelled; none where it is empty. INVALID_ARGUMENT for what nothing can be called.
fn name(text: &str, field: &str) -> Result<Option<String>> {
    let good = text.len() <= NAME_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte));
    if !good {
        return Err(no_name(field));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn no_name(field: &str) -> Error {
    Error::field(
        field,
        "must be up to 128 letters, digits and ._@+-, as actions and ids are",
    )
}

fn described(recorded: Recorded) -> proto::AuditEvent {
    let Recorded { event, link } = recorded;
    let text = |name: Option<String>| name.unwrap_or_default();
    proto::AuditEvent {
        audit_event_id: event.id.to_string(),
        event_time: Some(convert::timestamp(event.event_time)),
        space_id: text(event.space_id.map(|id| id.to_string())),
        actor_user_id: text(event.actor_user_id.map(|id| id.to_string())),
        actor_api_key_id: text(event.actor_api_key_id.map(|id| id.to_string())),
        action: event.action,
        resource_id: event.resource_id,
        outcome: event.outcome.into(),
        error_reason: event.error_reason,
        client_address: event.client_address,
        request_id: event.request_id,
        details: event.details,
        digest: text(link.map(|head| head.digest.to_string())),
        sequence: link.map_or(0, |head| head.sequence),
    }
}

//! The audit log: what is written down, that nobody changes it unseen, and who reads what of it.

mod chain;
mod listing;
mod recorded;
mod refusals;
mod tampering;
mod throttled;

use token_authority::{
    authority::audit::{
        keeping,
        verify::{self, Verdict},
    },
    proto::{self, audit_service_client::AuditServiceClient},
};
use tonic::{Response, Status};

pub(crate) use self::recorded::rows;
use crate::support::{Server, as_caller};

/// What is to be said of the chain of a running server.
async fn verdict(server: &Server) -> Verdict {
    let db = &server.authority.db;
    verify::verify(db, db.audit_key().unwrap()).await.unwrap()
}

/// Everything that has been done and refused so far is written and chained; how many events there are.
pub(crate) async fn kept(server: &Server) -> u64 {
    loop {
        // The server itself may be at it.
        keeping::keep_once(&server.authority).await.unwrap();
        let verdict = verdict(server).await;
        let head = verdict.chain.unwrap();
        if verdict.not_chained == 0 {
            return head.sequence;
        }
    }
}

async fn page(
    server: &Server,
    caller: &str,
    request: &proto::ListAuditEventsRequest,
) -> Result<proto::ListAuditEventsResponse, Status> {
    let mut audit = AuditServiceClient::new(server.connect().await);
    let page = audit.list_audit_events(as_caller(caller, request.clone()));
    page.await.map(Response::into_inner)
}

/// All events that a request is about.
async fn listed(
    server: &Server,
    caller: &str,
    mut request: proto::ListAuditEventsRequest,
) -> Vec<proto::AuditEvent> {
    let mut events = Vec::new();
    loop {
        let page = page(server, caller, &request).await.unwrap();
        events.extend(page.audit_events);
        if page.next_page_token.is_empty() {
            return events;
        }
        request.page_token = page.next_page_token;
    }
}

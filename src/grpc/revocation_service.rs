//! `RevocationService`: revokes by reference, and tells subscribers of every revocation.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, async_trait};

use super::{authentication::caller_of, convert};
use crate::{
    authority::{
        Authority, idempotency,
        revocations::{
            create::{self, InSpace, Wanted},
            list,
            watch::{self, Kind, Message, Start},
        },
    },
    connections::Seats,
    domain::{
        ids::{ApiKeyId, RoleName, SessionId, SigningKeyId, SpaceId, TokenId, UserId},
        revocation::Subject,
    },
    error::{Error, Reason, Result},
    proto::{
        self, revocation_service_server::RevocationService, revocation_subject,
        watch_revocations_response,
    },
    telemetry::metrics as names,
};

const HEARTBEAT: Duration = Duration::from_secs(10);
/// Streams at a time, as the contract says.
const STREAMS: usize = 16_384;
const STREAMS_PER_USER: usize = 1024;
/// When to ask again for a stream.
const RETRY: Duration = Duration::from_secs(30);

/// The service.
#[derive(Debug, Clone)]
pub struct Revocations {
    authority: Arc<Authority>,
    draining: CancellationToken,
    tasks: TaskTracker,
    streams: Seats<UserId>,
}

impl Revocations {
    /// Revokes over `authority`; streams run on `tasks` and end when `draining` is cancelled.
    pub fn new(authority: Arc<Authority>, draining: CancellationToken, tasks: TaskTracker) -> Self {
        let gauge = metrics::gauge!(names::STREAMS, "method" => "WatchRevocations");
        Self {
            authority,
            draining,
            tasks,
            streams: Seats::new(STREAMS, STREAMS_PER_USER, gauge),
        }
    }
}

#[async_trait]
impl RevocationService for Revocations {
    async fn create_revocation(
        &self,
        request: Request<proto::CreateRevocationRequest>,
    ) -> Result<Response<proto::CreateRevocationResponse>, Status> {
        let caller = caller_of(&request)?;
        let mut request = request.into_inner();
        let until = caller.call.wait_until(convert::wait(request.wait.take())?);
        let key = std::mem::take(&mut request.idempotency_key);
        let remembered =
            idempotency::Request::of_caller(&caller, "CreateRevocation", &key, &request)?;
        let wanted = wanted(request)?;
        let created = create::create(&self.authority, &caller, wanted, remembered, until).await?;
        Ok(Response::new(proto::CreateRevocationResponse {
            event: Some(convert::event(&created.entry)),
            effect: created.effect.map(convert::effect),
        }))
    }

    async fn list_revocations(
        &self,
        request: Request<proto::ListRevocationsRequest>,
    ) -> Result<Response<proto::ListRevocationsResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        convert::at_most(&request.spaces, "spaces", 1000)?;
        let page_size = convert::page_size(request.page_size, 1000, 10_000)?;
        let token = &request.page_token;
        let page = list::list(&self.authority, &caller, &request.spaces, page_size, token).await?;
        Ok(Response::new(proto::ListRevocationsResponse {
            events: page
                .entries
                .iter()
                .map(|entry| convert::event(entry))
                .collect(),
            next_page_token: page.next_page_token,
            cursor: page.cursor,
        }))
    }

    type WatchRevocationsStream =
        Pin<Box<dyn Stream<Item = Result<proto::WatchRevocationsResponse, Status>> + Send>>;

    async fn watch_revocations(
        &self,
        request: Request<proto::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        convert::at_most(&request.spaces, "spaces", 1000)?;
        let heartbeat = convert::span(
            request.heartbeat_interval,
            "heartbeat_interval",
            Duration::from_secs(1),
            Duration::from_mins(1),
        )?;
        let seat = self.streams.take(caller.user_id().clone());
        let seat = seat.map_err(|_full| {
            Error::new(Reason::TooManyStreams, "too many streams").retry_after(RETRY)
        })?;
        let messages = watch::open(
            Arc::clone(&self.authority),
            caller,
            start(&request)?,
            &request.spaces,
            heartbeat.unwrap_or(HEARTBEAT),
            self.draining.clone(),
            &self.tasks,
        )
        .await?;
        // The seat is taken for as long as messages are held for the reader.
        let messages = ReceiverStream::new(messages).map(move |message| {
            let _taken = &seat;
            message.map(told).map_err(Status::from)
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

fn start(request: &proto::WatchRevocationsRequest) -> Result<Start> {
    match (request.start_cursor.as_str(), request.live_only) {
        ("", false) => Ok(Start::Floor),
        ("", true) => Ok(Start::Live),
        (cursor, false) => Ok(Start::After(cursor.to_owned())),
        (_, true) => Err(Error::field(
            "live_only",
            "must not be set together with start_cursor",
        )),
    }
}

fn told(message: Message) -> proto::WatchRevocationsResponse {
    use watch_revocations_response::Message as Told;
    let told = match message.kind {
        Kind::Started(space_ids) => Told::Started(proto::StreamStarted { space_ids }),
        Kind::Batch(entries) => Told::Batch(proto::RevocationBatch {
            events: entries.iter().map(|entry| convert::event(entry)).collect(),
        }),
        Kind::CaughtUp(count) => Told::CaughtUp(proto::CaughtUp {
            event_count: i32::try_from(count).unwrap_or(i32::MAX),
        }),
        Kind::Heartbeat(read_time) => Told::Heartbeat(proto::Heartbeat {
            read_time: Some(convert::timestamp(read_time)),
        }),
        Kind::Closing(delay) => Told::Closing(proto::StreamClosing {
            reconnect_delay: Some(convert::duration(delay)),
        }),
    };
    proto::WatchRevocationsResponse {
        cursor: message.cursor,
        message: Some(told),
        position: message.position.0,
    }
}

fn wanted(request: proto::CreateRevocationRequest) -> Result<Wanted> {
    convert::text(&request.comment, "comment", 512)?;
    let reason = request.reason();
    let subject = subject(request.subject.and_then(|subject| subject.subject))?;
    let sessions_until = convert::moment(request.sessions_until, "sessions_until")?;
    if sessions_until.is_some() && !matches!(subject, Subject::User(_) | Subject::Space(_)) {
        return Err(Error::field(
            "sessions_until",
            "is for a user or a space alone",
        ));
    }
    Ok(Wanted {
        subject,
        space: match request.space.as_str() {
            "*" => InSpace::Every,
            _ => InSpace::Named(request.space),
        },
        sessions_until,
        keep_api_keys: request.keep_api_keys,
        reason,
        comment: request.comment,
    })
}

fn subject(subject: Option<revocation_subject::Subject>) -> Result<Subject> {
    use revocation_subject::Subject as Asked;
    let required = || Error::field("subject", "is required");
    let id = |id: String, field: &str| {
        let good = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        good.then_some(id).ok_or_else(|| {
            Error::field(
                format!("subject.{field}"),
                "must be 1 to 128 visible ASCII characters",
            )
        })
    };
    Ok(match subject.ok_or_else(required)? {
        Asked::TokenId(token) => Subject::Token(TokenId::known(id(token, "token_id")?)),
        Asked::SessionId(session) => Subject::Session(SessionId::known(id(session, "session_id")?)),
        Asked::UserId(user) => Subject::User(UserId::known(id(user, "user_id")?)),
        Asked::ApiKeyId(key) => {
            Subject::ApiKey(ApiKeyId::parse(&key).ok_or_else(|| Error::not_found("api_key"))?)
        }
        Asked::Role(name) => Subject::Role(RoleName::parse(&name, "subject.role")?),
        Asked::SpaceId(space) => Subject::Space(SpaceId::known(id(space, "space_id")?)),
        Asked::SigningKeyId(key) => Subject::SigningKey(SigningKeyId::parse(&key)?),
        Asked::Everything(_) => {
            return Err(Error::field("subject", "is not for this method"));
        }
    })
}

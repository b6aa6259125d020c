//! How a failure is told to the caller: gRPC code, `ErrorInfo`, `BadRequest` and `RetryInfo`. The cause stays with the status as its
//! source, for the log alone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{Error, Reason, reason_name};

/// The domain of every `ErrorInfo` that this service sends.
pub const DOMAIN: &str = "token-authority";

/// The most that is told of one text: a status travels in headers, of which clients take 16 KiB.
const LONGEST: usize = 256;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        let mut status =
            Self::with_error_details(code(reason), told_message(&error), details(&error));
        status.set_source(Arc::new(error));
        status
    }
}

/// The gRPC code that goes with a reason, as `error_reason.proto` has it.
pub fn code(reason: Reason) -> Code {
    match reason {
        Reason::CredentialsMissing | Reason::CredentialsInvalid => Code::Unauthenticated,
        Reason::PermissionMissing | Reason::ExceedsGrant => Code::PermissionDenied,
        Reason::FieldInvalid
        | Reason::PageTokenInvalid
        | Reason::CursorInvalid
        | Reason::IdempotencyKeyReused => Code::InvalidArgument,
        Reason::ResourceNotFound => Code::NotFound,
        Reason::ResourceAlreadyExists => Code::AlreadyExists,
        Reason::ConcurrentModification => Code::Aborted,
        Reason::ApiKeyNotActive
        | Reason::SessionTooOld
        | Reason::TokenTooLarge
        | Reason::SigningKeyState
        | Reason::LastAdmin
        | Reason::BuiltIn
        | Reason::ApiKeyBound
        | Reason::CursorForeign
        | Reason::CursorAhead
        | Reason::CursorFilter => Code::FailedPrecondition,
        Reason::CursorExpired => Code::OutOfRange,
        Reason::SignInThrottled
        | Reason::Overloaded
        | Reason::SubscriberTooSlow
        | Reason::TooManyStreams => Code::ResourceExhausted,
        Reason::DatabaseUnavailable | Reason::CursorNotReached | Reason::Draining => {
            Code::Unavailable
        }
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::Unimplemented => Code::Unimplemented,
        Reason::Unspecified | Reason::Internal => Code::Internal,
    }
}

/// The error that a status was made of, where it is one of ours.
pub fn error_behind(status: &Status) -> Option<&Error> {
    std::error::Error::source(status)?.downcast_ref()
}

/// What tonic itself says, with a reason and a text: of a method that is not there it says nothing, and of a request of `ours`
/// that cannot be decoded or is too large that it is a fault of the server, or out of range; here it is `INVALID_ARGUMENT`. A
/// message that is not framed as gRPC asks stays INTERNAL, as its specification has it. None where the status can stay as it is.
pub fn in_our_words(status: &Status, ours: bool) -> Option<Status> {
    if !status.details().is_empty() || error_behind(status).is_some() {
        return None;
    }
    match status.code() {
        Code::Unimplemented => Some(with_reason(status, Reason::Unimplemented)),
        Code::NotFound => Some(with_reason(status, Reason::ResourceNotFound)),
        _ if !ours => None,
        _ if is_protocol_error(status) => Some(with_reason(status, Reason::Internal)),
        Code::Internal | Code::OutOfRange => {
            let message = format!("the request cannot be read: {}", status.message());
            Some(Error::new(Reason::FieldInvalid, message).into())
        }
        _ => None,
    }
}

/// The same status with a reason, and with a text where it has none.
fn with_reason(status: &Status, reason: Reason) -> Status {
    let message = match status.message() {
        "" if reason == Reason::Unimplemented => "this server has no such method",
        "" => status.code().description(),
        told => told,
    };
    let mut details = ErrorDetails::new();
    details.set_error_info(reason_name(reason), DOMAIN, HashMap::new());
    let metadata = status.metadata().clone();
    Status::with_error_details_and_metadata(status.code(), message, details, metadata)
}

/// Whether tonic says that a client does not keep to gRPC's framing, or went away in the middle of its request: INTERNAL or
/// UNKNOWN, but no fault of ours.
pub fn is_protocol_error(status: &Status) -> bool {
    let message = status.message();
    error_behind(status).is_none()
        && match status.code() {
            Code::Internal => message.starts_with("protocol error: "),
            Code::Unknown => message.starts_with("h2 protocol error: "),
            _ => false,
        }
}

/// Whether a failure is described in the log alone, where names of tables and hosts may stand.
fn is_untold(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Internal | Reason::Unspecified | Reason::DatabaseUnavailable
    )
}

fn told_message(error: &Error) -> String {
    if !is_untold(error.reason()) {
        return shortened(error.message());
    }
    let told = if code(error.reason()) == Code::Unavailable {
        "the database cannot be reached"
    } else {
        "a fault of the server; quote the x-request-id"
    };
    told.to_owned()
}

fn details(error: &Error) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason_name(error.reason()), DOMAIN, told_metadata(error));
    if let Some(delay) = error.retry_delay().or_else(|| usual_delay(error.reason())) {
        details.set_retry_info(Some(delay));
    }
    for violation in error.violations() {
        details.add_bad_request_violation(
            shortened(&violation.field),
            shortened(&violation.description),
        );
    }
    details
}

fn told_metadata(error: &Error) -> HashMap<String, String> {
    if is_untold(error.reason()) {
        return HashMap::new();
    }
    error
        .metadata()
        .iter()
        .map(|(key, value)| ((*key).to_owned(), shortened(value)))
        .collect()
}

/// A text that may quote the request, or its beginning.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// When to try again, where the contract promises to say so and whoever failed did not.
fn usual_delay(reason: Reason) -> Option<Duration> {
    if reason == Reason::CursorNotReached {
        return Some(Duration::from_millis(50));
    }
    let promised = matches!(
        reason,
        Reason::SignInThrottled | Reason::Overloaded | Reason::DatabaseUnavailable
    );
    promised.then_some(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_the_reason_and_the_fields() {
        let status = Status::from(Error::field("username", "must not be empty"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "username: must not be empty");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("FIELD_INVALID", DOMAIN)
        );
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "username");
    }

    #[test]
    fn the_cause_of_a_fault_stays_with_the_server() {
        for reason in [Reason::Internal, Reason::DatabaseUnavailable] {
            let error = Error::new(reason, "table secrets at db.internal")
                .with("table", "secrets")
                .because("password hunter2 refused");
            let status = Status::from(error);
            let told = format!(
                "{} {:?}",
                status.message(),
                String::from_utf8_lossy(status.details())
            );
            for word in ["secrets", "db.internal", "hunter2"] {
                assert!(!told.contains(word), "{told}");
            }
            assert!(
                error_behind(&status)
                    .unwrap()
                    .message()
                    .contains("db.internal")
            );
        }
    }

    #[test]
    fn whoever_should_wait_is_told_how_long() {
        let overloaded = Status::from(Error::new(Reason::Overloaded, "too many calls"));
        let details = overloaded.get_error_details();
        assert_eq!(
            details.retry_info().unwrap().retry_delay,
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn every_reason_is_told_with_the_code_that_the_contract_names() {
        let contract = include_str!("../../proto/tokenauthority/v1/error_reason.proto");
        let mut checked = 0;
        let mut promised = "";
        for line in contract.lines().map(str::trim) {
            if let Some(comment) = line.strip_prefix("// ") {
                promised = comment.split(':').next().unwrap_or_default();
            } else if let Some(name) = line
                .strip_suffix(';')
                .and_then(|line| line.split(" = ").next())
                .filter(|name| name.starts_with("ERROR_REASON_") && !name.ends_with("UNSPECIFIED"))
            {
                let reason = Reason::from_str_name(name).unwrap();
                let code = format!("{:?}", code(reason)).to_lowercase();
                assert_eq!(code, promised.replace('_', "").to_lowercase(), "{name}");
                checked += 1;
            }
        }
        assert!(checked > 25);
    }
}

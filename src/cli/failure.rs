//! The error line and the exit code.

use std::{
    error::Error as _,
    fmt::{self, Write as _},
    io,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::cli::render::printable;

/// Why the process ends as it does. The numbers are part of the interface and stand in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Denied = 3,
    NotFound = 4,
    Unavailable = 5,
    NotEffective = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong, in one line of text.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    retry_after: Option<Duration>,
    output_closed: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            retry_after: None,
            output_closed: false,
        }
    }

    /// The arguments do not make sense together.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A file cannot be read or written.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("{}: {error}", path.display()))
    }

    /// Nothing more can be printed: whoever reads our output has gone.
    pub(crate) fn output(error: &io::Error) -> Self {
        let mut failure = Self::new(Exit::Failed, format!("cannot write to stdout: {error}"));
        failure.output_closed = error.kind() == io::ErrorKind::BrokenPipe;
        failure
    }

    /// The server cannot be reached.
    pub(crate) fn unreachable(address: &str, error: &tonic::transport::Error) -> Self {
        let message = format!("cannot reach {address}: {}", innermost(error));
        Self::new(Exit::Unavailable, message)
    }

    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// How long to wait before trying again, where the server said so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether trying again may help.
    pub(crate) fn is_temporary(&self) -> bool {
        self.exit == Exit::Unavailable
    }

    /// Whether there is nobody left to tell, as with `| head`.
    pub(crate) fn output_closed(&self) -> bool {
        self.output_closed
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        let mut message = error.message().to_owned();
        let mut source = error.source();
        while let Some(cause) = source {
            push_unless_said(&mut message, &cause.to_string());
            source = cause.source();
        }
        let exit = match error.reason() {
            crate::error::Reason::DatabaseUnavailable => Exit::Unavailable,
            _ => Exit::Failed,
        };
        Self::new(exit, message)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let from_server = details.error_info().is_some();
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        Self {
            exit: exit_of(status.code(), from_server),
            message: message_of(&status, &details),
            retry_after,
            output_closed: false,
        }
    }
}

/// Without the server's own reason, these codes are the client library's words for a connection that broke.
fn exit_of(code: Code, from_server: bool) -> Exit {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
        Code::NotFound => Exit::NotFound,
        Code::InvalidArgument => Exit::Usage,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => Exit::Unavailable,
        Code::Cancelled | Code::Unknown | Code::Internal if !from_server => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

fn message_of(status: &Status, details: &ErrorDetails) -> String {
    let mut message = match status.message() {
        "" => status.code().description().to_owned(),
        "Timeout expired" => "no answer in time; see --timeout".to_owned(),
        text => text.to_owned(),
    };
    if let Some(cause) = status.source() {
        push_unless_said(&mut message, &innermost(cause));
    }
    for violation in details
        .bad_request()
        .map_or(&[][..], |request| &request.field_violations)
    {
        push_unless_said(
            &mut message,
            &format!("{}: {}", violation.field, violation.description),
        );
    }
    if let Some(info) = details.error_info() {
        push(&mut message, format_args!(" ({})", info.reason));
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let delay = humantime::format_duration(whole_seconds(delay));
        push(&mut message, format_args!("; try again in {delay}"));
    }
    if status.code() == Code::Internal
        && let Some(Ok(id)) = status.metadata().get("x-request-id").map(|id| id.to_str())
    {
        push(&mut message, format_args!("; x-request-id {id}"));
    }
    message
}

/// Rounded up: whoever waits for less than the server asked comes too early.
fn whole_seconds(delay: Duration) -> Duration {
    Duration::from_secs(delay.as_secs() + u64::from(delay.subsec_nanos() > 0))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn push_unless_said(message: &mut String, text: &str) {
    if !message.contains(text) {
        push(message, format_args!(": {text}"));
    }
}

fn push(message: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    message.write_fmt(text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_refusal_names_its_reason_and_the_field() {
        let mut details =
            ErrorDetails::with_error_info("FIELD_INVALID", "token-authority", HashMap::new());
        details.add_bad_request_violation("api_key.display_name", "must not be empty");
        let status = Status::with_error_details(Code::InvalidArgument, "not taken", details);
        let failure = Failure::from(status);
        assert_eq!(failure.exit(), Exit::Usage);
        insta::assert_snapshot!(failure, @"not taken: api_key.display_name: must not be empty (FIELD_INVALID)");
    }

    #[test]
    fn a_throttled_sign_in_says_how_long_to_wait() {
        let mut details =
            ErrorDetails::with_error_info("SIGN_IN_THROTTLED", "token-authority", HashMap::new());
        details.set_retry_info(Some(Duration::from_millis(2_100)));
        let status = Status::with_error_details(Code::ResourceExhausted, "too many", details);
        let failure = Failure::from(status);
        assert!(failure.is_temporary());
        insta::assert_snapshot!(failure, @"too many (SIGN_IN_THROTTLED); try again in 3s");
    }

    #[test]
    fn what_the_server_says_cannot_steer_the_terminal() {
        let failure = Failure::from(Status::not_found("gone\u{1b}[2J\nerror: forged"));
        assert_eq!(failure.exit(), Exit::NotFound);
        insta::assert_snapshot!(failure, @r"gone\u{1b}[2J\nerror: forged");
    }

    #[test]
    fn a_broken_connection_is_temporary_and_a_fault_of_the_server_is_not() {
        assert!(Failure::from(Status::unknown("h2 protocol error")).is_temporary());
        let details = ErrorDetails::with_error_info("INTERNAL", "token-authority", HashMap::new());
        let status = Status::with_error_details(Code::Internal, "a fault", details);
        assert!(!Failure::from(status).is_temporary());
    }
}

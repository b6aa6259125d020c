//! The one error of this crate: a reason of the contract, a text for people, and what a client can act on.

use std::{borrow::Cow, fmt, time::Duration};

pub use crate::proto::ErrorReason as Reason;

/// What every fallible function of the authority returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A reason as clients are told it: without the enum's prefix.
pub fn reason_name(reason: Reason) -> &'static str {
    let reason = match reason {
        Reason::Unspecified => Reason::Internal,
        told => told,
    };
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A failure, as the caller will be told of it. The cause stays here, for the log.
pub struct Error(Box<Details>);

struct Details {
    reason: Reason,
    message: Cow<'static, str>,
    violations: Vec<Violation>,
    metadata: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    source: Option<Source>,
    withheld: Option<String>,
}

/// A field of the request that cannot be taken as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, for example `api_key.display_name`.
    pub field: String,
    /// What is asked of it.
    pub description: String,
}

impl Error {
    /// A failure for `reason`; `message` is lower case, without a full stop, and holds nothing secret.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Details {
            reason,
            message: message.into(),
            violations: Vec::new(),
            metadata: Vec::new(),
            retry_after: None,
            source: None,
            withheld: None,
        }))
    }

    /// INVALID_ARGUMENT about one field.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let mut error = Self::new(Reason::FieldInvalid, format!("{field}: {description}"));
        error.0.violations.push(Violation { field, description });
        error
    }

    /// UNAUTHENTICATED, in the one text that tells nothing of the cause.
    pub fn credentials_invalid() -> Self {
        Self::new(Reason::CredentialsInvalid, "the credentials are not valid")
    }

    /// NOT_FOUND: there is no such `resource`, or the caller may not know of it.
    pub fn not_found(resource: &'static str) -> Self {
        Self::new(Reason::ResourceNotFound, format!("{resource} not found"))
            .with("resource", resource)
    }

    /// The same NOT_FOUND where `resource` exists under `id` and the caller may not know of it: the audit log alone is told.
    pub fn withheld(resource: &'static str, id: &str) -> Self {
        let mut error = Self::not_found(resource);
        error.0.withheld = Some(id.to_owned());
        error
    }

    /// ALREADY_EXISTS: there is, or was, a `resource` of this name.
    pub fn already_exists(resource: &'static str) -> Self {
        Self::new(
            Reason::ResourceAlreadyExists,
            format!("the name of the {resource} is taken"),
        )
        .with("resource", resource)
    }

    /// PERMISSION_DENIED: `permission` is missing in `space`.
    pub fn permission_missing(permission: &str, space: &str) -> Self {
        Self::new(
            Reason::PermissionMissing,
            format!("the permission {permission} is missing"),
        )
        .with("permission", permission)
        .with("space", space)
    }

    /// INTERNAL: a fault of the server. `message` is for the log; the client gets a request id to quote.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Internal, message)
    }

    /// All of them as one, whose text tells each with its causes; it is FIELD_INVALID where any is. None where there are none.
    pub fn together(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let first = errors.next()?;
        let Some(second) = errors.next() else {
            return Some(first);
        };
        let mut reason = first.reason();
        let (mut texts, mut violations) = (Vec::new(), Vec::new());
        for error in [first, second].into_iter().chain(errors) {
            if error.reason() == Reason::FieldInvalid {
                reason = Reason::FieldInvalid;
            }
            texts.push(error.with_causes());
            violations.extend(error.0.violations);
        }
        let mut together = Self::new(reason, texts.join("; "));
        together.0.violations = violations;
        Some(together)
    }

    fn with_causes(&self) -> String {
        let mut text = self.message().to_owned();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.extend([": ", &cause.to_string()]);
            source = cause.source();
        }
        text
    }

    /// Adds a word for machines.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.metadata.push((key, value.into()));
        self
    }

    /// Adds when it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Adds the cause, which the client is not told.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// What people are told.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fields that cannot be taken as they are.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// What machines are told besides the reason.
    pub fn metadata(&self) -> &[(&'static str, String)] {
        &self.0.metadata
    }

    /// What the caller may not know of, though it exists. Never told to a client.
    pub fn withheld_resource(&self) -> Option<&str> {
        self.0.withheld.as_deref()
    }

    /// When it is worth trying again.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("reason", &self.0.reason)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

//! Who holds signing keys is told of an entry about one before the entry counts as applied: so a key that was revoked is out of
//! use before anybody learns that its revocation is effective.

use std::{fmt, pin::Pin};

use crate::error::Result;

type Telling = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Tells. Where that fails, the entry is not applied yet.
pub struct Herald(Box<dyn Fn() -> Telling + Send + Sync>);

impl Herald {
    /// Tells by `reload`, which is done when what was committed before it began is known.
    pub fn new<F>(reload: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self(Box::new(move || Box::pin(reload())))
    }

    pub(super) async fn tell(&self) -> Result<()> {
        (self.0)().await
    }
}

impl fmt::Debug for Herald {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Herald")
    }
}

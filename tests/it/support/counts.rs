//! How often something is done: as often as was promised where time allows, and always where it is asked for.

/// How often: `quick` in a daily run, `full` where `TOKEN_AUTHORITY_TEST_FULL` is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) quick: usize,
    pub(crate) full: usize,
}

impl Count {
    /// The figure of this run.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests have no configuration but this"
    )]
    pub(crate) fn get(self) -> usize {
        if std::env::var_os("TOKEN_AUTHORITY_TEST_FULL").is_some() {
            self.full
        } else {
            self.quick
        }
    }
}

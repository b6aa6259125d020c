//! How often something is done, and for how long: as often as was promised where time allows, and always where it is asked for.

use std::time::Duration;

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

/// The seed and the duration of a long run, where `TOKEN_AUTHORITY_TEST_SECONDS` asks for one. The seed is that of
/// `TOKEN_AUTHORITY_TEST_SEED`, else a new one each time.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration but this"
)]
pub(crate) fn long_run() -> Option<(u64, Duration)> {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let seconds = number("TOKEN_AUTHORITY_TEST_SECONDS")?;
    let drawn = || {
        u64::from(u32::from_be_bytes(
            token_authority::random::bytes().unwrap(),
        ))
    };
    let seed = number("TOKEN_AUTHORITY_TEST_SEED").unwrap_or_else(drawn);
    Some((seed, Duration::from_secs(seconds)))
}

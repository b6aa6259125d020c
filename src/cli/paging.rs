//! Lists that come in pages.

use clap::Args;

/// How much of a list is wanted.
#[derive(Debug, Args)]
pub(crate) struct Paging {
    /// Stop when this many entries are listed (rounded up to whole pages); 0 lists all
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u32,
    /// Go on where a listing with the same options stopped
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

impl Paging {
    /// The size of every page, which the server takes up to `max`: as few pages as it takes, all alike.
    pub(crate) fn page_size(&self, max: u32) -> i32 {
        let size = match self.limit {
            0 => max,
            limit => limit.div_ceil(limit.div_ceil(max)),
        };
        i32::try_from(size).unwrap_or(i32::MAX)
    }

    /// Where to begin.
    pub(crate) fn first_page(&self) -> String {
        self.page_token.clone().unwrap_or_default()
    }

    /// Whether to stop after `listed` entries, the next page being `next`.
    pub(crate) fn is_done(&self, listed: usize, next: &str) -> bool {
        let enough = self.limit > 0 && listed >= self.limit as usize;
        next.is_empty() || enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(limit: u32) -> Paging {
        Paging {
            limit,
            page_token: None,
        }
    }

    #[test]
    fn pages_are_alike_and_no_larger_than_allowed() {
        for (limit, size) in [
            (1, 1),
            (100, 100),
            (500, 500),
            (501, 251),
            (1400, 467),
            (0, 500),
        ] {
            assert_eq!(paging(limit).page_size(500), size, "{limit}");
        }
    }

    #[test]
    fn a_listing_ends_at_the_limit_or_at_the_last_page() {
        assert!(paging(0).is_done(10_000, ""));
        assert!(!paging(0).is_done(10_000, "more"));
        assert!(paging(100).is_done(100, "more"));
        assert!(!paging(100).is_done(99, "more"));
    }
}

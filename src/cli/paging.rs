//! Lists that come in pages.

use clap::Args;

use crate::cli::failure::Failure;

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

    /// Fetches as many pages as are wanted: their entries, and where the list goes on. `page` takes the size of a page, up to
    /// `max`, and where it begins.
    pub(crate) async fn collect<T>(
        &self,
        max: u32,
        page: impl AsyncFn(i32, String) -> Result<(Vec<T>, String), Failure>,
    ) -> Result<(Vec<T>, String), Failure> {
        let (mut listed, mut next) = (Vec::new(), self.first_page());
        loop {
            let (mut entries, after) = page(self.page_size(max), next).await?;
            listed.append(&mut entries);
            next = after;
            if self.is_done(listed.len(), &next) {
                return Ok((listed, next));
            }
        }
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

    #[tokio::test]
    async fn pages_are_fetched_until_the_limit_and_put_together() {
        // A list of 7: each page begins where the one before said.
        let page = async |size: i32, from: String| {
            let from: i32 = from.parse().unwrap_or(0);
            let to = (from + size).min(7);
            let next = (to < 7).then(|| to.to_string());
            Ok(((from..to).collect(), next.unwrap_or_default()))
        };
        let all = paging(0).collect(3, page).await.unwrap();
        assert_eq!(all, ((0..7).collect(), String::new()));
        let some = paging(4).collect(3, page).await.unwrap();
        assert_eq!(some, ((0..4).collect(), "4".to_owned()));
    }

    #[test]
    fn a_listing_ends_at_the_limit_or_at_the_last_page() {
        assert!(paging(0).is_done(10_000, ""));
        assert!(!paging(0).is_done(10_000, "more"));
        assert!(paging(100).is_done(100, "more"));
        assert!(!paging(100).is_done(99, "more"));
    }
}

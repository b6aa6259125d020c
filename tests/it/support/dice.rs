//! Chance that can be had again: the same seed throws the same.

use std::time::Duration;

/// splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that throw what `seed` says.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.0;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (drawn ^ (drawn >> 31)) % bound
    }

    /// Passes after a moment that is not known before: often within a call's first steps, sometimes when it is long done.
    pub(crate) async fn moment(&mut self, longest: Duration) {
        if self.below(2) == 0 {
            for _ in 0..self.below(200) {
                tokio::task::yield_now().await;
            }
        } else {
            let micros = u64::try_from(longest.as_micros()).unwrap();
            tokio::time::sleep(Duration::from_micros(self.below(micros))).await;
        }
    }
}

//! Random numbers that a seed decides.

use std::cell::Cell;
use std::time::Duration;

/// A sequence of well-mixed numbers (SplitMix64).
#[derive(Debug)]
pub struct Random(Cell<u64>);

/// Mixes a number's bits.
#[must_use]
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    pub fn draw(&self) -> u64 {
        let state = self.0.get();
        self.0.set(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
        mix(state)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&self, end: u64) -> u64 {
        self.draw() % end
    }

    /// A number from `first` to `last`.
    pub fn range(&self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these; there is at least one.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// A span between these.
    pub fn span(&self, first: Duration, last: Duration) -> Duration {
        Duration::from_micros(self.range(first.as_micros() as u64, last.as_micros() as u64))
    }
}

//! Random numbers: SplitMix64. Good enough to shuffle ranks and to choose delays.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A seed that differs from process to process and from call to call.
    pub fn seed() -> u64 {
        RandomState::new().hash_one(std::process::id())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The numbers below `count` in a random order.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            all.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
        all
    }
}

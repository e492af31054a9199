//! Random numbers of a test. If it fails, it tells the seed that repeats them.

use std::time::{Duration, SystemTime};
use std::{env, thread};

const SEED: &str = "MLPCONV_SEED";

pub struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    /// Draws from the seed in `$MLPCONV_SEED`, or from one of the clock.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = env::var(SEED).map_or(now, |seed| seed.parse().unwrap());
        Chance { seed, state: seed }
    }

    /// A number below `end`, by SplitMix64.
    pub fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// A moment within `time`.
    pub fn moment(&mut self, time: Duration) -> Duration {
        Duration::from_micros(self.below(time.as_micros().max(1) as usize) as u64)
    }
}

impl Drop for Chance {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the random numbers were those of {SEED}={}", self.seed);
        }
    }
}

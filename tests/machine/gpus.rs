//! The multiprocessors that the tables are of.

use mlpconv::device::cuda::Architecture;

use crate::occupancy::{LIMITS, Limits};

/// A compute capability, and what a multiprocessor of it holds: beside, 64 Ki registers in four partitions.
pub struct Gpu {
    pub capability: (u32, u32),
    pub limits: Limits,
}

pub const GPUS: [Gpu; 4] = {
    let [(a, of_a), (b, of_b), (c, of_c), (d, of_d)] = LIMITS;
    [
        Gpu { capability: a, limits: of_a },
        Gpu { capability: b, limits: of_b },
        Gpu { capability: c, limits: of_c },
        Gpu { capability: d, limits: of_d },
    ]
};

/// The index in [`GPUS`] of the one that everyday tests look at.
pub const HOPPER: usize = 3;

impl Gpu {
    pub fn name(&self) -> String {
        format!("sm_{}", Architecture { capability: self.capability, specific: false })
    }
}

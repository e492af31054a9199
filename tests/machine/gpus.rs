//! The multiprocessors that the tables are of.

use mlpconv::device::cuda::Architecture;

/// A multiprocessor, by the CUDA programming guide ("Compute capabilities"): 64 Ki registers in four partitions.
pub struct Gpu {
    pub capability: (u32, u32),
    pub warps: usize,
    pub blocks: usize,
    /// The most bytes of shared memory; the rest of the unified memory is the first-level cache.
    pub shared: usize,
}

pub const GPUS: [Gpu; 4] = [
    Gpu { capability: (8, 0), warps: 64, blocks: 32, shared: 164 << 10 },
    Gpu { capability: (8, 6), warps: 48, blocks: 16, shared: 100 << 10 },
    Gpu { capability: (8, 9), warps: 48, blocks: 24, shared: 100 << 10 },
    Gpu { capability: (9, 0), warps: 64, blocks: 32, shared: 228 << 10 },
];

/// The index in [`GPUS`] of the one that everyday tests look at.
pub const HOPPER: usize = 3;

impl Gpu {
    pub fn name(&self) -> String {
        format!("sm_{}", Architecture { capability: self.capability, specific: false })
    }
}

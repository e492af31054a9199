//! What a tape is for: to train or to infer, and which part of a batch.

/// The purpose of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No op is recorded, no gradient is wanted, and dropout returns its input.
    Inference,
    /// Ops with gradients are recorded; dropout's masks are functions of (seed, epoch, step).
    Training { seed: u64, epoch: u32, step: u32 },
}

/// The shard of a batch that a tape is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, below [`Shard::MOST`]. Each shard draws dropout masks of its own.
    pub index: u32,
    /// Images of the whole batch, over which the loss is averaged.
    pub batch: usize,
}

impl Shard {
    /// The most shards of a batch, and the most dropouts of a network: their masks are numbered in so many.
    pub const MOST: u32 = 1 << 12;
}

//! How many blocks of a kernel a multiprocessor holds at once (CUDA programming guide, "Hardware Multithreading" and "Compute
//! Capabilities").

/// Registers of each of a multiprocessor's four partitions. Warps get them in units of 256.
const REGISTERS: usize = 16 << 10;
const REGISTER_UNIT: usize = 256;
/// Bytes of shared memory that CUDA reserves for each block, and the unit in which blocks get it.
const SHARED_BY_SYSTEM: usize = 1 << 10;
const SHARED_UNIT: usize = 128;

/// What a multiprocessor holds: warps, blocks, bytes of shared memory. (The rest of the unified memory is the first-level cache.)
#[derive(Debug)]
pub struct Limits {
    pub warps: usize,
    pub blocks: usize,
    pub shared: usize,
}

/// The multiprocessors of compute capabilities.
pub const LIMITS: [((u32, u32), Limits); 4] = [
    ((8, 0), Limits { warps: 64, blocks: 32, shared: 164 << 10 }),
    ((8, 6), Limits { warps: 48, blocks: 16, shared: 100 << 10 }),
    ((8, 9), Limits { warps: 48, blocks: 24, shared: 100 << 10 }),
    ((9, 0), Limits { warps: 64, blocks: 32, shared: 228 << 10 }),
];

/// Blocks of `warps` warps, with so many registers a thread and bytes of shared memory a block; and the letter of what limits them:
/// registers (`R`), shared memory (`S`), warps (`W`) or blocks (`B`).
pub fn occupancy(warps: usize, registers: usize, shared: usize, limits: &Limits) -> (usize, char) {
    let warps = warps.max(1);
    let per_partition = REGISTERS / (registers.max(1) * 32).next_multiple_of(REGISTER_UNIT);
    let bounds = [
        // A block's warps are spread evenly over the partitions.
        (4 * per_partition / warps.next_multiple_of(4), 'R'),
        (limits.shared / (shared + SHARED_BY_SYSTEM).next_multiple_of(SHARED_UNIT), 'S'),
        (limits.warps / warps, 'W'),
        (limits.blocks, 'B'),
    ];
    // Among equal limits the last one is named: warps and blocks, which a kernel cannot change.
    bounds.into_iter().rev().min_by_key(|(blocks, _)| *blocks).expect("four bounds")
}

//! Occupancy: the number of blocks that fit on a multiprocessor.
//!
//! The formula is that of NVIDIA's occupancy calculator: the minimum of
//!
//! - the multiprocessor's limit of blocks;
//! - its limit of warps, divided by the warps of a block;
//! - registers: a warp takes 32 times the registers of a thread, rounded up to 256; warps are allocated by fours;
//! - shared memory: a block takes its static and dynamic bytes and the bytes that the system reserves, rounded up to
//!   128.
//!
//! The registers are those of the PTX, more than a compiler would allocate, within the kernel's bounds (`.maxntid`,
//! `.minnctapersm`). The result is a lower bound for a card's.

use super::abi::{Handle, Out, SharedForBlock};
use super::boundary::{Outcome, within};
use super::device::{Limits, REGISTERS_PER_SM, THREADS_PER_BLOCK, WARP};
use super::error::{CUresult, Code};
use super::function::lookup;
use super::state::Function;

const REGISTER_UNIT: usize = 256;
const WARP_UNIT: usize = 4;
const SHARED_UNIT: usize = 128;

/// The resources of one block.
#[derive(Clone, Copy)]
struct Block {
    threads: usize,
    registers: usize,
    shared: usize,
}

fn blocks(limits: &Limits, block: Block) -> usize {
    let warps = block.threads.div_ceil(WARP);
    let warp_registers = (block.registers * WARP).next_multiple_of(REGISTER_UNIT);
    let warps_by_registers = REGISTERS_PER_SM / warp_registers / WARP_UNIT * WARP_UNIT;
    let shared = block.shared.saturating_add(limits.reserved_shared).next_multiple_of(SHARED_UNIT);
    let by_shared = limits.shared_per_sm.checked_div(shared).unwrap_or(limits.blocks_per_sm);
    (limits.blocks_per_sm).min(limits.threads_per_sm / WARP / warps).min(warps_by_registers / warps).min(by_shared)
}

impl Function {
    fn blocks(&self, limits: &Limits, threads: usize, dynamic_shared: usize) -> usize {
        let shared = self.kernel.static_shared().saturating_add(dynamic_shared);
        if threads > self.max_threads() || shared > limits.shared_per_block_optin {
            return 0;
        }
        blocks(limits, Block { threads, registers: self.registers(), shared })
    }
}

fn threads(block_size: i32) -> Outcome<usize> {
    usize::try_from(block_size).ok().filter(|threads| *threads > 0).ok_or(Code::InvalidValue.into())
}

fn max_active_blocks(count: Out<i32>, function: Handle, block_size: i32, dynamic_shared: usize) -> CUresult {
    within(|cx| {
        let function = lookup(cx, function)?;
        count.put(function.blocks(&cx.driver.limits(), threads(block_size)?, dynamic_shared) as i32)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    count: Out<i32>,
    function: Handle,
    block_size: i32,
    dynamic_shared: usize,
) -> CUresult {
    max_active_blocks(count, function, block_size, dynamic_shared)
}

/// The flag (`DISABLE_CACHING_OVERRIDE`) concerns the caches of old devices only.
#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    count: Out<i32>,
    function: Handle,
    block_size: i32,
    dynamic_shared: usize,
    _flags: u32,
) -> CUresult {
    max_active_blocks(count, function, block_size, dynamic_shared)
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyAvailableDynamicSMemPerBlock(
    bytes: Out<usize>,
    function: Handle,
    blocks: i32,
    block_size: i32,
) -> CUresult {
    within(|cx| {
        let function = lookup(cx, function)?;
        let (limits, blocks) = (cx.driver.limits(), threads(blocks)?);
        if function.blocks(&limits, threads(block_size)?, 0) < blocks {
            return bytes.put(0);
        }
        let share = limits.shared_per_sm / blocks / SHARED_UNIT * SHARED_UNIT;
        let own = share.saturating_sub(limits.reserved_shared).min(limits.shared_per_block_optin);
        bytes.put(own.saturating_sub(function.kernel.static_shared()))
    })
}

/// The block size, in whole warps, with the most threads on a multiprocessor; the largest one if several are equal.
fn potential(
    grid: Out<i32>,
    block: Out<i32>,
    function: Handle,
    shared_for: SharedForBlock,
    dynamic_shared: usize,
    limit: i32,
) -> CUresult {
    within(|cx| {
        let function = lookup(cx, function)?;
        let limits = cx.driver.limits();
        let most = match usize::try_from(limit).map_err(|_| Code::InvalidValue)? {
            0 => function.max_threads(),
            limit => function.max_threads().min(limit),
        };
        let mut best = (0, 0, 0);
        for threads in (1..=THREADS_PER_BLOCK / WARP).rev().map(|warps| (warps * WARP).min(most)) {
            let shared = shared_for.map_or(dynamic_shared, |shared_for| shared_for(threads as i32));
            let blocks = function.blocks(&limits, threads, shared);
            if blocks * threads > best.0 {
                best = (blocks * threads, blocks, threads);
            }
        }
        if best.0 == 0 {
            return Err(Code::InvalidValue.because("no block of this kernel fits on a multiprocessor"));
        }
        grid.put((best.1 * limits.sms) as i32)?;
        block.put(best.2 as i32)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxPotentialBlockSize(
    grid: Out<i32>,
    block: Out<i32>,
    function: Handle,
    shared_for: SharedForBlock,
    dynamic_shared: usize,
    limit: i32,
) -> CUresult {
    potential(grid, block, function, shared_for, dynamic_shared, limit)
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    grid: Out<i32>,
    block: Out<i32>,
    function: Handle,
    shared_for: SharedForBlock,
    dynamic_shared: usize,
    limit: i32,
    _flags: u32,
) -> CUresult {
    potential(grid, block, function, shared_for, dynamic_shared, limit)
}

#[cfg(test)]
mod tests {
    use super::super::device::limits;
    use super::*;

    /// The expected values were computed by hand from the calculator's rules.
    #[test]
    fn blocks_per_multiprocessor_follow_the_occupancy_calculator() {
        let block = |threads, registers, shared| Block { threads, registers, shared };
        // Limited by threads.
        assert_eq!(blocks(&limits((8, 0)), block(256, 32, 0)), 8);
        assert_eq!(blocks(&limits((8, 6)), block(256, 32, 0)), 6);
        assert_eq!(blocks(&limits((7, 5)), block(1024, 32, 0)), 1);
        // Limited by blocks.
        assert_eq!(blocks(&limits((8, 0)), block(32, 16, 0)), 32);
        // Limited by registers. 255 of them: 8192 a warp, 8 warps.
        assert_eq!(blocks(&limits((8, 0)), block(128, 255, 0)), 2);
        // 128 registers, 256 threads: half of the registers.
        assert_eq!(blocks(&limits((9, 0)), block(256, 128, 0)), 2);
        // Limited by shared memory. 163 KB is the largest block; 48 KB and 1 KB reserved fit three times into 164 KB.
        assert_eq!(blocks(&limits((8, 0)), block(128, 32, 163 << 10)), 1);
        assert_eq!(blocks(&limits((8, 0)), block(128, 32, 48 << 10)), 3);
        assert_eq!(blocks(&limits((8, 0)), block(128, 32, 164 << 10)), 0);
    }
}

//! Which sectors of global memory a launch touches, each once: what it would move if the caches lost nothing while it runs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::memory::Allocation;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 32;

type Bits = Box<[AtomicU64]>;

/// A bit for each sector of each allocation, of those that were touched at all; loads, then stores.
pub(super) struct Footprint {
    touched: Vec<[OnceLock<Bits>; 2]>,
}

impl Footprint {
    pub fn new(allocations: usize) -> Self {
        Footprint { touched: (0..allocations).map(|_| Default::default()).collect() }
    }

    /// Whether nothing in this launch has loaded, or stored, the sector at `address` before. It lies in `allocation`, which is
    /// number `at`.
    pub fn first(&self, at: usize, allocation: &Allocation, address: u64, write: bool) -> bool {
        // Allocations begin at multiples of a sector.
        let sector = (address - allocation.base) / SECTOR;
        let sectors = (allocation.size as u64).div_ceil(SECTOR);
        let empty = || (0..sectors.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let bits = self.touched[at][usize::from(write)].get_or_init(empty);
        bits[(sector / 64) as usize].fetch_or(1 << (sector % 64), Relaxed) >> (sector % 64) & 1 == 0
    }
}

//! The footprint of a launch: the distinct sectors of global memory that it accesses. This is its memory traffic if no
//! cache evicts a sector during the launch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::memory::Allocation;

/// The size of a sector in bytes.
pub(super) const SECTOR: u64 = 32;

type Bits = Box<[AtomicU64]>;

/// One bit for each sector of each accessed allocation: first for loads, then for stores.
pub(super) struct Footprint {
    touched: Vec<[OnceLock<Bits>; 2]>,
}

impl Footprint {
    pub fn new(allocations: usize) -> Self {
        Footprint { touched: (0..allocations).map(|_| Default::default()).collect() }
    }

    /// Marks the sector at `address` as loaded, or as stored if `write`. Returns whether this was the launch's first
    /// load, or store, of it. The sector lies in `allocation`, which has index `at`.
    pub fn first(&self, at: usize, allocation: &Allocation, address: u64, write: bool) -> bool {
        // Allocations begin at multiples of the sector size.
        let sector = (address - allocation.base) / SECTOR;
        let sectors = (allocation.size as u64).div_ceil(SECTOR);
        let empty = || (0..sectors.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let bits = self.touched[at][usize::from(write)].get_or_init(empty);
        bits[(sector / 64) as usize].fetch_or(1 << (sector % 64), Relaxed) >> (sector % 64) & 1 == 0
    }
}

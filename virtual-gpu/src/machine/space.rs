//! Generic addresses: shared and local memory are mapped into windows outside the range of global allocations.

pub(super) const SHARED_WINDOW: u64 = 0x10_0000_0000;
pub(super) const LOCAL_WINDOW: u64 = 0x20_0000_0000;
pub(super) const WINDOW: u64 = 1 << 32;

//! Generic addresses: shared memory, local memory and the kernel's parameters are mapped into windows outside the range of global allocations.

pub(super) const SHARED_WINDOW: u64 = 0x10_0000_0000;
pub(super) const LOCAL_WINDOW: u64 = 0x20_0000_0000;
/// Of parameters that are `__grid_constant__`.
pub(super) const PARAM_WINDOW: u64 = 0x30_0000_0000;
pub(super) const WINDOW: u64 = 1 << 32;

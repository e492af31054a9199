//! The constants that launches and kernels share. They exist once, here; `build.rs` includes this file and hands them to
//! nvcc as `-D`.

/// Threads of a block of the kernels that go over elements one after the other.
pub const THREADS: usize = 256;

/// Channels of a block of the global average pool.
pub const AVGPOOL_CHANNELS: usize = 32;

/// The side of the squares in which flatten transposes.
pub const FLATTEN_TILE: usize = 32;

/// Parameters that one launch of the optimiser updates: as many as its arguments have room for.
pub const SGD_ITEMS: usize = 64;

/// Each constant as the kernels' preprocessor sees it.
pub fn defines() -> Vec<(String, String)> {
    let constants = [
        ("THREADS", THREADS),
        ("AVGPOOL_CHANNELS", AVGPOOL_CHANNELS),
        ("FLATTEN_TILE", FLATTEN_TILE),
        ("SGD_ITEMS", SGD_ITEMS),
    ];
    constants.map(|(name, value)| (name.into(), value.to_string())).to_vec()
}

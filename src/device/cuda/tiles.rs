//! The constants that launches and kernels share. They exist once, here; `build.rs` includes this file and hands them to
//! nvcc as `-D`.

/// Threads of a block of the kernels that go over elements one after the other.
pub const THREADS: usize = 256;

/// Each constant as the kernels' preprocessor sees it.
pub fn defines() -> Vec<(String, String)> {
    vec![("THREADS".into(), THREADS.to_string())]
}

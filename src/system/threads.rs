//! The threads of the CPU: rayon's pools, started so that a refusal is an error.

use std::error::Error as _;
use std::hint::black_box;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

fn refused(problem: &str) -> Error {
    Error::Device { device: "cpu".into(), problem: format!("the system does not start its threads: {problem}") }
}

/// Addresses that a thread takes: its stack of 2 MiB, and what the standard library and the allocator put beside it.
const THREAD: usize = (2 << 20) + (512 << 10);
/// The most threads whose addresses are tried. A system that has so much has more.
const TRIED: usize = 64;

/// Checks that the addresses of the threads are free. A thread whose stack is the last that fits panics as it starts, where
/// nothing can catch it.
fn room(threads: usize) -> std::result::Result<(), String> {
    let mut trial: Vec<u8> = Vec::new();
    let room = trial.try_reserve_exact(threads.min(TRIED) * THREAD);
    // Seen from outside, so that the compiler cannot leave the trial out.
    black_box(&trial);
    room.map_err(|_| "there is no memory for their stacks".into())
}

/// A pool of `threads` threads.
///
/// # Errors
/// [`Error::Device`] if the system refuses to start them.
pub(crate) fn pool(threads: usize) -> Result<ThreadPool> {
    room(threads).map_err(|problem| refused(&problem))?;
    ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| refused(&error.to_string()))
}

/// Starts rayon's global pool, unless it has been started, or this thread works for a pool of the caller's. Without it rayon
/// starts the pool at its first use, and panics where that fails.
///
/// # Errors
/// [`Error::Device`] if the system has refused to start the threads. Rayon does not try again, so the error is for good.
pub(crate) fn start_global() -> Result<()> {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    if rayon::current_thread_index().is_some() {
        return Ok(());
    }
    let refusal = REFUSAL.get_or_init(|| {
        if let Err(problem) = room(available_parallelism().map_or(1, usize::from)) {
            return Some(problem);
        }
        // An error without a source says that the pool exists.
        let error = ThreadPoolBuilder::new().build_global().err()?;
        error.source().is_some().then(|| error.to_string())
    });
    refusal.as_deref().map_or(Ok(()), |problem| Err(refused(problem)))
}

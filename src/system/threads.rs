//! The threads of the CPU: rayon's pools, started so that a refusal is an error.

use std::error::Error as _;
use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

fn refused(problem: &str) -> Error {
    Error::Device { device: "cpu".into(), problem: format!("the system does not start its threads: {problem}") }
}

/// A pool of `threads` threads.
///
/// # Errors
/// [`Error::Device`] if the system refuses to start them.
pub(crate) fn pool(threads: usize) -> Result<ThreadPool> {
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
        // An error without a source says that the pool exists.
        let error = ThreadPoolBuilder::new().build_global().err()?;
        error.source().is_some().then(|| error.to_string())
    });
    refusal.as_deref().map_or(Ok(()), |problem| Err(refused(problem)))
}

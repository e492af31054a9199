//! Limits that come from around the process: that of its address space, and rayon's number of threads.

use std::env;

use mlpconv::{Error, Result};

/// Looks at the limits, before anything starts.
///
/// # Errors
/// [`Error::Config`] for a number of threads that is none. Rayon would ignore it, or start tens of thousands.
pub fn respect() -> Result<()> {
    save_addresses();
    let threads = env::var_os("RAYON_NUM_THREADS").unwrap_or_default();
    let number = threads.to_str().and_then(|text| text.parse().ok());
    if threads.is_empty() || number.is_some_and(|number: usize| (1..=1024).contains(&number)) {
        return Ok(());
    }
    let problem = format!("{} must be between 1 and 1024", threads.display());
    Err(Error::Config { what: "RAYON_NUM_THREADS".into(), problem })
}

/// glibc reserves 64 MiB of addresses for each thread that allocates. Where addresses are limited (`ulimit -v`) they are
/// memory, and all threads share one arena.
fn save_addresses() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `getrlimit` fills the structure in, and no other thread runs yet.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        if libc::getrlimit(libc::RLIMIT_AS, &mut limit) == 0 && limit.rlim_cur != libc::RLIM_INFINITY {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

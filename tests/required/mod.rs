//! What may be skipped: on one's own machine a test of what the machine lacks, under CI nothing.

// Each test binary uses only a part of this module.
#![allow(dead_code)]

use std::io::Write as _;
use std::{env, io, thread};

/// Says on standard error that the calling test is skipped, and why.
///
/// # Panics
/// Under CI, whatever `CI` is set to.
pub fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "under CI nothing may be skipped: {why}");
    // Not `eprintln!`: the test harness captures it and shows it only for failing tests.
    let thread = thread::current();
    let _ = writeln!(io::stderr(), "{} is skipped: {why}", thread.name().unwrap_or("a test"));
}

/// [`skip`] for want of the kernels, or of the tools that they are looked at with.
///
/// # Panics
/// With `MLPCONV_REQUIRE_CUDA=1` as well.
pub fn skip_kernels(why: &str) {
    let required = env::var_os("MLPCONV_REQUIRE_CUDA").is_some_and(|value| value != "0");
    assert!(!required, "$MLPCONV_REQUIRE_CUDA lets no test of the kernels be skipped: {why}");
    skip(why);
}

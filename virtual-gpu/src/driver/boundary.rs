//! The one way from C into the driver.
//!
//! Every exported function is a line or two that hands a closure to one of the three functions here, by what
//! it needs: nothing ([`answer`]), a driver that was initialised ([`call`]), or a current context ([`within`]).

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::context::current;
use super::error::{CUresult, Code, Fault};
use super::host::inside_host_function;
use super::state::{Driver, driver};
use super::work::Current;

pub type Outcome<T = ()> = Result<T, Fault>;

/// Says something on stderr. A closed stderr is no reason to fail.
pub fn say(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "virtual-gpu: {what}");
}

/// Runs `body` and turns its outcome into a result code. No panic gets past this point.
pub fn answer(body: impl FnOnce() -> Outcome) -> CUresult {
    // Nothing is left half done that a later call would see: locks are poison-proof (`state::lock`), and tables are
    // changed last.
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Code::Unknown.because("a bug of the virtual GPU itself, see the panic above; please report it"))
    });
    match outcome {
        Ok(()) => 0,
        Err(Fault { code, why }) => {
            if let Some(why) = why {
                say(why);
            }
            code as CUresult
        }
    }
}

/// As [`answer`], for functions that need `cuInit` to have been called.
pub fn call(body: impl FnOnce(&'static Driver) -> Outcome) -> CUresult {
    answer(|| {
        if inside_host_function() {
            return Err(Code::NotPermitted.because("a host function on a stream must not call the driver"));
        }
        body(driver()?)
    })
}

/// As [`call`], for functions that act in the calling thread's current context, which must not have failed.
pub fn within(body: impl FnOnce(&Current) -> Outcome) -> CUresult {
    call(|driver| {
        let context = current().ok_or(Code::InvalidContext)?;
        let known = driver.state().context(context)?.failure;
        match known {
            Some(failure) if failure.reported => Err(failure.code.into()),
            _ => body(&Current { driver, context }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_stays_inside() {
        assert_eq!(answer(|| panic!("deliberately")), Code::Unknown as CUresult);
        assert_eq!(answer(|| Ok(())), 0);
    }
}

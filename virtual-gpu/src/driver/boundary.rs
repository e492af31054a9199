//! The entry from C into the driver.
//!
//! Every exported function passes a closure to one of the three functions here, according to what it needs: nothing
//! ([`answer`]), an initialised driver ([`call`]), or a current context ([`within`]).

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::context::current;
use super::error::{CUresult, Code, Fault};
use super::host::inside_host_function;
use super::state::{Driver, driver};
use super::work::Current;

pub type Outcome<T = ()> = Result<T, Fault>;

/// Prints a message on stderr. Errors are ignored: a closed stderr must not fail a call.
pub fn say(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "virtual-gpu: {what}");
}

/// Runs `body` and converts its outcome to a result code. Catches panics, which must not unwind into C.
pub fn answer(body: impl FnOnce() -> Outcome) -> CUresult {
    // Unwind safety: a panic leaves no inconsistent state, because locks ignore poisoning (`state::lock`) and
    // tables are changed last.
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Code::Unknown.because("a bug in the virtual GPU itself, see the panic above; please report it"))
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

/// [`answer`] for functions that require `cuInit`.
pub fn call(body: impl FnOnce(&'static Driver) -> Outcome) -> CUresult {
    answer(|| {
        if inside_host_function() {
            return Err(Code::NotPermitted.because("a host function on a stream must not call the driver"));
        }
        body(driver()?)
    })
}

/// [`call`] for functions that use the calling thread's current context. Fails if that context has failed.
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
    fn a_panic_becomes_a_result_code() {
        assert_eq!(answer(|| panic!("deliberately")), Code::Unknown as CUresult);
        assert_eq!(answer(|| Ok(())), 0);
    }
}

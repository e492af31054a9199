//! Signals that end a program: INT (Ctrl-C), TERM and HUP.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mlpconv::{Error, Result};

use super::output::note;

/// The first signal, by its number.
static RECEIVED: OnceLock<i32> = OnceLock::new();

/// The least time between the first signal and one that means "at once". `timeout` sends two in one moment.
const AGAIN: Duration = Duration::from_secs(1);

/// The number of the signal that asks the program to end, if one has.
pub fn received() -> Option<i32> {
    RECEIVED.get().copied()
}

/// Handles the signals from now on: the first one is for [`received`], and a later one ends the program at once.
/// A signal that was ignored at the start, as `nohup` ignores HUP, stays ignored.
///
/// # Errors
/// [`Error::Config`] if the system refuses.
#[cfg(unix)]
pub fn listen() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !ignored(*signal));
    let mut signals = Signals::new(wanted).map_err(refused)?;
    let wait = move || {
        let mut first = None;
        for signal in signals.forever() {
            if is_again(signal, &mut first) {
                signal_hook::low_level::exit(code(signal));
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(refused)?;
    Ok(())
}

/// Whether the signal is ignored.
#[cfg(unix)]
pub fn ignored(signal: i32) -> bool {
    // SAFETY: with no new action `sigaction` only fills `action`, which all-zero bytes initialise: it is plain data.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
pub fn listen() -> Result<()> {
    const SIGINT: i32 = 2;
    let mut first = None;
    let handler = move || {
        if is_again(SIGINT, &mut first) {
            std::process::exit(code(SIGINT));
        }
    };
    ctrlc::set_handler(handler).map_err(refused)
}

fn refused(problem: impl ToString) -> Error {
    Error::Config { what: "handling signals".into(), problem: problem.to_string() }
}

/// Takes note of a signal. Returns whether the program is to end at once. `first` is the time of the first signal.
fn is_again(signal: i32, first: &mut Option<Instant>) -> bool {
    match first {
        None => {
            *first = Some(Instant::now());
            let _ = RECEIVED.set(signal);
            note("\ninterrupted: finishing the step, then saving (again: quit at once)");
            false
        }
        Some(first) => first.elapsed() >= AGAIN,
    }
}

/// The exit code of a program that a signal has ended, as shells have it.
pub fn code(signal: i32) -> i32 {
    128 + signal
}

//! Lines for the person: results on standard output, notes and errors on standard error. Writing never panics, and
//! never ends the program: a program that saves first has to come to its end.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

/// The first failure of standard output.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Prints a line of the result. After a failure (a closed pipe, a full disk) nothing more is printed; [`failure`] tells
/// it.
pub fn say(line: impl Display) {
    if failure().is_none()
        && let Err(error) = writeln!(io::stdout(), "{line}")
    {
        let _ = FAILURE.set(error);
    }
}

/// Prints a line to standard error. If that fails there is nowhere left to tell it.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The failure of standard output, if it has failed.
pub fn failure() -> Option<&'static io::Error> {
    FAILURE.get()
}

/// The exit code of a program whose output failed before its work was done: 141 for a closed pipe (as `summary | head`
/// gives any program that SIGPIPE ends), 1 otherwise, with a note.
pub fn failed(error: &io::Error) -> ExitCode {
    if error.kind() == ErrorKind::BrokenPipe {
        return ExitCode::from(141);
    }
    note(format_args!("error: cannot write to standard output: {error}"));
    ExitCode::FAILURE
}

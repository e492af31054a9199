//! Lines for the person: results on standard output, notes and errors on standard error. Writing never panics, and
//! never ends the program: a program that saves first has to come to its end.

pub mod block;

use std::env;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ::console::Term;
use textwrap::{Options, WordSeparator, WordSplitter};

/// The first failure of standard output.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Whether standard output is for a program, or for nobody: [`say`] is silent then.
static HUSHED: AtomicBool = AtomicBool::new(false);

/// Whether standard error is a terminal that can draw: move its cursor, erase, show colours.
pub fn draws() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// From now on [`say`] prints nothing, so that standard output holds what [`emit`] writes, and nothing else.
pub fn hush() {
    HUSHED.store(true, Ordering::Relaxed);
}

/// Prints a line of the result for a person, which wraps at words on a terminal. After a failure (a closed pipe, a full disk)
/// nothing more is printed; [`failure`] tells it.
pub fn say(line: impl Display) {
    if !HUSHED.load(Ordering::Relaxed) {
        emit(wrapped(line.to_string(), &Term::stdout()));
    }
}

/// As [`say`], but in one line however long it is, for who copies it.
pub fn say_in_one(line: impl Display) {
    if !HUSHED.load(Ordering::Relaxed) {
        emit(line);
    }
}

/// Prints a line of the result for a program, hushed or not. After a failure as [`say`].
pub fn emit(line: impl Display) {
    if failure().is_some() {
        return;
    }
    let write = || writeln!(io::stdout(), "{line}");
    // A pipe may block as long as it likes, and the block must not wait for it.
    let written = if io::stdout().is_terminal() { block::aside(write) } else { write() };
    if let Err(error) = written {
        let _ = FAILURE.set(error);
    }
}

/// Prints a line to standard error, which wraps at words on a terminal. If that fails there is nowhere left to tell it.
pub fn note(line: impl Display) {
    let line = wrapped(line.to_string(), &Term::stderr()) + "\n";
    // In one write, so that no other process writes in between.
    let _ = block::aside(|| io::stderr().write_all(line.as_bytes()));
}

/// The line with breaks at words, as wide as the terminal. Several lines, and what has colours, are laid out already.
fn wrapped(line: String, terminal: &Term) -> String {
    match terminal.size_checked() {
        Some((_, columns)) if terminal.is_term() && !line.contains(['\n', '\x1b']) => at_words(&line, columns.into()),
        _ => line,
    }
}

/// The text in lines of so many columns, if its words allow that.
fn at_words(text: &str, columns: usize) -> String {
    let options = Options::new(columns)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_words_and_nowhere_else() {
        let line = "epoch 3/4: loss 1.115, train acc 0.524, test acc 0.602, 953.7 examples/s";
        let lines = "epoch 3/4: loss 1.115, train acc 0.524,\ntest acc 0.602, 953.7 examples/s";
        assert_eq!(at_words(line, 40), lines);
        assert_eq!(at_words(line, 80), line);
        // Columns that are laid out with blanks stay so.
        assert_eq!(at_words("device   CPU, 2 threads", 14), "device   CPU,\n2 threads");
        assert_eq!(
            at_words("weights  runs/a-long-name/weights.safetensors", 20),
            "weights\nruns/a-long-name/weights.safetensors"
        );
    }
}

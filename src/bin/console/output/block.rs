//! The block: the last lines on the terminal of standard error, which are drawn anew in place, below all other output.
//!
//! Between two drawings the cursor rests at the start of the block's first line, not below its last one. A terminal
//! that is made narrower wraps the block's lines anew and takes the cursor along, so to erase is always "from the cursor
//! to the end", and no row is ever counted. (indicatif counts rows, and fills each to the edge: after a resize its upper
//! rows stay.) A line of another process lands above the block for the same reason.

use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The block's lines, with their colours; none while no block is shown.
static SHOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Without wrapping, a line that is too long for a terminal just made narrower is cut, and no row is added.
const NO_WRAPPING: &str = "\x1b[?7l";
const WRAPPING: &str = "\x1b[?7h";
/// Erases a line, from its first column on. That also makes it a line of its own if wrapping had made it a part of one.
const ERASE_LINE: &str = "\x1b[K";
/// Erases the cursor's line and all below. Not from the first column on: if that is the screen's, tmux takes the screen
/// to its history first.
const ERASE_ALL: &str = "\r\x1b[K\x1b[C\x1b[J\r";
const ERASE_REST: &str = "\x1b[J";

fn shown() -> MutexGuard<'static, Vec<String>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows these lines as the block, in place of its lines so far. There are to be no more of them than the terminal has.
pub fn show(lines: Vec<String>) {
    let mut shown = shown();
    write(&drawing(&lines));
    *shown = lines;
}

/// Erases the block.
pub fn erase() {
    if !std::mem::take(&mut *shown()).is_empty() {
        write(ERASE_ALL);
    }
}

/// Erases the block, prints lines that stay, and ends with the cursor below them.
pub fn leave(lines: &[String]) {
    erase();
    write(&lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
}

/// Writes other output, and shows the block below it.
pub fn aside<T>(write_other: impl FnOnce() -> T) -> T {
    let shown = shown();
    if shown.is_empty() {
        return write_other();
    }
    write(ERASE_ALL);
    let written = write_other();
    write(&drawing(&shown));
    written
}

/// What draws the lines from the cursor on over what is there, and returns the cursor to the first.
fn drawing(lines: &[String]) -> String {
    let text = lines.join(&format!("\r\n{ERASE_LINE}"));
    let up = match lines.len() {
        0 | 1 => String::new(),
        lines => format!("\x1b[{}A", lines - 1),
    };
    format!("\r{NO_WRAPPING}{ERASE_LINE}{text}{ERASE_REST}{WRAPPING}\r{up}")
}

/// A terminal that is gone takes nothing more, and there is nowhere to tell it.
fn write(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

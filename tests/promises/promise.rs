//! The promises' wording, their numbers of tries, and the figures that the README's table shows.

use std::fmt::Display;
use std::path::PathBuf;
use std::{env, fs, io, io::Write as _, thread};

/// The promises, in the order of the README's table. A test names its promise by the number, from 1.
pub const PROMISES: [&str; 16] = [
    "`kill -9` at any moment loses at most the steps since the last save, and resuming ends with the same bits",
    "A full disk or an I/O error at any call of a save leaves the previous state usable, names path and cause, and leaves nothing behind",
    "A damaged file is refused, or changes nothing",
    "Hostile input never panics, hangs or swallows memory",
    "Out of memory is an answer: a typed error, and a batch that fits is named",
    "A NaN or an infinity stops the run before it reaches the weights, and is named with step and op",
    "The same seed, program, device and precision give the same bits, with any number of threads and on every run",
    "INT, TERM and HUP at any moment: saved and resumable within 2 s of the step's end",
    "Of two processes on one run folder the second is refused by name",
    "No leak, on the host or on the device",
    "No driver, no GPU, a lacking symbol, an old driver or GPU: a clear word, and the CPU or exit code 2",
    "Run files of older versions load, newer ones are refused by name",
    "A download that is cut off, wrong, endless or slow is refused, and nothing of it stays",
    "Kernels touch nothing that is not theirs",
    "Embedding is safe: the library never prints, exits, installs handlers, or panics on bad arguments",
    "The learning is real: accuracy does not fall by a point",
];

/// The folder of the figures. `make torture` sets it, and with it the long form of every test.
fn figures() -> Option<PathBuf> {
    env::var_os("MLPCONV_TORTURE").map(PathBuf::from)
}

/// The number of tries: `long` under `make torture`, `short` otherwise.
pub fn tries(short: usize, long: usize) -> usize {
    if figures().is_some() { long } else { short }
}

/// States that promise `number` held, with the figure that shows it. Call it once at the end of a test: the test's name
/// is the figure's, and a promise may have several.
pub fn kept(number: usize, figure: impl Display) {
    let promise = PROMISES[number - 1];
    // Written to the stream itself: the test harness hides the output of `print!` in a passing test.
    let _ = io::stderr().write_all(format!("promise {number} held: {figure}. ({promise})\n").as_bytes());
    if let Some(folder) = figures() {
        fs::create_dir_all(&folder).unwrap();
        let thread = thread::current();
        let test = thread.name().expect("a test's thread has its name").replace("::", ".");
        fs::write(folder.join(format!("{number:02}.{test}")), format!("{figure}\n")).unwrap();
    }
}

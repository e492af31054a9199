//! System calls that fail: the library of `calls.c`, which a program loads before the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::place::Finished;

/// A call of the C library on a file below the watched folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The name, as in `rename`.
    pub name: String,
    /// The path, relative to the watched folder.
    pub path: String,
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The call fails with this number.
    Error(i32),
    /// The disk is full from this call on.
    Full,
    /// A write takes only a half, and the next one goes on.
    Short,
    /// SIGKILL before the call.
    Kill,
    /// SIGKILL after half of a write.
    Tear,
}

/// The library, which is built once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promises/calls/calls.c");
        // Another process of tests may build it at the same time.
        let part = folder.join(format!("calls-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        let built =
            compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&part).arg(source).status();
        assert!(built.expect("cc is there, as Rust links with it").success());
        let library = folder.join("calls.so");
        fs::rename(part, &library).unwrap();
        library
    })
}

/// Watches the command's calls on the files below `folder`, which need not exist.
fn watch<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    let above = fs::canonicalize(folder.parent().unwrap()).unwrap();
    command.env("LD_PRELOAD", library()).env("CALLS_UNDER", above.join(folder.file_name().unwrap()))
}

/// Runs a command, which has to succeed, and returns its calls on files below `folder`, in order.
pub fn calls(mut command: Command, folder: &Path) -> Vec<Call> {
    let log = folder.with_extension("calls");
    Finished::of(watch(&mut command, folder).env("CALLS_LOG", &log)).good();
    let text = fs::read_to_string(log).unwrap();
    let folder = fs::canonicalize(folder).unwrap();
    let call = |line: &str| {
        let (name, path) = line.split_once(' ').unwrap();
        let path = Path::new(path).strip_prefix(&folder).unwrap();
        Call { name: name.into(), path: path.to_str().unwrap().into() }
    };
    text.lines().map(call).collect()
}

/// The numbers of the calls up to `last` that are not in the midst of a row of equal ones: of the many reads of a file,
/// the first and the last.
pub fn telling(calls: &[Call], last: usize) -> Vec<usize> {
    let in_a_row = |i: usize| i > 0 && i + 1 < calls.len() && calls[i - 1] == calls[i] && calls[i] == calls[i + 1];
    (0..last).filter(|&i| !in_a_row(i)).map(|i| i + 1).collect()
}

/// Lets `fault` happen to the command at call `number`, from 1, on files below `folder`.
pub fn at(command: &mut Command, folder: &Path, number: usize, fault: Fault) {
    let what = match fault {
        Fault::Error(number) => number.to_string(),
        Fault::Full => libc::ENOSPC.to_string(),
        Fault::Short => "short".into(),
        Fault::Kill => "kill".into(),
        Fault::Tear => "tear".into(),
    };
    watch(command, folder).env("CALLS_AT", number.to_string()).env("CALLS_DO", what);
    if fault == Fault::Full {
        command.env("CALLS_FROM", "1");
    }
}

/// Lets every call of this name fail with the error `number`.
pub fn always(command: &mut Command, folder: &Path, name: &str, number: i32) {
    watch(command, folder).env("CALLS_ONLY", name).env("CALLS_DO", number.to_string());
}

/// Lets the command wait at its first call on files below `folder` until the file `gate` exists. In `log` it says that it
/// waits.
pub fn wait_at(command: &mut Command, folder: &Path, gate: &Path, log: &Path) {
    watch(command, folder).env("CALLS_GATE", gate).env("CALLS_LOG", log);
}

//! The program as a user starts them: in a folder of their own, from which they find the real data set.

// Each test binary uses only a part of this module.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use mlpconv::data::{Splits, known};
use tempfile::TempDir;

use crate::required;

/// For [`Place::command`]: `mlpconv train`. The program `train` is the same.
pub const TRAIN: &str = "mlpconv train";
pub const MLPCONV: &str = env!("CARGO_BIN_EXE_mlpconv");

/// A program that has ended.
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Asserts success.
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Asserts failure, with an error in one line, at most one line of options that help, and all of `says` in them.
    pub fn bad(self, says: &[&str]) -> Self {
        let Finished { code, stdout, stderr } = &self;
        // A panic would end with code 101.
        assert!(matches!(code, Some(1 | 2)), "ended with {code:?}: {stdout}{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
        let options: Vec<&str> = stderr.lines().filter(|line| line.starts_with("options:")).collect();
        assert!(errors.len() == 1 && options.len() <= 1, "{stderr}");
        for what in says {
            assert!(errors.iter().chain(&options).any(|line| line.contains(what)), "{what:?} is not in: {stderr}");
        }
        self
    }

    /// The line of stdout that begins with `start`.
    pub fn line(&self, start: &str) -> &str {
        let line = self.stdout.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line begins with {start:?}: {}", self.stdout))
    }
}

/// The folder of the data set, or `None` after a message that the test is skipped.
///
/// # Panics
/// As [`required::skip`] if there is none.
pub fn data() -> Option<PathBuf> {
    if let Some(source) = Splits::find(&known::FASHION_MNIST, None).unwrap() {
        return Some(fs::canonicalize(source.folder).unwrap());
    }
    required::skip("Fashion-MNIST is not on this machine: `make test` fetches it, or name its folder by $MLPCONV_DATA");
    None
}

/// A working folder for programs, from which they find the data set. It is removed on drop.
pub struct Place {
    pub folder: TempDir,
    pub data: PathBuf,
}

impl Place {
    pub fn new() -> Option<Self> {
        data().map(|data| Place { folder: TempDir::new().unwrap(), data })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command of `program` with the options in `line`, separated by spaces, and without a terminal.
    pub fn command(&self, program: &str, line: &str) -> Command {
        let mut command = Command::new(if program == TRAIN { MLPCONV } else { program });
        command.args((program == TRAIN).then_some("train"));
        command.args(line.split_whitespace()).current_dir(self.folder.path()).env("MLPCONV_DATA", &self.data);
        command.env_remove("RAYON_NUM_THREADS").stdin(Stdio::null());
        // On every machine programs find no GPU, except those that are given a virtual one.
        command.env("CUDA_VISIBLE_DEVICES", "");
        #[cfg(unix)]
        heed_signals(&mut command);
        command
    }

    pub fn train(&self, line: &str) -> Finished {
        Finished::of(&mut self.command(TRAIN, line))
    }

    pub fn mlpconv(&self, line: &str) -> Finished {
        Finished::of(&mut self.command(MLPCONV, line))
    }

    /// [`Place::mlpconv`] where no file can have more than so many blocks of half a KiB or a KiB, as on a full disk.
    #[cfg(unix)]
    pub fn mlpconv_within(&self, blocks: u32, line: &str) -> Finished {
        let mut command = self.command("sh", "");
        let limit = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        command.args(["-c", &*limit, "sh", MLPCONV]).args(line.split_whitespace());
        Finished::of(&mut command)
    }

    pub fn weights(&self, run: &str) -> Vec<u8> {
        fs::read(self.path(run).join("weights.safetensors")).unwrap()
    }
}

/// Whoever starts the tests may ignore signals, hang-ups as `nohup` does, Ctrl-C as a shell does in the background, and programs
/// inherit that.
#[cfg(unix)]
fn heed_signals(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    let heed = || {
        for signal in [libc::SIGHUP, libc::SIGINT] {
            // SAFETY: `signal` may be called between fork and exec.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure neither allocates nor locks.
    unsafe { command.pre_exec(heed) };
}

/// The names in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

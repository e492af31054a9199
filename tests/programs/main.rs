//! The programs as their users run them: as processes, on a few batches of the real data set.

#[cfg(feature = "cuda")]
#[path = "../gpu/mod.rs"]
mod gpu;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io, io::Write as _};

use mlpconv::data::{Splits, known};
use mlpconv::optim::OptimizerKind;
use mlpconv::train::{EpochMetrics, Preset, Run};
use mlpconv::weights::Tensors;
use tempfile::TempDir;

const TRAIN: &str = env!("CARGO_BIN_EXE_train");
const MLPCONV: &str = env!("CARGO_BIN_EXE_mlpconv");

/// A program that has ended.
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Finished {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Asserts success.
    fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Asserts failure, with an error in one line, at most one line of options that help, and all of `says` in them.
    fn bad(self, says: &[&str]) -> Self {
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
    fn line(&self, start: &str) -> &str {
        let line = self.stdout.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line begins with {start:?}: {}", self.stdout))
    }
}

/// The folder of the data set, or `None` after a message that the test is skipped. Under CI its absence is a failure.
fn data() -> Option<PathBuf> {
    if let Some(source) = Splits::find(&known::FASHION_MNIST, None).unwrap() {
        return Some(fs::canonicalize(source.folder).unwrap());
    }
    let problem = "Fashion-MNIST is not on this machine";
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{problem}");
    // Written to the stream itself: the test harness hides the output of `print!` in a passing test.
    let remedy = "`make test` fetches it, or name its folder with $MLPCONV_DATA";
    io::stderr().write_all(format!("\nSKIPPED a test of the programs: {problem}; {remedy}\n").as_bytes()).unwrap();
    None
}

/// A working folder for programs, from which they find the data set. It is removed on drop.
struct Place {
    folder: TempDir,
    data: PathBuf,
}

impl Place {
    fn new() -> Option<Self> {
        data().map(|data| Place { folder: TempDir::new().unwrap(), data })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command of `program` with the options in `line`, separated by spaces, and without a terminal.
    fn command(&self, program: &str, line: &str) -> Command {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(self.folder.path()).env("MLPCONV_DATA", &self.data);
        command.env_remove("RAYON_NUM_THREADS").stdin(Stdio::null());
        // On every machine programs find no GPU, except those that are given a virtual one.
        command.env("CUDA_VISIBLE_DEVICES", "");
        command
    }

    fn train(&self, line: &str) -> Finished {
        Finished::of(&mut self.command(TRAIN, line))
    }

    fn mlpconv(&self, line: &str) -> Finished {
        Finished::of(&mut self.command(MLPCONV, line))
    }

    fn weights(&self, run: &str) -> Vec<u8> {
        fs::read(self.path(run).join("weights.safetensors")).unwrap()
    }
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

mod runs;

#[cfg(unix)]
mod interruption;

#[test]
fn adamw_has_a_recipe_and_a_state_of_its_own() {
    let Some(place) = Place::new() else { return };
    let options =
        "--preset small --optimizer adamw --beta1 0.8 --epochs 1 --train-limit 32 --test-limit 8 --batch-size 16";
    place.train(&format!("{options} --out run")).good();
    let config: toml::Table = toml::from_str(&fs::read_to_string(place.path("run/config.toml")).unwrap()).unwrap();
    assert_eq!(config["optimizer"].as_str(), Some("adamw"));
    let recipe = Preset::Small.config_with(OptimizerKind::AdamW);
    let settings = [
        ("learning_rate", recipe.learning_rate),
        ("momentum", 0.0),
        ("weight_decay", 0.01),
        ("beta1", 0.8),
        ("beta2", 0.999),
        ("eps", 1e-8),
    ];
    for (name, value) in settings {
        assert_eq!(config[name].as_float(), Some(value), "{name}");
    }
    let state = Tensors::load(&place.path("run/state.safetensors")).unwrap();
    assert!(state.note().unwrap().contains("\"counters\":{\"updates\":2}"), "{:?}", state.note());
    assert!(place.train("--resume run").good().stdout.ends_with("all 1 epochs are done\n"));

    let memory = |options: &str| {
        let said = place.mlpconv(&format!("summary --preset small {options}")).good();
        said.stdout.lines().find(|line| line.trim_start().starts_with("training ")).unwrap().to_owned()
    };
    assert!(memory("").contains("(parameters, gradients:"));
    assert!(memory("--momentum").contains("(parameters, gradients, velocity:"));
    assert!(memory("--optimizer adamw").contains("(parameters, gradients, exp_avg, exp_avg_sq:"));
    place.mlpconv("summary --optimizer adamw --momentum").bad(&["momentum", "adamw has none"]);
}

mod refusals;

mod trouble;

/// On data sets other than Fashion-MNIST.
mod other_data;

/// Programs on a GPU. They find the virtual GPU if its library is loaded before them.
#[cfg(feature = "cuda")]
mod on_a_gpu;

mod looks;

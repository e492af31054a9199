//! The programs as their users run them: as processes, on a few batches of the real data set.

#[cfg(feature = "cuda")]
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

mod runs {
    use super::*;

    #[test]
    fn a_run_says_what_it_does_and_leaves_it_in_a_folder() {
        let Some(place) = Place::new() else { return };
        let options = "--epochs 2 --train-limit 60 --test-limit 40 --batch-size 16 --lr 0.01 --schedule step:1:0.5";
        let said = place.train(&format!("{options} --seed 3 --log-every 2")).good();

        // Without --out the folder's name has preset and time.
        let runs = names(&place.path("runs"));
        let [name] = &runs[..] else { panic!("{runs:?}") };
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        match name.split('-').collect::<Vec<_>>()[..] {
            ["small", date, time] => assert!(digits(date, 8) && digits(time, 6), "{name}"),
            _ => panic!("{name}"),
        }
        assert!(said.line("run ").ends_with(&format!("runs/{name}")), "{}", said.stdout);

        let folder = place.path("runs").join(name);
        assert_eq!(names(&folder), ["config.toml", "metrics.jsonl", "state.safetensors", "weights.safetensors"]);

        let device = said.line("device ");
        assert!(device.contains("CPU") && device.contains("(") && device.contains("CUDA"), "{device}");
        let preset = Preset::Small.config();
        let size = preset.resize;
        let line = said.line("preset ");
        assert!(line.contains(&format!("small at {size}x{size} (the default on a CPU")), "{line}");
        assert!(said.line("data ").contains(place.data.to_str().unwrap()));

        // The file has the settings of options, and the defaults.
        let config: toml::Table = toml::from_str(&fs::read_to_string(folder.join("config.toml")).unwrap()).unwrap();
        assert_eq!(config["preset"].as_str(), Some("small"));
        assert_eq!(config["device"].as_str(), Some("cpu"));
        assert_eq!(config["schedule"].as_str(), Some("step:1:0.5"));
        assert_eq!(config["optimizer"].as_str(), Some("sgd"));
        assert_eq!(config["learning_rate"].as_float(), Some(0.01));
        assert_eq!(config["momentum"].as_float(), Some(preset.momentum));
        assert_eq!(config["weight_decay"].as_float(), Some(preset.weight_decay));
        assert_eq!(config["nesterov"].as_bool(), Some(preset.nesterov));
        let integers = [
            ("epochs", 2),
            ("batch_size", 16),
            ("resize", size as i64),
            ("seed", 3),
            ("train_limit", 60),
            ("test_limit", 40),
        ];
        for (key, value) in integers {
            assert_eq!(config[key].as_integer(), Some(value), "{key}");
        }

        let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let metrics: Vec<EpochMetrics> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(metrics.len(), 2);
        for (m, (epoch, rate)) in metrics.iter().zip([(1, 0.01), (2, 0.005)]) {
            assert_eq!((m.epoch, m.rate), (epoch, rate));
            assert!((0.5..5.0).contains(&m.loss) && (0.5..5.0).contains(&m.test_loss), "{m:?}");
            assert!((0.0..=1.0).contains(&m.train_accuracy) && (0.0..=1.0).contains(&m.test_accuracy), "{m:?}");
            assert!(m.train_seconds > 0.0 && m.test_seconds > 0.0, "{m:?}");
            let rate = 60.0 / m.train_seconds;
            assert!((m.examples_per_second / rate - 1.0).abs() < 1e-6, "{m:?}");
            // The book's line.
            let line = format!(
                "epoch {}/2: loss {:.3}, train acc {:.3}, test acc {:.3}, {:.1} examples/s",
                m.epoch, m.loss, m.train_accuracy, m.test_accuracy, m.examples_per_second
            );
            assert_eq!(said.line(&format!("epoch {epoch}/2: ")), line);
        }

        // 60 images are four steps: the run's first one is printed, then every second one.
        let steps: Vec<&str> = said.stdout.lines().filter(|line| line.contains(", step ")).collect();
        let told = ["1/2, step 1/4", "1/2, step 2/4", "1/2, step 4/4", "2/2, step 2/4", "2/2, step 4/4"];
        assert_eq!(steps.len(), told.len(), "{steps:?}");
        for (line, start) in steps.iter().zip(told) {
            assert!(line.starts_with(&format!("epoch {start}: loss ")), "{line}");
            let rate = line.strip_suffix(" images/s").and_then(|line| line.rsplit(' ').next()).unwrap();
            // A step of 16 images takes at least 16 µs.
            assert!((1.0..1e6).contains(&rate.parse::<f64>().unwrap()), "{line}");
        }
        assert!(said.line("weights ").ends_with("weights.safetensors"));

        // The saved weights have the run's final accuracy.
        let accuracy = format!("test accuracy {:.4}", metrics[1].test_accuracy);
        assert!(said.line("done: ").contains(&accuracy));
        let evaluated = place.mlpconv(&format!("evaluate {}", folder.display())).good().stdout;
        let expected = format!("test loss {:.4}, {accuracy} on 40 images\n", metrics[1].test_loss);
        assert_eq!(evaluated, expected);
        let fewer = place.mlpconv(&format!("evaluate {} --test-limit 7", folder.display())).good().stdout;
        assert!(fewer.ends_with(" on 7 images\n"), "{fewer}");
    }

    #[test]
    fn the_requested_preset_and_device_are_printed_with_their_option() {
        let Some(place) = Place::new() else { return };
        let options = "--preset small --device cpu --train-limit 8 --test-limit 8 --batch-size 8 --epochs 1";
        let said = place.train(&format!("{options} --out run")).good();
        assert!(said.line("device ").ends_with("(as --device says)"), "{}", said.stdout);
        assert!(said.line("preset ").ends_with("(as --preset says)"), "{}", said.stdout);
    }

    #[test]
    fn a_seed_decides_every_bit_and_threads_none() {
        let Some(place) = Place::new() else { return };
        let run = |name: &str, options: &str, rayon: Option<&str>| {
            let limits = "--preset small --epochs 1 --train-limit 64 --test-limit 8 --batch-size 8";
            let mut command = place.command(TRAIN, &format!("{limits} --out {name} {options}"));
            rayon.map(|threads| command.env("RAYON_NUM_THREADS", threads));
            let said = Finished::of(&mut command).good();
            (place.weights(name), said.line("device ").to_owned())
        };
        let (weights, device) = run("one", "--seed 5 --threads 1", None);
        assert!(device.contains("1 thread"), "{device}");
        let (two, device) = run("two", "--seed 5 --threads 2", None);
        assert!(device.contains("2 threads"), "{device}");
        let (rayon, device) = run("rayon", "--seed 5", Some("1"));
        assert!(device.contains("1 thread"), "{device}");
        assert!(weights == two, "two threads compute something else than one");
        assert!(weights == rayon, "RAYON_NUM_THREADS changes the result");
        assert!(weights == run("again", "--seed 5", None).0, "the same seed gives something else");
        assert!(weights != run("other", "--seed 6", None).0, "another seed gives the same");
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let Some(place) = Place::new() else { return };
        fs::create_dir(place.path("mine")).unwrap();
        fs::write(place.path("mine/config.toml"), "precious").unwrap();
        place.train("--train-limit 8 --test-limit 8 --epochs 1 --out mine").bad(&["mine", "--out", "--resume"]);
        assert_eq!(names(&place.path("mine")), ["config.toml"]);
        assert_eq!(fs::read_to_string(place.path("mine/config.toml")).unwrap(), "precious");
    }
}

#[cfg(unix)]
mod interruption {
    use std::io::{BufRead as _, BufReader, Read as _};

    use super::*;

    /// Runs `train`, sends it a Ctrl-C once it prints a line that begins with `when`, and collects its output until it
    /// ends.
    fn interrupt(place: &Place, options: &str, when: &str) -> Finished {
        let mut command = place.command(TRAIN, options);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stdout = String::new();
        let mut sent = false;
        while let Some(line) = lines.next().transpose().unwrap() {
            if !sent && line.starts_with(when) {
                // The shell's builtin `kill`, as there may be no program of that name.
                let kill = format!("kill -INT {}", child.id());
                assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
                sent = true;
            }
            stdout += &line;
            stdout.push('\n');
        }
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(sent, "{stdout}{stderr}");
        Finished { code: child.wait().unwrap().code(), stdout, stderr }
    }

    /// Checks the output of an interrupted run. Returns N of "interrupted in epoch `epoch`, after step N; saved to".
    fn interrupted_after(said: &Finished, epoch: u32) -> u32 {
        assert_eq!(said.code, Some(130), "{}{}", said.stdout, said.stderr);
        assert!(said.stderr.contains("interrupted: finishing the step, then saving"), "{}", said.stderr);
        let line = said.line("interrupted in epoch ");
        let rest = line.strip_prefix(&format!("interrupted in epoch {epoch}, after step ")).expect(line);
        let (step, rest) = rest.split_once(';').unwrap();
        assert_eq!(rest, " saved to run/weights.safetensors");
        assert!(said.line("go on with: ").ends_with(" --resume run"), "{}", said.stdout);
        step.parse().unwrap()
    }

    /// A run that is interrupted in its first and in its second epoch ends with the same bits as an uninterrupted one.
    #[test]
    fn a_run_goes_on_as_if_it_had_not_been_interrupted() {
        let Some(place) = Place::new() else { return };
        // Enough steps that the signal arrives long before the epoch is over.
        const STEPS: u32 = 128;
        // Momentum, a schedule, dropout and shuffling all depend on state.
        let options = "--preset small --momentum 0.9 --schedule cosine:1 --epochs 2 --train-limit 512 --test-limit 8 \
                       --batch-size 4 --log-every 1";
        place.train(&format!("{options} --out whole")).good();

        let said = interrupt(&place, &format!("{options} --out run"), "epoch 1/2, step 2/");
        let first = interrupted_after(&said, 1);
        assert!((2..STEPS).contains(&first), "{first}");
        assert!(Run::open(place.path("run")).unwrap().metrics().unwrap().is_empty());
        assert!(place.weights("run") != place.weights("whole"));

        let said = interrupt(&place, "--resume run --log-every 1", "epoch 2/2, step 2/");
        assert!(said.line("run ").ends_with(&format!("run, from epoch 1, after step {first}")), "{}", said.stdout);
        assert!(said.line("preset ").ends_with("(as the run began)"), "{}", said.stdout);
        let second = interrupted_after(&said, 2);
        assert!((2..STEPS).contains(&second), "{second}");

        let said = place.train("--resume run").good();
        assert!(said.line("run ").ends_with(&format!("run, from epoch 2, after step {second}")), "{}", said.stdout);
        assert!(place.weights("run") == place.weights("whole"), "the weights are not those of the uninterrupted run");

        let metrics = |run: &str| Run::open(place.path(run)).unwrap().metrics().unwrap();
        let (run, whole) = (metrics("run"), metrics("whole"));
        assert_eq!((run.len(), whole.len()), (2, 2));
        for (run, whole) in run.iter().zip(&whole) {
            assert_eq!((run.epoch, run.rate, run.test_loss), (whole.epoch, whole.rate, whole.test_loss));
            assert_eq!(run.train_accuracy, whole.train_accuracy);
            // Half of the losses went through a file as a mean, which rounds.
            assert!((run.loss / whole.loss - 1.0).abs() < 1e-5, "{run:?} {whole:?}");
        }

        let before = place.weights("run");
        let said = place.train("--resume run").good();
        assert!(said.stdout.ends_with("all 2 epochs are done\n"), "{}", said.stdout);
        assert!(place.weights("run") == before);
    }
}

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

mod refusals {
    use super::*;

    /// Asserts that `train` with the options in `line` fails with all of `says` in its error, and leaves no file
    /// behind.
    fn refuse(line: &str, says: &[&str]) {
        let Some(place) = Place::new() else { return };
        place.train(line).bad(says);
        assert_eq!(names(place.folder.path()), [""; 0], "{line}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        refuse("--epochs 0", &["epochs", "at least 1"]);
        refuse("--epochs many", &["--epochs", "many"]);
        refuse("--batch-size 0", &["batch-size", "at least 1"]);
        refuse("--train-limit 0", &["train-limit", "at least 1"]);
        refuse("--test-limit 0", &["test-limit", "at least 1"]);
        refuse("--threads 0", &["threads", "between 1 and 1024"]);
        refuse("--threads 40000", &["threads", "between 1 and 1024"]);
        for rate in ["0", "-1", "nan", "inf"] {
            refuse(&format!("--lr {rate}"), &["lr", "positive and finite"]);
        }
        refuse("--momentum 1", &["momentum", "in [0, 1)"]);
        refuse("--momentum -0.5", &["momentum", "in [0, 1)"]);
        refuse("--weight-decay -1", &["weight-decay", "zero or positive"]);
        refuse("--nesterov --momentum 0", &["nesterov", "--momentum 0.9"]);
        refuse("--beta1 0.5", &["beta1", "sgd has none", "--optimizer adamw"]);
        refuse("--eps 1e-6", &["eps", "sgd has none", "--optimizer adamw"]);
        refuse("--optimizer adamw --momentum 0.9", &["momentum", "adamw has none", "--beta1", "--optimizer sgd"]);
        refuse("--optimizer adamw --nesterov", &["nesterov", "adamw has none", "--optimizer sgd"]);
        refuse("--optimizer adamw --beta1 1", &["beta1", "in [0, 1)"]);
        refuse("--optimizer adamw --beta2 -0.1", &["beta2", "in [0, 1)"]);
        for eps in ["0", "1e-40", "inf", "nan"] {
            refuse(&format!("--optimizer adamw --eps {eps}"), &["eps", "at least 1.2e-38, and finite"]);
        }
        refuse("--schedule sometimes", &["--schedule", "step:EVERY:FACTOR"]);
    }

    #[test]
    fn images_too_small_or_too_large_are_refused() {
        refuse("--resize 0", &["resize", "between 1 and 1024"]);
        refuse("--resize 100000", &["resize", "between 1 and 1024"]);
        refuse("--preset small --resize 2", &["resize", "2 pixels are too few for preset small", "at least"]);
        // Sides before the three poolings with their windows of 3x3: 14, 6, 2 from 66 pixels, 15, 7, 3 from 67.
        refuse("--preset d2l --resize 28", &["resize", "28 pixels are too few for preset d2l", "67 at least"]);
        let Some(place) = Place::new() else { return };
        place.mlpconv("summary --preset d2l --resize 66").bad(&["resize", "67 at least"]);
        place.mlpconv("summary --preset d2l --resize 67").good();
        place.mlpconv("summary --preset d2l --batch-size 0").bad(&["batch"]);
    }

    #[test]
    fn unknown_names_are_refused() {
        refuse("--optimizer adam", &["--optimizer", "neither sgd nor adamw"]);
        refuse("--preset huge", &["--preset", "none of d2l, small and cifar"]);
        refuse("--device tpu", &["device tpu", "auto, cpu, cuda"]);
        // No machine has a hundred GPUs, so this fails with and without CUDA in the build.
        refuse("--device cuda:99", &["cuda", "--device cpu"]);
        refuse("--device cuda:one", &["device cuda:one", "not a number"]);
        refuse("--device cpu --precision bf16", &["fp32", "--precision"]);
        refuse("--precision fp8", &["fp8", "fp32, tf32, bf16"]);
        refuse("--data-dir elsewhere", &["elsewhere", "--data-dir", "train-images-idx3-ubyte"]);
        refuse("--resume elsewhere", &["elsewhere", "config.toml", "train --out"]);
        refuse("--resume elsewhere --lr 0.1", &["--resume"]);
        let Some(place) = Place::new() else { return };
        place.mlpconv("evaluate elsewhere").bad(&["elsewhere", "config.toml"]);
        place.mlpconv("time --batch-size 0").bad(&["batch-size", "at least 1"]);
    }

    #[test]
    fn a_changed_run_folder_is_refused() {
        let Some(place) = Place::new() else { return };
        place.train("--preset small --train-limit 8 --test-limit 8 --batch-size 8 --epochs 1 --out run").good();
        let config = place.path("run/config.toml");
        let good = fs::read_to_string(&config).unwrap();
        for (from, to, says) in [
            ("epochs = 1", "epochs = 0", "epochs"),
            ("batch_size", "bunch_size", "bunch_size"),
            ("seed = 0", "seed = ", "config.toml"),
            ("optimizer = \"sgd\"", "optimizer = \"adamw\"", "momentum"),
        ] {
            assert!(good.contains(from));
            fs::write(&config, good.replace(from, to)).unwrap();
            place.train("--resume run").bad(&["run", "config.toml", says]);
        }
        // A state of another optimiser is refused.
        let adamw = good.replace("\"sgd\"", "\"adamw\"").replace("momentum = 0.9", "momentum = 0.0");
        fs::write(&config, adamw).unwrap();
        place.train("--resume run").bad(&["state.safetensors", "of optimiser sgd, not of adamw"]);
        // Settings without an optimiser, as older versions wrote them, are accepted.
        let lines = good
            .lines()
            .filter(|line| !["optimizer", "beta1", "beta2", "eps"].contains(&line.split(' ').next().unwrap()));
        fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
        place.train("--resume run").good();
        // A state of another network is refused.
        fs::write(&config, good.replace("\"small\"", "\"d2l\"").replace("resize = 28", "resize = 96")).unwrap();
        place.train("--resume run").bad(&["state.safetensors"]);
        fs::write(&config, good).unwrap();
        fs::remove_file(place.path("run/state.safetensors")).unwrap();
        place.train("--resume run").bad(&["state.safetensors"]);
    }
}

mod trouble {
    use mlpconv::device::Device;
    use mlpconv::nn::Module as _;
    use mlpconv::train::Trainer;
    use mlpconv::{Cpu, weights};

    use super::*;

    #[test]
    fn divergence_is_named_with_its_remedies() {
        let Some(place) = Place::new() else { return };
        let options = "--preset small --lr 1000 --momentum 0.9 --schedule constant --train-limit 256 --test-limit 8";
        let said = place.train(&format!("{options} --batch-size 4 --epochs 1 --log-every 1 --out run"));
        said.bad(&["diverged", "epoch 1, step", "--lr", "momentum", "--schedule cosine:1"]);
        assert!(!place.path("run/weights.safetensors").exists(), "weights that are no numbers are not saved");
    }

    /// A run whose last ReLU lets nothing through: its bias is negative and its weights are zero.
    #[test]
    fn a_dead_network_is_called_dead() {
        let Some(place) = Place::new() else { return };
        // 96 pixels are enough for d2l's network, and take a seventh of the time of 224.
        let options = "--preset d2l --resize 96 --train-limit 8 --test-limit 8 --batch-size 8";
        place.train(&format!("{options} --epochs 2 --out run")).good();

        let mut run = Run::open(place.path("run")).unwrap();
        run.config.epochs = 3;
        let backend = Cpu::<f32>::new();
        let net = run.config.preset.net(&backend, run.config.seed).unwrap();
        let mut trainer = Trainer::new(&backend, net, run.config.optimizer(&backend), run.config.seed).unwrap();
        run.restore(&mut trainer).unwrap();
        let params = trainer.net.params_mut();
        for ((_, param), value) in params.into_iter().rev().zip([-1.0, 0.0]) {
            param.set(&backend, &vec![value; param.shape().len()]).unwrap();
        }
        run.save(&trainer).unwrap();
        let config = place.path("run/config.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("epochs = 2", "epochs = 3")).unwrap();

        let said = place.train("--resume run").good();
        let warning = said.stderr.lines().find(|line| line.starts_with("warning: the network is dead")).unwrap();
        for what in ["2.303", "ReLU", "--seed", "--lr", "--preset small"] {
            assert!(warning.contains(what), "{what:?} is not in: {warning}");
        }
        assert!(said.line("epoch 3/3: ").contains("loss 2.303"), "{}", said.stdout);
        // The network stayed dead: the weights have the same bits.
        let mut net = run.config.preset.net(&backend, 1).unwrap();
        weights::load(&backend, &mut net, run.weights()).unwrap();
        for ((name, after), (_, before)) in net.params().into_iter().zip(trainer.net.params()) {
            assert!(backend.download(after.data()).unwrap() == backend.download(before.data()).unwrap(), "{name}");
        }
    }

    /// `mlpconv summary | head -1`, and `train | head -1`.
    #[test]
    fn a_closed_pipe_ends_a_program_silently() {
        use std::io::{BufRead as _, BufReader};

        let Some(place) = Place::new() else { return };
        let commands = [
            place.command(MLPCONV, "summary"),
            place.command(TRAIN, "--preset small --train-limit 64 --test-limit 8 --batch-size 8 --epochs 1 --out run"),
        ];
        for mut command in commands {
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(!line.is_empty());
            assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
            assert_eq!(output.status.code(), Some(0));
        }
    }
}

/// On data sets other than Fashion-MNIST.
mod other_data {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A working folder from which no data set is found: `$MLPCONV_DATA` names an empty folder.
    pub fn place() -> Place {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("nothing");
        fs::create_dir(&data).unwrap();
        Place { folder, data }
    }

    /// A folder of colour images of three classes. The classes differ only in the channel that is not black.
    #[cfg(feature = "images")]
    pub fn colours(folder: &Path, [height, width]: [u32; 2], train: u32, test: u32) {
        for (half, count) in [("train", train), ("test", test)] {
            for (class, name) in ["red", "green", "blue"].into_iter().enumerate() {
                let folder = folder.join(half).join(name);
                fs::create_dir_all(&folder).unwrap();
                for i in 0..count {
                    let noise = |x: u32, y: u32| ((x + width * y + 7919 * i).wrapping_mul(2_654_435_761) >> 25) as u8;
                    let image = image::RgbImage::from_fn(width, height, |x, y| {
                        let mut pixel = [0; 3];
                        pixel[class] = 128 + noise(x, y);
                        image::Rgb(pixel)
                    });
                    image.save(folder.join(format!("{i:03}.png"))).unwrap();
                }
            }
        }
    }

    #[cfg(feature = "images")]
    #[test]
    fn a_folder_of_images_is_described_and_trained_on() {
        let place = place();
        colours(&place.path("colours"), [20, 24], 40, 8);
        let said = place.mlpconv("data --data colours").good();
        assert!(said.stdout.starts_with("colours: 120 training and 24 test images in colours (given by --data)\n"));
        assert!(said.stdout.ends_with("20x24, RGB; 3 classes: blue, green, red\n"), "{}", said.stdout);

        let options = "--preset small --data colours --batch-size 8 --epochs 3 --seed 2";
        let said = place.train(&format!("{options} --out run")).good();
        assert!(said.line("data ").contains("colours in ") && said.line("data ").contains("given by --data"));
        let run = Run::open(place.path("run")).unwrap();
        let metrics = run.metrics().unwrap();
        // Guessing has a loss of ln 3 and an accuracy of a third. A network that reads only one channel has two thirds
        // at most.
        assert!(metrics[2].loss < 0.7 * 3f64.ln() && metrics[2].test_accuracy > 0.6, "{metrics:?}");

        // Evaluation works from any working folder, as the run stores the data's absolute path.
        let mut command = place.command(MLPCONV, &format!("evaluate {}", place.path("run").display()));
        let evaluated = Finished::of(command.current_dir(place.path("nothing"))).good().stdout;
        assert!(evaluated.ends_with(" on 24 images\n"), "{evaluated}");
        // If the data's folder has moved, an option names the new one.
        fs::rename(place.path("colours"), place.path("moved")).unwrap();
        place.mlpconv("evaluate run").bad(&["colours", "no such folder"]);
        assert_eq!(place.mlpconv("evaluate run --data-dir moved").good().stdout, evaluated);
        assert_eq!(place.mlpconv("evaluate run --data moved").good().stdout, evaluated);
    }

    #[cfg(feature = "images")]
    #[test]
    fn a_file_that_is_no_image_ends_a_run_before_it_begins() {
        let place = place();
        colours(&place.path("colours"), [8, 8], 2, 1);
        fs::write(place.path("colours/train/red/001.png"), "<html>no</html>").unwrap();
        place.train("--preset small --data colours --out run").bad(&["colours/train/red/001.png", "replace it"]);
        assert!(!place.path("run").exists());
    }

    /// A folder with CIFAR-10's files, of two records each. It is the data set of preset `cifar`, and other presets
    /// can use it.
    fn cifar(folder: &Path) {
        fs::create_dir(folder).unwrap();
        for (i, file) in known::CIFAR10.files().enumerate() {
            let record =
                |label: u8| [label].into_iter().chain((0..3072u32).map(move |j| (j * 7 + u32::from(label)) as u8));
            let content: Vec<u8> = record(i as u8).chain(record(9 - i as u8)).collect();
            fs::write(folder.join(file.name), content).unwrap();
        }
    }

    #[test]
    fn the_papers_network_trains_on_its_data_set() {
        let place = place();
        cifar(&place.path("cifar"));
        let options = "--preset cifar --data-dir cifar --train-limit 4 --test-limit 2 --batch-size 2 --epochs 1";
        let said = place.train(&format!("{options} --out run")).good();
        assert!(said.line("preset ").contains("cifar at 32x32"), "{}", said.stdout);
        assert!(said.line("network ").contains("966,986 parameters"), "{}", said.stdout);
        assert!(said.line("data ").contains("CIFAR-10 in cifar (given by --data-dir)"), "{}", said.stdout);
        assert!(said.stderr.contains("warning: ") && said.stderr.contains("data_batch_1.bin"), "{}", said.stderr);
        let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
        assert!(config.contains("preset = \"cifar\"") && config.contains("data = \"cifar10\""), "{config}");
        let said = place.mlpconv("summary --preset cifar").good();
        assert!(said.stdout.starts_with("cifar, input [1, 3, 32, 32]\n"), "{}", said.stdout);
        assert!(said.stdout.contains("966,986"), "{}", said.stdout);
    }

    #[test]
    fn a_preset_takes_channels_and_classes_from_other_data() {
        let place = place();
        cifar(&place.path("cifar"));
        let limits = "--train-limit 4 --test-limit 2 --batch-size 2 --epochs 1";
        let named = place.train(&format!("--preset small --data cifar10 --data-dir cifar {limits} --out named")).good();
        let folder = place.train(&format!("--preset small --data cifar {limits} --out folder")).good();
        // Two channels more than on grey images, in a 5x5 filter with 48 outputs: 2,400 parameters more.
        for said in [named, folder] {
            assert!(said.line("network ").contains("399,974 parameters"), "{}", said.stdout);
        }
        assert!(place.weights("named") == place.weights("folder"));
        let fewer = place.mlpconv("evaluate named --data-dir cifar").good().stdout;
        assert!(fewer.ends_with(" on 2 images\n"), "{fewer}");
    }

    /// Files with Kaggle's names are read; a proxy's web page in place of a file is reported.
    #[test]
    fn kaggles_names_are_read_and_web_pages_are_refused() {
        let place = place();
        let idx = |dimensions: &[u32], body: &[u8]| {
            let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
            dimensions.iter().for_each(|length| bytes.extend(length.to_be_bytes()));
            [&bytes, body].concat()
        };
        let folder = place.path("kaggle");
        fs::create_dir(&folder).unwrap();
        for (half, count) in [("train", 12u32), ("t10k", 3)] {
            let labels: Vec<u8> = (0..count).map(|i| (i % 10) as u8).collect();
            fs::write(
                folder.join(format!("{half}-images.idx3-ubyte")),
                idx(&[count, 28, 28], &vec![9; count as usize * 784]),
            )
            .unwrap();
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&idx(&[count], &labels)).unwrap();
            fs::write(folder.join(format!("{half}-labels.idx1-ubyte.gz")), gzip.finish().unwrap()).unwrap();
        }
        for (name, title) in [("fashion-mnist", "Fashion-MNIST"), ("mnist", "MNIST"), ("kmnist", "Kuzushiji-MNIST")] {
            let said = place.mlpconv(&format!("data --data {name} --data-dir kaggle")).good();
            assert!(
                said.stdout.starts_with(&format!("{title}: 12 training and 3 test images in kaggle")),
                "{}",
                said.stdout
            );
            let said = place.mlpconv(&format!("doctor --data {name} --data-dir kaggle")).good();
            assert!(said.line("data ").contains(&format!("{title} in kaggle")), "{}", said.stdout);
        }
        place.mlpconv("data --data kaggle").bad(&["fashion-mnist, mnist, kmnist", "--data NAME"]);
        fs::write(folder.join("train-images-idx3-ubyte.gz"), "<html><h1>Not found</h1></html>").unwrap();
        place.mlpconv("data --data mnist --data-dir kaggle").bad(&[
            "train-images-idx3-ubyte.gz",
            "web page",
            "get it again",
        ]);
    }

    #[test]
    fn an_unknown_data_set_is_refused_with_the_known_ones() {
        let place = place();
        place.train("--data cfiar10").bad(&["cfiar10", "fashion-mnist, mnist, kmnist, cifar10"]);
        place.train("--data nothing").bad(&["nothing", "train/CLASS"]);
        place.train("--preset cifar").bad(&["CIFAR-10", "cifar-10-binary.tar.gz", "--data-dir"]);
        place.train("--resume nothing --data mnist").bad(&["--resume"]);
        assert_eq!(names(place.folder.path()), ["nothing"]);
        let said = place.mlpconv("doctor --data nothing").good();
        assert!(said.line("data ").contains("mlpconv data --data nothing"), "{}", said.stdout);
    }
}

/// Programs on a GPU. They find the virtual GPU if its library is loaded before them.
#[cfg(feature = "cuda")]
mod on_a_gpu {
    use mlpconv::Precision;

    use super::*;
    use crate::gpu;

    fn with_gpu(mut command: Command) -> Finished {
        if !gpu::real() {
            command.env("LD_PRELOAD", gpu::library());
        }
        command.env_remove("CUDA_VISIBLE_DEVICES");
        Finished::of(&mut command)
    }

    #[test]
    fn a_gpu_run_resumes_on_the_gpu_and_is_evaluated_anywhere() {
        let Some(place) = Place::new() else { return };
        if gpu::gpu(Precision::Bf16).is_none() {
            return;
        }
        let options = "--preset small --train-limit 20 --test-limit 10 --batch-size 8 --log-every 1";
        let train = |line: &str| with_gpu(place.command(TRAIN, line)).good();
        let whole = train(&format!("--device cuda --precision bf16 {options} --epochs 2 --out whole"));
        let device = whole.line("device ");
        assert!(device.contains("cuda:0") && device.contains("bf16 (as --device says)"), "{device}");
        let config = fs::read_to_string(place.path("whole/config.toml")).unwrap();
        assert!(config.contains("device = \"cuda:0\"") && config.contains("precision = \"bf16\""), "{config}");

        // The second epoch is resumed, on the device and at the precision of the run.
        train(&format!("--device cuda:0 --precision bf16 {options} --epochs 1 --out parts"));
        let config = place.path("parts/config.toml");
        fs::write(&config, fs::read_to_string(&config).unwrap().replace("epochs = 1", "epochs = 2")).unwrap();
        let resumed = train("--resume parts");
        assert!(resumed.line("device ").contains("bf16 (as the run began)"), "{}", resumed.stdout);
        assert!(place.weights("whole") == place.weights("parts"), "a resumed run ends elsewhere");

        let there = with_gpu(place.command(MLPCONV, "evaluate whole --device cuda --precision bf16")).good().stdout;
        let metrics: Vec<EpochMetrics> = Run::open(place.path("whole")).unwrap().metrics().unwrap();
        assert!(there.starts_with(&format!("test loss {:.4}", metrics[1].test_loss)), "{there}");
        let here = place.mlpconv("evaluate whole --device cpu").good().stdout;
        let loss = |said: &str| said.split_whitespace().nth(2).unwrap().trim_end_matches(',').parse::<f64>().unwrap();
        assert!((loss(&there) - loss(&here)).abs() < 0.05, "{there}{here}");
    }

    /// Images of three channels are resized and gathered on the device.
    #[cfg(feature = "images")]
    #[test]
    fn a_gpu_trains_on_a_folder_of_colour_images() {
        if gpu::gpu(Precision::Bf16).is_none() {
            return;
        }
        let place = other_data::place();
        other_data::colours(&place.path("colours"), [16, 18], 8, 2);
        let options = "--preset small --data colours --batch-size 8 --epochs 2 --seed 1 --device cuda --precision bf16";
        let said = with_gpu(place.command(TRAIN, &format!("{options} --out run"))).good();
        assert!(said.line("device ").contains("cuda:0"), "{}", said.stdout);
        let metrics = Run::open(place.path("run")).unwrap().metrics().unwrap();
        let chance = 3f64.ln();
        assert!(metrics.len() == 2 && metrics.iter().all(|m| (m.loss / chance - 1.0).abs() < 0.5), "{metrics:?}");
        let loss = |said: &str| said.split_whitespace().nth(2).unwrap().trim_end_matches(',').parse::<f64>().unwrap();
        let here = place.mlpconv("evaluate run --device cpu").good().stdout;
        assert!((loss(&here) - metrics[1].test_loss).abs() < 0.05, "{here}{metrics:?}");
    }

    #[test]
    fn replayed_and_eager_steps_are_timed() {
        if gpu::gpu(Precision::Bf16).is_none() {
            return;
        }
        let timed = |options: &str| {
            let line = format!("time --preset small --device cuda --precision bf16 --batch-size 2 {options}");
            let mut command = Command::new(MLPCONV);
            command.args(line.split_whitespace());
            with_gpu(command).good().stdout
        };
        let json: serde_json::Value = serde_json::from_str(&timed("--steps 2 --rounds 1 --json")).unwrap();
        assert_eq!(
            (&json["precision"], &json["recorded"], &json["resident"]),
            (&"bf16".into(), &true.into(), &true.into())
        );
        for what in ["train_ms", "infer_ms", "eager_train_ms", "eager_infer_ms", "loss", "peak_bytes", "reserved_bytes"]
        {
            assert!(json[what].as_f64().unwrap() > 0.0, "{what}: {json}");
        }
        assert!(timed("--steps 1 --rounds 1").contains("training, eager"));
    }

    #[test]
    fn too_large_a_batch_is_refused_with_one_that_fits() {
        let Some(place) = Place::new() else { return };
        if gpu::real() || gpu::gpu(Precision::Fp32).is_none() {
            return;
        }
        let mut command = place.command(TRAIN, "--device cuda --precision fp32 --preset d2l --batch-size 4096");
        command.env("VIRTUAL_GPU_MEMORY", "256M");
        with_gpu(command).bad(&["batch-size", "4096 images", "--batch-size", "would fit"]);
        assert!(!place.path("runs").exists(), "a run that cannot begin leaves a folder behind");
        let there = with_gpu(place.command(MLPCONV, "doctor")).good();
        assert!(there.line("cuda:0").contains("compute capability"), "{}", there.stdout);
        place.train("--preset small --batch-size 100000 --resize 1024").bad(&["batch-size", "would fit"]);
    }
}

mod looks {
    //! The commands of `mlpconv` that need no data set.

    use super::*;

    fn mlpconv(line: &str) -> Finished {
        let mut command = Command::new(MLPCONV);
        command.args(line.split_whitespace()).env("CUDA_VISIBLE_DEVICES", "");
        Finished::of(&mut command).good()
    }

    #[test]
    fn the_doctor_has_a_line_for_everything() {
        let said = mlpconv("doctor").stdout;
        for what in ["kernels", "data", "cpu"] {
            let line = said.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{what}: {said}"));
            assert!(line.len() > what.len() + 10, "{said}");
        }
    }

    #[test]
    fn the_summary_has_the_books_numbers() {
        let said = mlpconv("summary --preset d2l").stdout;
        assert!(said.starts_with("d2l, input [1, 1, 224, 224]\n"), "{said}");
        assert!(said.contains("1,992,166") && said.contains("762.3 M"), "{said}");
        let shapes: Vec<(&str, &str)> = said.lines().filter_map(|line| line.split_once("output shape")).collect();
        let shapes: Vec<(&str, &str)> = shapes.into_iter().map(|(name, shape)| (name.trim(), shape.trim())).collect();
        let expected = [
            ("NinBlock", "[1, 96, 54, 54]"),
            ("MaxPool 3x3/2", "[1, 96, 26, 26]"),
            ("NinBlock", "[1, 256, 26, 26]"),
            ("MaxPool 3x3/2", "[1, 256, 12, 12]"),
            ("NinBlock", "[1, 384, 12, 12]"),
            ("MaxPool 3x3/2", "[1, 384, 5, 5]"),
            ("Dropout 0.5", "[1, 384, 5, 5]"),
            ("NinBlock", "[1, 10, 5, 5]"),
            ("GlobalAvgPool", "[1, 10, 1, 1]"),
            ("Flatten", "[1, 10]"),
        ];
        assert_eq!(shapes, expected);
    }

    /// The ops of a plan's steps, in order.
    fn steps(said: &str) -> Vec<&str> {
        let lines = said.lines().skip(3).take_while(|line| !line.is_empty());
        lines.map(|line| line.split_whitespace().nth(1).expect("an op")).collect()
    }

    #[test]
    fn a_plan_is_told_for_each_preset_and_device() {
        for preset in ["d2l", "small", "cifar"] {
            let said = mlpconv(&format!("plan --preset {preset} --device cpu")).stdout;
            assert!(said.starts_with(preset) && said.contains("on cpu in fp32"), "{said}");
            assert!(steps(&said).iter().all(|step| !step.contains('+') && !step.starts_with("mlpconv")), "{said}");
            assert!(said.contains("the CPU runs layers one by one"), "{said}");
        }
    }

    /// Of a GPU that is not there an H200's.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_plan_for_a_gpu_needs_none() {
        let plan = |preset: &str, precision: &str| {
            let said = mlpconv(&format!("plan --preset {preset} --device cuda --precision {precision}")).stdout;
            assert!(said.contains(&format!("an H200 in {precision}")), "{said}");
            said
        };
        let said = plan("d2l", "bf16");
        let (fused, rest) = (["mlpconv_maxpool", "conv2d", "pointwise", "pointwise_maxpool"], ["conv2d", "pointwise"]);
        let end = ["pointwise_maxpool", "dropout", "conv2d", "pointwise_pair_mean", "flatten"];
        assert_eq!(steps(&said), [&fused[..], &rest, &end].concat(), "{said}");
        assert!(said.contains("53x53 of 54x54") && said.contains("channels are not multiples of 8"), "{said}");
        let said = plan("d2l", "fp32");
        assert!(said.contains("the fused block is for bf16, not fp32"), "{said}");
        for (preset, precision) in [("small", "tf32"), ("small", "bf16"), ("cifar", "bf16"), ("cifar", "fp32")] {
            let said = plan(preset, precision);
            assert!(steps(&said).len() > 8, "{said}");
        }
    }

    #[test]
    fn times_are_json_if_asked_for() {
        let said = mlpconv("time --preset small --batch-size 8 --steps 1 --json").stdout;
        assert_eq!(said.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(json["preset"], "small");
        assert_eq!((json["batch"].as_u64(), json["steps"].as_u64()), (Some(8), Some(1)));
        for what in ["train", "infer"] {
            let ms = json[format!("{what}_ms")].as_f64().unwrap();
            let rate = json[format!("{what}_img_s")].as_f64().unwrap();
            assert!(ms > 0.0 && (ms * rate / 8000.0 - 1.0).abs() < 1e-9, "{said}");
        }
        assert!(json["peak_bytes"].as_u64().unwrap() > 0);
        let text = mlpconv("time --preset small --batch-size 8 --steps 1").stdout;
        assert!(text.contains("training") && text.contains("inference") && text.contains("images/s"), "{text}");
    }
}

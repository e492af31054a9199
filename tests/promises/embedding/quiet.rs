//! What a program sees of the library that it embeds: its calls' answers, and nothing else.

use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::nn::Module;
use mlpconv::optim::{Optimizer, Sgd};
use mlpconv::train::{EpochMetrics, Event, FitOptions, OnNan, Preset, Run, Trainer};
use mlpconv::{Cpu, Error, Shape, weights};

use super::net;
use crate::promise::kept;

/// The variable that asks a process for the work.
const ASKED: &str = "MLPCONV_EMBEDDED";
/// What the process writes itself, after all of the library's work.
const DONE: &str = "embedded, and back";
/// The memory that the work may take, in KiB. The network has 30 parameters.
const ROOM: usize = 32 << 10;
/// The time that threads may take to end, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_run_in_a_program_prints_nothing_and_leaves_nothing_behind() {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "embedding::quiet::a_run_that_is_asked_for", "--nocapture", "--test-threads=1"]);
    let output = child.env(ASKED, "1").env_remove("MLPCONV_TORTURE").output().unwrap();
    let [text, problems] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{}\n{text}{problems}", output.status);
    assert_eq!(problems, "", "standard error");
    // Without the harness's own lines.
    let harness =
        ["running 1 test", "test embedding::quiet::a_run_that_is_asked_for ... ", "test result: ok. 1 passed"];
    let of_harness = |line: &&str| line.is_empty() || *line == "ok" || harness.iter().any(|own| line.starts_with(own));
    let others: Vec<&str> = text.lines().filter(|line| !of_harness(line)).collect();
    assert!(text.contains(DONE), "the work did not come to its end:\n{text}");
    // The first line that a test writes follows the harness's on the same line.
    assert!(others.iter().all(|line| line.starts_with(DONE)), "standard output: {others:?}");
    let grown = text.split_once(DONE).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap();
    let figure = format_args!(
        "a run with 9 errors in a program of its own: nothing printed, no exit, handlers and threads as before, {grown} KiB more memory"
    );
    kept(15, figure);
}

/// The work of a process that the test above starts; otherwise nothing.
#[test]
fn a_run_that_is_asked_for() {
    if env::var_os(ASKED).is_none() {
        return;
    }
    let (signals, threads, before) = (signals(), threads(), status("VmRSS:"));
    assert!(signals.len() == 4 && !threads.is_empty());
    work();
    assert_eq!(self::signals(), signals, "signal handlers");
    // A pool's threads are told to end when it is dropped, and nobody waits for them.
    let began = Instant::now();
    while self::threads() != threads && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(self::threads(), threads, "threads");
    let grown = status("VmHWM:").saturating_sub(before);
    assert!(grown <= ROOM, "{grown} KiB more memory, more than {ROOM}");
    println!("{DONE} {grown}");
}

/// A short run: training, saving, going on, evaluation, prediction, and errors.
fn work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    // A pool of the library's own. The global one lives as long as the process, as rayon has it.
    let backend = Cpu::<f32>::with_threads(2).unwrap();
    let images = (0..64 * 16).map(|i| (i * 37 % 251) as u8).collect();
    let dataset = Arc::new(Dataset::new(images, (0..64).map(|i| i % 3).collect(), 4, 4, 3).unwrap());
    let config = LoaderConfig { batch_size: 8, height: 4, width: 4, order: Order::Shuffled { seed: 1 } };
    let loader = Loader::new(dataset.clone(), config).unwrap();
    let new = || {
        let optimizer: Box<dyn Optimizer<_>> = Sgd::new(&backend).with_momentum(0.9).into();
        Trainer::new(&backend, net(&backend), optimizer, 1).unwrap()
    };
    let settings = Preset::Small.config();
    let options = |epochs| FitOptions { epochs, on_nan: OnNan::Stop, ..settings.fit_options(1) };
    let mut run = Run::create(&path, settings.clone()).unwrap();
    let mut trainer = new();
    let mut metrics: Vec<EpochMetrics> = Vec::new();
    let mut fit = |trainer: &mut Trainer<_, _>, run: &mut Run, epochs| {
        trainer.fit(&loader, &loader, &options(epochs), &mut |trainer, event| {
            if let Event::Epoch { metrics: of_epoch, .. } = event {
                metrics.push(of_epoch);
                run.append(&of_epoch)?;
                run.save(trainer)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    };
    assert!(fit(&mut trainer, &mut run, 2).unwrap().is_continue());
    // Errors, each of which another library might print.
    let shape = Shape::image(1, 1, 4, 4);
    let mut errors: Vec<Error> = vec![
        trainer.step(&[0.5; 16], shape, &[3], 0.1).unwrap_err(),
        trainer.step(&[0.5; 15], shape, &[0], 0.1).unwrap_err(),
        trainer.step(&[0.5; 16], shape, &[0], f64::NAN).unwrap_err(),
        Run::create(&path, settings.clone()).unwrap_err(),
        Run::open(folder.path()).unwrap_err(),
        weights::load(&backend, &mut trainer.net, folder.path().join("none")).unwrap_err(),
    ];
    drop((run, trainer));
    let (mut run, mut trainer) = (Run::resume(&path).unwrap(), new());
    run.restore(&mut trainer).unwrap();
    assert_eq!(trainer.position.epoch, 2);
    assert!(fit(&mut trainer, &mut run, 4).unwrap().is_continue());
    let reading = trainer.evaluate(&loader, &mut |_, _| Ok(ControlFlow::Continue(()))).unwrap().unwrap();
    assert_eq!(reading.samples, 64);
    assert_eq!(trainer.predict(&[0.5; 16], shape).unwrap().len(), 3);
    // A loader's thread that is not heard to its end.
    drop(loader.epoch(0).unwrap().next());
    // A step that is not finite, and damaged files.
    trainer.position.epoch = 0;
    for (_, param) in trainer.net.params_mut() {
        let values = vec![f32::NAN; param.shape().len()];
        param.set(&backend, &values).unwrap();
    }
    errors.push(fit(&mut trainer, &mut run, 1).unwrap_err());
    drop(run);
    fs::write(path.join("state.safetensors"), "damaged").unwrap();
    errors.push(Run::resume(&path).unwrap_err());
    errors.push(weights::load(&backend, &mut trainer.net, path.join("state.safetensors")).unwrap_err());
    assert_eq!(errors.len(), 9);
    assert!(errors.iter().all(|error| !error.to_string().is_empty()));
    assert_eq!(metrics.iter().map(|metrics| metrics.epoch).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// The signals that this thread blocks, those that the process ignores and handles, and those that wait for it.
fn signals() -> Vec<String> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let of_signals = ["SigBlk:", "SigIgn:", "SigCgt:", "ShdPnd:"];
    status.lines().filter(|line| of_signals.iter().any(|name| line.starts_with(name))).map(Into::into).collect()
}

/// The names of the process's threads.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    // A thread may end while its name is read.
    let mut names: Vec<String> = tasks.filter_map(|task| fs::read_to_string(task.join("comm")).ok()).collect();
    names.sort();
    names
}

/// A line of the process's status, in KiB.
fn status(line: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line)).expect("Linux has this line");
    found.trim().trim_end_matches(" kB").parse().unwrap()
}

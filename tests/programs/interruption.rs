//! Ctrl-C, and runs that go on after it.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;

use super::*;

/// Runs `train`, sends it signals once it prints a line that begins with `when`, and collects its output until it ends.
/// `signal` is a command of the shell in which `$1` is the process, as in `kill -INT $1`.
pub fn interrupt(mut command: Command, signal: &str, when: &str) -> Finished {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdout = String::new();
    let mut sent = false;
    while let Some(line) = lines.next().transpose().unwrap() {
        if !sent && line.starts_with(when) {
            // The shell's builtin `kill`, as there may be no program of that name.
            let arguments = ["-c", signal, "sh", &child.id().to_string()];
            assert!(Command::new("sh").args(arguments).status().unwrap().success());
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
    assert!(said.line("go on with: ").ends_with(" --resume run --log-every 1"), "{}", said.stdout);
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

    let said = interrupt(place.command(TRAIN, &format!("{options} --out run")), "kill -INT $1", "epoch 1/2, step 2/");
    let first = interrupted_after(&said, 1);
    assert!((2..STEPS).contains(&first), "{first}");
    assert!(Run::open(place.path("run")).unwrap().metrics().unwrap().is_empty());
    assert!(place.weights("run") != place.weights("whole"));

    let said = interrupt(place.command(TRAIN, "--resume run --log-every 1"), "kill -INT $1", "epoch 2/2, step 2/");
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
    said.line("all 2 epochs are done");
    assert!(place.weights("run") == before);
}

/// 256 steps of a line each, a second or more.
const LONG: &str = "--preset small --epochs 2 --train-limit 512 --test-limit 8 --batch-size 4 --log-every 1 --out run";

/// The path of a program need not be text, as the line is.
#[test]
fn a_program_of_any_path_says_how_to_go_on() {
    let Some(place) = Place::new() else { return };
    let mut command = place.command(TRAIN, LONG);
    command.arg0(OsStr::from_bytes(b"mlpconv\xff")).env_remove("CARGO");
    let said = interrupt(command, "kill -INT $1", "epoch 1/2, step 2/");
    assert_eq!(said.code, Some(130), "{}{}", said.stdout, said.stderr);
    let on = said.line("go on with: ");
    assert!(on.contains("mlpconv\u{fffd}") && on.ends_with(" train --resume run --log-every 1"), "{on}");
}

/// `timeout` sends a signal to the process and again to its group.
#[test]
fn two_signals_at_once_are_one() {
    let Some(place) = Place::new() else { return };
    let twice = "kill -TERM $1; kill -TERM $1";
    let said = interrupt(place.command(TRAIN, LONG), twice, "epoch 1/2, step 2/");
    assert_eq!(said.code, Some(128 + 15), "{}{}", said.stdout, said.stderr);
    let step = said.line("interrupted in epoch 1, after step ");
    assert!(place.train("--resume run").good().stdout.contains("from epoch 1, after step "), "{step}");
}

#[test]
fn a_hang_up_saves_unless_it_is_ignored() {
    let Some(place) = Place::new() else { return };
    let said = interrupt(place.command(TRAIN, LONG), "kill -HUP $1", "epoch 1/2, step 2/");
    assert_eq!(said.code, Some(128 + 1), "{}{}", said.stdout, said.stderr);
    said.line("interrupted in epoch 1, after step ");

    // As `nohup` starts a program.
    let mut command = place.command("sh", "");
    let options = LONG.replace("512", "64").replace("--out run", "--out ignoring");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", MLPCONV, "train"]).args(options.split_whitespace());
    let said = interrupt(command, "kill -HUP $1", "epoch 1/2, step 2/");
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    said.line("done: ");
}

/// A signal during the last evaluation or after it finds the run done, or stops it: its code says which.
#[test]
fn a_signal_after_the_last_epoch_changes_nothing() {
    let Some(place) = Place::new() else { return };
    let said = interrupt(place.command(TRAIN, &LONG.replace("512", "64")), "kill -INT $1", "epoch 2/2: ");
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    said.line("done: ");
}

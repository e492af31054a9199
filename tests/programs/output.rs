//! Readers that go away and disks that fill up: the program saves first, and its exit code says that it is not done.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader};

use super::*;

/// A line a step.
const OPTIONS: &str = "--preset small --train-limit 320 --test-limit 8 --batch-size 8 --epochs 2 --log-every 1";

/// Runs a program whose output nobody reads after the first `lines` lines.
fn close_after(lines: usize, mut command: Command) -> Finished {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut stdout = String::new();
    for _ in 0..lines {
        assert!(reader.read_line(&mut stdout).unwrap() > 0, "{stdout}");
    }
    drop(reader);
    let output = child.wait_with_output().unwrap();
    Finished { code: output.status.code(), stdout, stderr: String::from_utf8(output.stderr).unwrap() }
}

/// Checks that the run goes on from where its output failed to the weights of an uninterrupted run.
fn goes_on(place: &Place, run: &str) {
    place.train(&format!("{OPTIONS} --out whole-{run}")).good();
    assert!(place.weights(run) != place.weights(&format!("whole-{run}")), "it was not stopped");
    place.train(&format!("--resume {run}")).good();
    assert!(place.weights(run) == place.weights(&format!("whole-{run}")));
}

#[test]
fn a_closed_pipe_ends_a_program_silently_and_after_saving() {
    let Some(place) = Place::new() else { return };
    // A short output may be in the pipe before its reader goes, so that of `summary` has none from the start.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let said = Finished::of(place.command(MLPCONV, "summary").stdout(writer));
    assert_eq!((said.code, &*said.stderr), (Some(141), ""));
    // Lines of the start, then one a step.
    let said = close_after(6, place.command(TRAIN, &format!("{OPTIONS} --out run")));
    assert_eq!((said.code, &*said.stderr), (Some(141), ""));
    goes_on(&place, "run");
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_on_a_full_disk_ends_a_run_after_saving() {
    let Some(place) = Place::new() else { return };
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let said = Finished::of(place.command(TRAIN, &format!("{OPTIONS} --out run")).stdout(full()));
    said.bad(&["cannot write to standard output", "No space left"]);
    goes_on(&place, "run");
    let said = Finished::of(place.command(MLPCONV, "summary").stdout(full()));
    said.bad(&["cannot write to standard output", "No space left"]);
}

/// Nothing can be told where standard error is full, so the run goes on.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_error_stops_nothing() {
    let Some(place) = Place::new() else { return };
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    // The warning of the change goes to standard error.
    place.train(&format!("{OPTIONS} --out run")).good();
    for (options, code) in [("--resume run --epochs 3", 0), ("--resume nowhere", 1)] {
        let status = place.command(TRAIN, options).stderr(full()).stdout(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{options}");
    }
}

/// Output that fails after the last epoch is saved changes nothing about it.
#[test]
fn a_run_that_is_done_ends_well_though_its_last_lines_cannot_be_written() {
    let Some(place) = Place::new() else { return };
    let log = File::create(place.path("log")).unwrap();
    Finished::of(place.command(TRAIN, &format!("{OPTIONS} --out whole")).stdout(log)).good();
    let lines = fs::read_to_string(place.path("log")).unwrap().lines().count();
    let said = close_after(lines - 2, place.command(TRAIN, &format!("{OPTIONS} --out run")));
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert!(place.weights("run") == place.weights("whole"));
}

/// A terminal that goes away takes standard output, standard error and the progress bar with it.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_hangs_up_costs_no_step() {
    let Some(place) = Place::new() else { return };
    let options = OPTIONS.replace("--epochs 2", "--epochs 40 --save-every 1000");
    // `script` opens a terminal for its command. Without it the terminal is gone, which the kernel tells by HUP.
    let mut terminal = place.command("script", "-q -e /dev/null -c");
    let terminal = terminal.arg(format!("{MLPCONV} train {options} --out run")).stdout(Stdio::piped()).spawn();
    let mut terminal = terminal.expect("script, of util-linux");
    let mut said = BufReader::new(terminal.stdout.take().unwrap());
    let mut shown = Vec::new();
    // The bar is drawn with the first step.
    while !String::from_utf8_lossy(&shown).contains("loss ") {
        assert!(said.read_until(b'\r', &mut shown).unwrap() > 0, "{}", String::from_utf8_lossy(&shown));
    }
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    // The run has its lock until it has saved.
    let saved = (0..600).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        Run::resume(place.path("run")).ok()
    });
    drop(saved.expect("the run ends"));
    let said = place.train("--resume run --epochs 1").good();
    let place_of = said.line("run ").to_owned();
    assert!(!place_of.ends_with("after step 0"), "nothing was saved after the start: {place_of}");
}

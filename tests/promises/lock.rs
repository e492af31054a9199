//! Promise 9. Of two processes on one run folder the second is refused by name.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::calls;
use super::place::Finished;
use super::promise::{kept, tries};
use super::tiny::{Tiny, copy};

/// Runs two commands that meet at their first call on a file of the run.
fn race(tiny: &Tiny, run: &str, commands: [Command; 2]) -> [Finished; 2] {
    let [gate, log] = ["gate", "log"].map(|name| tiny.path(&format!("{run}.{name}")));
    let mut children = commands.map(|mut command| {
        calls::wait_at(&mut command, &tiny.path(run), &gate, &log);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let waiting = |log: &Path| fs::read_to_string(log).unwrap_or_default().matches("waiting").count();
    while waiting(&log) < 2 {
        let ended = children.iter_mut().any(|child| child.try_wait().unwrap().is_some());
        assert!(!ended || waiting(&log) == 2, "a process ended before it met the other");
        sleep(Duration::from_millis(1));
    }
    fs::write(gate, "").unwrap();
    children.map(|child| {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    })
}

/// Checks that one of them has gone on, and that the other was refused for one of the reasons.
fn one_goes_on(ended: [Finished; 2], run: &str, reasons: [&str; 2]) {
    let [one, other] = ended;
    let (first, second) = if one.code == Some(0) { (one, other) } else { (other, one) };
    first.good();
    assert!(reasons.iter().any(|reason| second.stderr.contains(reason)), "{}{}", second.stdout, second.stderr);
    second.bad(&[&format!("error: run {run}: ")]);
}

#[test]
fn of_two_processes_at_one_instant_one_goes_on() {
    let tiny = Tiny::new(2);
    Finished::of(&mut tiny.begin_with("half", 1)).good();
    let all = tries(3, 20);
    for number in 0..all {
        let run = format!("begun-{number}");
        let ended = race(&tiny, &run, [(); 2].map(|()| tiny.begin(&run)));
        one_goes_on(ended, &run, ["trains in this folder", "the folder is not empty"]);
        tiny.assert_ended(&run, "after a race");

        let run = format!("resumed-{number}");
        copy(&tiny.path("half"), &tiny.path(&run));
        let ended = race(&tiny, &run, [(); 2].map(|()| tiny.extend(&run)));
        one_goes_on(ended, &run, ["trains in this folder"; 2]);
        tiny.assert_ended(&run, "after a race");
    }
    kept(9, format!("{all} tries at the same instant, of two beginnings and of two resumptions: 0 failures"));
}

/// As on some network file systems.
#[test]
fn where_a_file_system_has_no_locks_a_run_goes_on_with_a_warning() {
    let tiny = Tiny::new(1);
    for number in [libc::ENOLCK, libc::EOPNOTSUPP, libc::ENOSYS] {
        let mut command = tiny.begin("run");
        calls::always(&mut command, &tiny.path("run"), "flock", number);
        let said = Finished::of(&mut command).good();
        assert!(said.stderr.contains("gives no lock") && said.stderr.contains("no other process"), "{}", said.stderr);
        tiny.assert_ended("run", "without locks");
        let mut command = tiny.resume("run");
        calls::always(&mut command, &tiny.path("run"), "flock", number);
        assert!(Finished::of(&mut command).good().stderr.contains("gives no lock"));
        fs::remove_dir_all(tiny.path("run")).unwrap();
    }
    kept(9, "where flock fails with ENOLCK, EOPNOTSUPP or ENOSYS the run goes on and says so");
}

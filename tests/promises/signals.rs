//! Promise 8. INT, TERM and HUP at any moment: saved and resumable within 2 s of the step's end.

#![cfg(unix)]

use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::place::Finished;
use super::promise::{kept, tries};
use super::tiny::Tiny;

const SIGNALS: [(&str, i32); 3] = [("INT", libc::SIGINT), ("TERM", libc::SIGTERM), ("HUP", libc::SIGHUP)];

/// Lets the command have the signals' defaults: where the tests run in the background of a script, INT is ignored.
fn unignored(command: &mut Command) -> &mut Command {
    let reset = || {
        for (_, signal) in SIGNALS {
            // SAFETY: `signal` may be called between fork and exec.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: `reset` neither allocates nor locks.
    unsafe { command.pre_exec(reset) }
}

/// The times, in tries of a moment from before the first step to after the last evaluation, at which a signal ends a run.
#[test]
fn a_signal_at_any_moment_saves() {
    let tiny = Tiny::new(2);
    let mut chance = Chance::new();
    let (each, mut slowest) = (tries(3, 50), Duration::ZERO);
    // Before the handlers, by the handlers, after the last epoch.
    let (mut early, mut saved, mut done) = (0, 0, 0);
    for (name, signal) in SIGNALS {
        for number in 0..each {
            let context = format!("after {name} number {number}");
            let mut command = tiny.begin("run");
            let child = unignored(&mut command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            sleep(chance.moment(tiny.time));
            // SAFETY: the child has not been waited for, so the number is still its own.
            unsafe { libc::kill(child.id() as i32, signal) };
            let sent = Instant::now();
            let output = child.wait_with_output().unwrap();
            slowest = slowest.max(sent.elapsed());
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            match (output.status.code(), output.status.signal()) {
                // Death before the handlers were there. No run had been begun.
                (None, Some(by)) if by == signal => {
                    assert!(!tiny.path("run").exists(), "{context}: {text}");
                    early += 1;
                }
                (Some(code), None) if code == 128 + signal => {
                    assert!(text.contains("\ninterrupted ") && text.contains("; saved to "), "{context}: {text}");
                    saved += 1;
                }
                (Some(0), None) => {
                    assert!(text.contains("\ndone: "), "{context}: {text}");
                    done += 1;
                }
                _ => panic!("{context} it ended with {}: {text}", output.status),
            }
            Finished::of(&mut tiny.go_on("run")).good();
            tiny.assert_ended("run", &context);
            fs::remove_dir_all(tiny.path("run")).unwrap();
        }
    }
    // Generous where other tests take the cores.
    let limit = Duration::from_secs(tries(30, 2) as u64);
    assert!(slowest <= limit, "{slowest:?}");
    kept(
        8,
        format!(
            "{each} tries each of INT, TERM and HUP: {saved} saved, {early} before the run began, {done} after its end; the slowest \
         within {:.2} s: 0 failures",
            slowest.as_secs_f64()
        ),
    );
}

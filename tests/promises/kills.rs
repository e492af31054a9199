//! Promise 1. `kill -9` at any moment loses at most the steps since the last save, and resuming ends with the same bits.

#![cfg(target_os = "linux")]

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use super::calls::{self, Call, Fault, telling};
use super::chance::Chance;
use super::place::{Finished, names};
use super::promise::{kept, tries};
use super::tiny::{LOST, STEPS, Tiny, copy};

/// Steps since the run's beginning, after the step or epoch of such a line: `epoch 1/2, step 3/6: ...`, or `epoch 1/2: ...`.
fn shown(line: &str) -> Option<u32> {
    let (epoch, rest) = line.strip_prefix("epoch ")?.split_once('/')?;
    let step = rest.split_once(", step ").map_or(STEPS, |(_, step)| step.split_once('/').unwrap().0.parse().unwrap());
    Some((epoch.parse::<u32>().unwrap() - 1) * STEPS + step)
}

/// Steps since the run's beginning from which it goes on, by the line `run  FOLDER, from epoch 1, after step 4`.
fn resumed(line: &str) -> Option<u32> {
    let (_, place) = line.strip_prefix("run ")?.split_once(", from epoch ")?;
    let (epoch, step) = place.split_once(", after step ")?;
    Some((epoch.parse::<u32>().unwrap() - 1) * STEPS + step.parse::<u32>().unwrap())
}

fn has_part(tiny: &Tiny, run: &str) -> bool {
    let folder = tiny.path(run);
    folder.exists() && names(&folder).iter().any(|name| name.ends_with(".part"))
}

/// Runs are killed until enough kills have met them, at moments drawn from the time that a run takes or inside a save.
#[test]
fn runs_that_are_killed_again_and_again_end_with_the_same_bits() {
    let tiny = Tiny::new(2);
    let mut chance = Chance::new();
    let (all, inside) = (tries(10, 100), tries(3, 30));
    let (mut kills, mut in_saves, mut runs) = (0, 0, 0);
    while kills < all || in_saves < inside {
        runs += 1;
        let run = format!("run-{runs}");
        let mut told = 0;
        loop {
            let context = format!("after {kills} kills, of which {in_saves} were in saves");
            let mut command = tiny.go_on(&run);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let wanted = kills < all || in_saves < inside;
            if wanted {
                let aims = all - kills.min(all) <= inside - in_saves.min(inside) || chance.below(3) == 0;
                sleep(chance.moment(tiny.time));
                while aims && child.try_wait().unwrap().is_none() && !has_part(&tiny, &run) {
                    sleep(Duration::from_micros(20));
                }
                child.kill().unwrap();
            }
            let output = child.wait_with_output().unwrap();
            let (stdout, stderr) =
                (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            assert!(matches!(output.status.code(), None | Some(0)), "{context}: {stdout}{stderr}");
            if let Some(from) = stdout.lines().find_map(resumed) {
                assert!(from + LOST >= told, "after step {told} it goes on from step {from} {context}: {stdout}");
            }
            told = told.max(stdout.lines().filter_map(shown).max().unwrap_or(0));
            if output.status.success() {
                tiny.assert_ended(&run, &context);
                break;
            }
            assert!(wanted, "{context}: {stdout}{stderr}");
            kills += 1;
            in_saves += usize::from(has_part(&tiny, &run));
        }
        fs::remove_dir_all(tiny.path(&run)).unwrap();
    }
    kept(1, format!("{kills} kills of {runs} runs, {in_saves} of them inside a save: 0 failures"));
}

/// The numbers of the calls of the last save, which is that after an epoch: from its event to the end of the run.
pub fn save(calls: &[Call]) -> Vec<usize> {
    let begins = |call: &Call| call.name == "open" && call.path.starts_with("metrics.jsonl.");
    // The event is written before; calls are counted from 1.
    let begin = calls.iter().rposition(begins).unwrap();
    // What lies in a file's place is looked at first.
    let event = calls[..begin].iter().rposition(|call| call.name != "stat").unwrap() + 1;
    assert!(calls[event - 1].name == "write" && calls[event - 1].path.starts_with("events."), "{:?}", calls[event - 1]);
    let numbers = telling(calls, calls.len());
    numbers.into_iter().filter(|number| *number >= event).collect()
}

/// The ways to be killed at a call.
fn kills(call: &Call) -> &'static [Fault] {
    if call.name == "write" { &[Fault::Kill, Fault::Tear] } else { &[Fault::Kill] }
}

/// Under `make torture`: at every call of a whole run, its beginning included.
#[test]
fn a_kill_at_every_call_of_a_save_changes_nothing() {
    let tiny = Tiny::new(1);
    let calls = calls::calls(tiny.begin("traced"), &tiny.path("traced"));
    let numbers = if tries(0, 1) == 0 { save(&calls) } else { telling(&calls, calls.len()) };
    let mut kills_done = 0;
    for number in numbers {
        let call = &calls[number - 1];
        for &fault in kills(call) {
            let context = format!("after {fault:?} at call {number}, {call:?}");
            let mut command = tiny.begin("run");
            calls::at(&mut command, &tiny.path("run"), number, fault);
            let said = Finished::of(&mut command);
            assert_eq!(said.code, None, "{context}: {}{}", said.stdout, said.stderr);
            Finished::of(&mut tiny.go_on("run")).good();
            tiny.assert_ended("run", &context);
            fs::remove_dir_all(tiny.path("run")).unwrap();
            kills_done += 1;
        }
    }
    let what = if tries(0, 1) == 0 { "a save" } else { "a run from its beginning to its end" };
    kept(1, format!("{kills_done} kills, at every system call of {what}: 0 failures"));
}

/// Settings that change are in two files. Who is killed while they are written repeats the command, or goes on without.
#[test]
fn a_kill_at_every_call_of_a_change_changes_nothing() {
    let tiny = Tiny::new(2);
    Finished::of(&mut tiny.begin_with("half", 1)).good();
    copy(&tiny.path("half"), &tiny.path("traced"));
    let calls = calls::calls(tiny.extend("traced"), &tiny.path("traced"));
    let settled = calls.iter().rposition(|call| call.name == "rename" && call.path.starts_with("config.toml")).unwrap();
    let mut kills_done = 0;
    // Under the short form one in seven.
    for number in telling(&calls, settled + 1).into_iter().step_by(tries(7, 1)) {
        let call = &calls[number - 1];
        for &fault in kills(call) {
            let context = format!("after {fault:?} at call {number}, {call:?}");
            copy(&tiny.path("half"), &tiny.path("run"));
            let mut command = tiny.extend("run");
            calls::at(&mut command, &tiny.path("run"), number, fault);
            assert_eq!(Finished::of(&mut command).code, None, "{context}");
            if number % 2 == 0 {
                Finished::of(&mut tiny.resume("run")).good();
            }
            Finished::of(&mut tiny.extend("run")).good();
            tiny.assert_ended("run", &context);
            fs::remove_dir_all(tiny.path("run")).unwrap();
            kills_done += 1;
        }
    }
    kept(1, format!("{kills_done} kills, at every system call of a resumption with more epochs: 0 failures"));
}

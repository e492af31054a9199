//! Promise 2. A full disk, an I/O error or a short write at any call leaves the previous state usable, is told with path and
//! cause, and leaves nothing behind.

#![cfg(target_os = "linux")]

use std::process::Command;
use std::{fs, io, io::Write as _};

use super::calls::{self, Call, Fault};
use super::kills;
use super::place::{Finished, MLPCONV, names};
use super::promise::{kept, tries};
use super::tiny::{Tiny, copy};

const FAULTS: [Fault; 6] = [
    Fault::Error(libc::ENOSPC),
    Fault::Error(libc::EIO),
    Fault::Error(libc::EDQUOT),
    Fault::Error(libc::EINTR),
    Fault::Full,
    Fault::Short,
];

/// The cause as the system words it.
fn cause(fault: Fault) -> String {
    let number = match fault {
        Fault::Error(number) => number,
        Fault::Full => libc::ENOSPC,
        _ => unreachable!("{fault:?} is no error"),
    };
    io::Error::from_raw_os_error(number).to_string()
}

/// Runs the command with a fault at a call on the files of `run`. Checks that it comes to its end or says why it does not,
/// and leaves no part of a file. Returns whether it came to its end.
fn survives(tiny: &Tiny, mut command: Command, run: &str, number: usize, fault: Fault, context: &str) -> bool {
    calls::at(&mut command, &tiny.path(run), number, fault);
    let said = Finished::of(&mut command);
    if tiny.path(run).exists() {
        let left: Vec<String> = names(&tiny.path(run)).into_iter().filter(|name| name.ends_with(".part")).collect();
        assert!(left.is_empty(), "{left:?} {context}");
    }
    if said.code == Some(0) {
        tiny.assert_ended(run, context);
        return true;
    }
    assert_eq!(said.code, Some(1), "{context}: {}{}", said.stdout, said.stderr);
    assert!(fault != Fault::Short, "{context}: {}", said.stderr);
    said.bad(&[run, &cause(fault)]);
    false
}

/// Tries every fault at the calls, or under the short form one fault at each, in turn. Returns the numbers of faults, and of
/// those that the run survived.
fn every_fault(numbers: Vec<usize>, calls: &[Call], mut one: impl FnMut(usize, Fault, &str) -> bool) -> (usize, usize) {
    let (mut faults, mut survived) = (0, 0);
    for number in numbers {
        let turn = FAULTS[number % FAULTS.len()];
        for fault in FAULTS.into_iter().filter(|fault| tries(0, 1) == 1 || *fault == turn) {
            let context = format!("after {fault:?} at call {number}, {:?}", calls[number - 1]);
            survived += usize::from(one(number, fault, &context));
            faults += 1;
        }
    }
    (faults, survived)
}

/// Under `make torture`: at every call of a whole run, its beginning included.
#[test]
fn a_fault_at_every_call_of_a_save_harms_nothing() {
    let tiny = Tiny::new(1);
    let calls = calls::calls(tiny.begin("traced"), &tiny.path("traced"));
    let numbers = if tries(0, 1) == 0 { kills::save(&calls) } else { calls::telling(&calls, calls.len()) };
    let tried = numbers.len();
    let (faults, survived) = every_fault(numbers, &calls, |number, fault, context| {
        let survived = survives(&tiny, tiny.begin("run"), "run", number, fault, context);
        Finished::of(&mut tiny.go_on("run")).good();
        tiny.assert_ended("run", context);
        fs::remove_dir_all(tiny.path("run")).unwrap();
        survived
    });
    assert!(survived < faults, "no fault had an effect");
    kept(2, format!("{faults} faults at {tried} calls of a run, {survived} survived: 0 failures"));
}

#[test]
fn a_fault_at_every_call_of_a_change_harms_nothing() {
    let tiny = Tiny::new(2);
    Finished::of(&mut tiny.begin_with("half", 1)).good();
    copy(&tiny.path("half"), &tiny.path("traced"));
    let calls = calls::calls(tiny.extend("traced"), &tiny.path("traced"));
    let settled = calls.iter().rposition(|call| call.name == "rename" && call.path.starts_with("config.toml")).unwrap();
    // Under the short form one in seven.
    let numbers: Vec<usize> = calls::telling(&calls, settled + 1).into_iter().step_by(tries(7, 1)).collect();
    let tried = numbers.len();
    let (faults, survived) = every_fault(numbers, &calls, |number, fault, context| {
        copy(&tiny.path("half"), &tiny.path("run"));
        let survived = survives(&tiny, tiny.extend("run"), "run", number, fault, context);
        Finished::of(&mut tiny.resume("run")).good();
        Finished::of(&mut tiny.extend("run")).good();
        tiny.assert_ended("run", context);
        fs::remove_dir_all(tiny.path("run")).unwrap();
        survived
    });
    assert!(survived < faults, "no fault had an effect");
    kept(2, format!("{faults} faults at {tried} calls of a resumption, {survived} survived: 0 failures"));
}

/// A file system with room for one state and not for a second one beside it. It is mounted in a name space of its own, which
/// ends with the shell.
#[test]
fn a_disk_that_fills_up_keeps_the_state_and_goes_on_when_it_has_room() {
    let namespace = ["--user", "--map-root-user", "--mount"];
    let tiny = Tiny::new(1);
    fs::create_dir(tiny.path("disk")).unwrap();
    let mount = "mount -t tmpfs -o size=$SIZE tmpfs disk || exit 99";
    let mounts = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", mount])
        .current_dir(tiny.place.folder.path())
        .env("SIZE", "1m")
        .status();
    if !mounts.is_ok_and(|status| status.success()) {
        let why = "SKIPPED a test of a disk that fills up: this machine mounts none; injected faults stand in for it\n";
        io::stderr().write_all(why.as_bytes()).unwrap();
        return;
    }
    let size = |name: &str| fs::metadata(tiny.path("whole").join(name)).unwrap().len();
    let (weights, state) = (size("weights.safetensors"), size("state.safetensors"));
    let words = |command: &Command| {
        let words = command.get_args().map(|word| word.to_str().unwrap());
        [MLPCONV].into_iter().chain(words).collect::<Vec<_>>().join(" ")
    };
    let script = format!(
        "{mount}
        {} > begun 2>&1; echo $? > code
        ls -A disk/run > files
        mount -o remount,size=256m disk
        {} > resumed 2>&1 || exit
        cp -r disk/run run",
        words(&tiny.begin("disk/run")),
        words(&tiny.resume("disk/run")),
    );
    let mut command = tiny.place.command("unshare", "");
    // The new weights fit beside the first state, and the new state only by a quarter.
    command.args(namespace).args(["sh", "-c", &script]).env("SIZE", (2 * weights + state + state / 4).to_string());
    let status = command.status().unwrap();
    let read = |name: &str| fs::read_to_string(tiny.path(name)).unwrap();
    assert!(status.success(), "{}{}", read("begun"), read("resumed"));
    let error = read("begun").lines().filter(|line| line.starts_with("error: ")).collect::<String>();
    assert!(error.contains("disk/run/state.safetensors") && error.contains("No space left"), "{}", read("begun"));
    assert_eq!(read("code"), "1\n");
    assert!(read("files").contains("state.safetensors") && !read("files").contains(".part"), "{}", read("files"));
    tiny.assert_ended("run", "on a disk that was full for a while");
    kept(
        2,
        format!(
            "a tmpfs of {} KiB filled up in a save of {} KiB: 0 failures",
            (2 * weights + state + state / 4) / 1024,
            (weights + state) / 1024
        ),
    );
}

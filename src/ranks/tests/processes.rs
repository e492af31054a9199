//! Groups whose ranks are processes: this test program, started again.

use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Tells a process of this program that it is a rank, and what to do.
const TASK: &str = "MLPCONV_TEST_RANK";

/// No test, but the work of a process that is a rank.
#[test]
fn a_rank() {
    let Ok(task) = env::var(TASK) else { return };
    let place = Place::from_environment().unwrap().expect("variables");
    let timeouts = Timeouts { join: Duration::from_secs(8), silence: Duration::from_millis(1600), ..short() };
    let say = |line: String| {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "\n> {line}").and_then(|()| out.flush());
    };
    let group = match Group::join(&place, timeouts) {
        Ok(group) => group,
        Err(error) => return say(format!("error {error}")),
    };
    say("joined".into());
    let mut done = 0;
    let own = vec![place.rank as u8; 20 << 20];
    let mut all = vec![0; own.len() * place.ranks];
    let failed = loop {
        let call = match &task[..] {
            "ring" => group.all_gather(&own, &mut all),
            _ => group.barrier(),
        };
        match call {
            Ok(()) => done += 1,
            Err(error) => break error,
        }
        if task != "ring" {
            thread::sleep(Duration::from_millis(20));
        }
        if done % 20 == 0 || task == "ring" {
            say(format!("done {done}"));
        }
    };
    say(format!("error {failed}"));
}

/// The processes of a group, with what they say.
struct Ranks(Vec<(Child, Receiver<String>)>);

impl Ranks {
    fn start(task: &str, count: usize) -> Ranks {
        let port = free_port();
        Ranks((0..count).map(|rank| Ranks::one(task, rank, count, port)).collect())
    }

    fn one(task: &str, rank: usize, count: usize, port: u16) -> (Child, Receiver<String>) {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "ranks::tests::processes::a_rank", "--nocapture", "--test-threads=1"]);
        command.env(TASK, task).env("MLPCONV_LAUNCH", format!("test {port}"));
        for (name, value) in [("RANK", rank), ("WORLD_SIZE", count), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", count)]
        {
            command.env(name, value.to_string());
        }
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(std::result::Result::ok) {
                if let Some(said) = line.strip_prefix("> ") {
                    let _ = send.send(said.to_owned());
                }
            }
        });
        (child, lines)
    }

    fn signal(&self, rank: usize, signal: i32) {
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.0[rank].0.id() as i32, signal) };
    }

    /// The next line of a rank that begins so.
    fn hear(&self, rank: usize, start: &str, within: Duration) -> String {
        let end = Instant::now() + within;
        let mut heard = Vec::new();
        loop {
            match self.0[rank].1.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("rank {rank} did not say {start:?} within {within:?}, but {heard:?}"),
            }
        }
    }

    fn all_join(&self) {
        (0..self.0.len()).for_each(|rank| drop(self.hear(rank, "joined", Duration::from_secs(10))));
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_killed_rank_is_lost_at_once() {
    for (task, killed) in [("barriers", 0), ("barriers", 2), ("ring", 0), ("ring", 1)] {
        let group = Ranks::start(task, 3);
        group.all_join();
        if task == "ring" {
            group.hear(0, "done 1", Duration::from_secs(5));
        }
        group.signal(killed, libc::SIGKILL);
        for rank in (0..3).filter(|&rank| rank != killed) {
            let said = group.hear(rank, "error", Duration::from_secs(4));
            assert!(said.starts_with(&format!("error rank {killed} is lost: ")), "{task}: {said}");
        }
    }
}

#[test]
fn a_stopped_rank_is_lost_after_the_silence() {
    for (task, stopped) in [("barriers", 0), ("ring", 2)] {
        let group = Ranks::start(task, 3);
        group.all_join();
        group.signal(stopped, libc::SIGSTOP);
        for rank in (0..3).filter(|&rank| rank != stopped) {
            let said = group.hear(rank, "error", Duration::from_secs(6));
            assert!(said.starts_with(&format!("error rank {stopped} is lost: no sign of life")), "{task}: {said}");
        }
    }
}

#[test]
fn a_job_that_was_stopped_as_a_whole_goes_on() {
    let group = Ranks::start("barriers", 3);
    group.all_join();
    (0..3).for_each(|rank| group.signal(rank, libc::SIGSTOP));
    // Twice the silence.
    thread::sleep(Duration::from_millis(3200));
    (0..3).for_each(|rank| group.signal(rank, libc::SIGCONT));
    group.hear(1, "done", Duration::from_secs(5));
    group.hear(1, "done", Duration::from_secs(5));
    group.hear(1, "done", Duration::from_secs(5));
    group.signal(2, libc::SIGKILL);
    let said = group.hear(0, "error", Duration::from_secs(5));
    assert!(said.starts_with("error rank 2 is lost: "), "{said}");
}

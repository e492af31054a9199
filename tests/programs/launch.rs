//! `mlpconv launch`: several processes of one command on this host.

use std::path::PathBuf;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;

/// A folder without a data set.
fn place() -> Place {
    Place { folder: TempDir::new().unwrap(), data: PathBuf::new() }
}

/// A command that takes long, and that a signal ends.
const LONG: &str = "launch -n 3 -- time --preset small --batch-size 1 --steps 100000000 --device cpu";

/// The processes that a process has started.
fn children(id: u32) -> Vec<i32> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|id| id.parse::<i32>().ok()));
    }
    // The first is rank 0.
    all.sort();
    all
}

/// Starts [`LONG`].
fn long(place: &Place) -> Child {
    let mut command = place.command(MLPCONV, LONG);
    command.env("RAYON_NUM_THREADS", "1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The ranks of [`LONG`], once they run.
fn ranks(launcher: &Child) -> Vec<i32> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let ranks = children(launcher.id());
        if ranks.len() == 3 {
            // They are this program by then, and no copies of the launcher.
            sleep(Duration::from_millis(300));
            return ranks;
        }
        assert!(Instant::now() < end, "{ranks:?}");
        sleep(Duration::from_millis(10));
    }
}

fn kill(id: i32, signal: i32) {
    // SAFETY: the process runs, or waits for its parent, so the number is its own.
    unsafe { libc::kill(id, signal) };
}

/// Whether a process runs.
fn runs(id: i32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

/// What it measures is what the simulation takes.
#[test]
fn ranks_measure_their_ring_for_the_simulation() {
    let place = place();
    let said = place.mlpconv("launch -n 2 -- scaling --measure --preset small --steps 3 --json").good().stdout;
    let measured: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let of = |key: &str| measured[key].as_f64().unwrap();
    assert!(of("bandwidth") > 0.0 && of("latency_us") >= 0.0 && of("call_us") > 0.0, "{said}");
    let options = "scaling --over tcp --ranks 2 --preset small --step-ms 10 --json";
    let line = format!(
        "{options} --bandwidth {} --latency-us {} --call-us {}",
        of("bandwidth"),
        of("latency_us"),
        of("call_us")
    );
    let rows = place.mlpconv(&line).good().stdout;
    let first: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert!(first["step_us"].as_f64().unwrap() > 1e4, "{rows}");
}

#[test]
fn lines_of_the_other_ranks_have_a_prefix() {
    let place = place();
    let alone = place.mlpconv("summary --preset small").good().stdout;
    let said = place.mlpconv("launch -n 3 -- summary --preset small").good().stdout;
    for rank in 0..3 {
        let prefix = format!("[rank {rank}] ");
        let own = |line: &&str| if rank == 0 { !line.starts_with("[rank ") } else { line.starts_with(&prefix) };
        let lines = said.lines().filter(own).map(|line| line.strip_prefix(&prefix).unwrap_or(line));
        assert!(lines.eq(alone.lines()), "{said}");
    }
}

#[test]
fn the_exit_code_is_that_of_a_rank_that_failed() {
    let said = place().mlpconv("launch -n 2 -- evaluate nowhere");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let starts = |start: &str| said.stderr.lines().any(|line| line.starts_with(start));
    assert!(starts("error: ") && starts("[rank 1] error: ") && starts("rank "), "{}", said.stderr);
    let said = place().mlpconv("launch -n 2 -- no-such-command");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
}

#[test]
fn numbers_and_commands_that_are_none_are_refused() {
    place().mlpconv("launch -n 0 -- summary").bad(&["ranks", "0 must be between 1 and 1024"]);
    place().mlpconv("launch -n 2").bad(&["required arguments"]);
    place().mlpconv("launch -n 2 --").bad(&[]);
    place().mlpconv("launch -- summary").bad(&[]);
}

#[test]
fn a_rank_launches_no_ranks() {
    let said = place().mlpconv("launch -n 1 -- launch -n 2 -- summary");
    said.bad(&["launch", "rank 0 of 1 already, started by mlpconv launch"]);
    let mut command = place().command(MLPCONV, "launch -n 2 -- summary");
    command.current_dir("/").envs([
        ("RANK", "1"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "5"),
    ]);
    Finished::of(&mut command).bad(&["rank 1 of 2 already, started by torchrun", "unset RANK"]);
    let mut command = place().command(MLPCONV, "launch -n 2 -- summary");
    Finished::of(command.current_dir("/").env("RANK", "1")).bad(&["WORLD_SIZE", "is not set"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_to_the_launcher_ends_all_ranks() {
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGHUP, 129)] {
        let place = place();
        let mut launcher = long(&place);
        let ranks = ranks(&launcher);
        let began = Instant::now();
        kill(launcher.id() as i32, signal);
        assert_eq!(launcher.wait().unwrap().code(), Some(code));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(!ranks.iter().any(|&rank| runs(rank)), "{ranks:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn if_a_rank_is_killed_the_others_are_ended() {
    let place = place();
    let launcher = long(&place);
    let ranks = ranks(&launcher);
    let began = Instant::now();
    kill(ranks[1], libc::SIGKILL);
    let output = launcher.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(137), "{stderr}");
    assert!(stderr.contains("rank 1 failed first, with exit code 137; the others have 10 s to end"), "{stderr}");
    let seconds = began.elapsed().as_secs_f64();
    assert!((9.0..15.0).contains(&seconds), "{seconds}");
    assert!(!ranks.iter().any(|&rank| runs(rank)), "{ranks:?}");
}

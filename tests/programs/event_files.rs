//! Event files for TensorBoard.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::events::{scalars, timeless};
use super::*;

/// Five steps an epoch, with a reading after each.
const OPTIONS: &str = "--preset small --train-limit 40 --test-limit 8 --batch-size 8 --log-every 1";

#[test]
fn events_have_every_reading_and_the_metrics_of_every_epoch() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 3 --out run --tensorboard")).good();
    let run = place.path("run");
    let scalars = scalars(&run);
    let tags = ["accuracy/test", "accuracy/train", "images_per_second", "loss/test", "loss/train", "rate"];
    assert_eq!(scalars.keys().collect::<Vec<_>>(), tags);
    for tag in tags {
        let steps: Vec<u64> = scalars[tag].keys().copied().collect();
        let expected = if tag.ends_with("train") { (1..=15).collect() } else { vec![5, 10, 15] };
        assert_eq!(steps, expected, "{tag}");
    }
    for metrics in Run::open(&run).unwrap().metrics().unwrap() {
        let step = u64::from(metrics.epoch) * 5;
        for (tag, value) in [
            ("accuracy/test", metrics.test_accuracy),
            ("accuracy/train", metrics.train_accuracy),
            ("images_per_second", metrics.examples_per_second),
            ("loss/test", metrics.test_loss),
            ("loss/train", metrics.loss),
            ("rate", metrics.rate),
        ] {
            assert_eq!(scalars[tag][&step], value as f32, "{tag} of epoch {}", metrics.epoch);
        }
    }
    // They are written only where they are asked for.
    place.train(&format!("{OPTIONS} --epochs 1 --out without")).good();
    assert!(names(&place.path("without")).iter().all(|name| !name.contains("tfevents")));
}

/// Wherever a process is killed, the files of all processes together have each step once, with the value of an undisturbed
/// run.
#[test]
fn a_run_that_was_killed_has_no_gap_and_no_step_twice() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 20 --out whole --tensorboard")).good();
    let whole = timeless(&place.path("whole"));
    let run = place.path("run");
    let length = || {
        let files = names(&run).into_iter().filter(|name| name.contains("tfevents"));
        files.map(|name| fs::metadata(run.join(name)).unwrap().len()).sum::<u64>()
    };
    let mut command = place.command(TRAIN, &format!("{OPTIONS} --epochs 20 --out run --tensorboard --save-every 1000"));
    let mut killed = 0;
    // Each process is killed some bytes of events later than it began.
    for later in [1, 700, 2000] {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while !run.join("state.safetensors").exists() || length() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60));
            sleep(Duration::from_millis(1));
        }
        let first = length();
        while length() < first + later && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        command = place.command(TRAIN, "--resume run --log-every 1 --save-every 1000");
    }
    let said = Finished::of(&mut command).good();
    assert!(said.stdout.contains("done: ") || said.stdout.contains("all 20 epochs are done"), "{}", said.stdout);
    assert_eq!(timeless(&run), whole);
    // The first one has a hundred steps before it, so it is met.
    let files = names(&run).into_iter().filter(|name| name.contains("tfevents")).count();
    assert!(killed >= 1 && files >= 2, "{killed} kills, {files} files");
}

/// A run may begin without events: the first file has the epochs that are done.
#[test]
fn events_that_are_asked_for_later_begin_with_the_epochs_that_are_done() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 2 --out run")).good();
    let said = place.train("--resume run --epochs 4 --log-every 1 --tensorboard").good();
    assert!(said.stdout.contains("done: "), "{}", said.stdout);
    let scalars = scalars(&place.path("run"));
    assert_eq!(scalars["loss/test"].keys().collect::<Vec<_>>(), [&5, &10, &15, &20]);
    assert_eq!(
        scalars["loss/train"].keys().copied().collect::<Vec<_>>(),
        [5].into_iter().chain(10..=20).collect::<Vec<_>>()
    );
}

#[test]
fn an_event_file_that_cannot_be_made_is_named_before_the_run_goes_on() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 1 --out run")).good();
    let metrics = fs::read(place.path("run/metrics.jsonl")).unwrap();
    // There is no second after this one, in which the next file would be made.
    let last = place.path("run/events.out.tfevents.18446744073709551615.mlpconv");
    fs::create_dir(&last).unwrap();
    let said = place.train("--resume run --epochs 2 --tensorboard --progress json").bad(&["events.out.tfevents"]);
    let end: serde_json::Value = serde_json::from_str(said.stdout.lines().last().unwrap()).unwrap();
    assert!(end["event"] == "end" && end["status"] == "failed", "{end}");
    assert_eq!(fs::read(place.path("run/metrics.jsonl")).unwrap(), metrics);
    fs::remove_dir(&last).unwrap();
    place.train("--resume run --epochs 2 --tensorboard").good();
    assert_eq!(scalars(&place.path("run"))["loss/test"].len(), 2);
}

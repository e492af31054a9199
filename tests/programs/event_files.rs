//! Event files for TensorBoard, read by a reader that shares nothing with their writer.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;

/// Five steps an epoch, with a reading after each.
const OPTIONS: &str = "--preset small --train-limit 40 --test-limit 8 --batch-size 8 --log-every 1";

/// The values of each tag by step.
type Scalars = BTreeMap<String, BTreeMap<u64, f32>>;

/// CRC-32C bit by bit, masked as in TFRecords.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The data of each record. A file that a killed process left may end within one.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while bytes.len() >= 12 {
        let length = number(&bytes[..8]) as usize;
        assert_eq!(number(&bytes[8..12]), u64::from(masked(&bytes[..8])), "the checksum of a length");
        let Some(data) = bytes[12..].get(..length + 4) else { break };
        let (data, checksum) = data.split_at(length);
        assert_eq!(number(checksum), u64::from(masked(data)), "the checksum of a record");
        records.push(data);
        bytes = &bytes[12 + length + 4..];
    }
    records
}

/// A field of a message in protocol buffers' encoding.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let length = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let (number, rest) = bytes.split_at(length);
    *bytes = rest;
    number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |length: usize| {
            let (taken, rest) = bytes.split_at(length);
            bytes = rest;
            taken
        };
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(number(take(8))),
            5 => Field::Number(number(take(4))),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (taken, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(taken)
            }
            other => panic!("no such type of field: {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// What TensorBoard shows of a folder: files in the order of their names, a session's start voiding what earlier ones have
/// at its step and beyond.
fn scalars(run: &Path) -> Scalars {
    let mut scalars = Scalars::new();
    for name in names(run).into_iter().filter(|name| name.contains("tfevents")) {
        let bytes = fs::read(run.join(&name)).unwrap();
        for (place, record) in records(&bytes).into_iter().enumerate() {
            let (mut step, mut version, mut values, mut starts) = (0, None, Vec::new(), false);
            for (field, value) in fields(record) {
                match (field, value) {
                    (1, Field::Number(time)) => assert!(f64::from_bits(time) > 1.7e9, "{name}"),
                    (2, Field::Number(number)) => step = number,
                    (3, Field::Bytes(text)) => version = Some(text),
                    (5, Field::Bytes(summary)) => values = fields(summary),
                    (7, Field::Bytes(log)) => starts = matches!(fields(log)[..], [(1, Field::Number(1))]),
                    (field, _) => panic!("{name}: no such field of an event: {field}"),
                }
            }
            assert_eq!(version, (place == 0).then_some(&b"brain.Event:2"[..]), "{name}");
            if starts {
                scalars.values_mut().for_each(|steps| steps.retain(|earlier, _| *earlier < step));
            }
            for (_, value) in values {
                let Field::Bytes(value) = value else { panic!("{name}: a value that is no message") };
                let [(1, Field::Bytes(tag)), (2, Field::Number(bits))] = fields(value)[..] else {
                    panic!("{name}: a value is a tag and a number")
                };
                let tag = String::from_utf8(tag.to_vec()).unwrap();
                let earlier = scalars.entry(tag).or_default().insert(step, f32::from_bits(bits as u32));
                assert!(earlier.is_none(), "{name}: two values at step {step}");
            }
        }
    }
    scalars
}

/// The scalars that do not depend on the clock.
fn timeless(run: &Path) -> Scalars {
    let mut scalars = scalars(run);
    assert!(scalars.remove("images_per_second").is_some());
    scalars
}

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
    place.train(&format!("{OPTIONS} --epochs 3 --out whole --tensorboard")).good();
    let whole = timeless(&place.path("whole"));
    let run = place.path("run");
    let length = || {
        let files = names(&run).into_iter().filter(|name| name.contains("tfevents"));
        files.map(|name| fs::metadata(run.join(name)).unwrap().len()).sum::<u64>()
    };
    let mut command = place.command(TRAIN, &format!("{OPTIONS} --epochs 3 --out run --tensorboard --save-every 1000"));
    // Each process is killed some events later than it began.
    for later in [1, 200, 700] {
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
        child.wait().unwrap();
        command = place.command(TRAIN, "--resume run --log-every 1 --save-every 1000");
    }
    assert!(Finished::of(&mut command).good().stdout.contains("done: ") || timeless(&run).len() == whole.len());
    assert_eq!(timeless(&run), whole);
    // A torn record at a file's end is where a reader stops; the files after it say the rest.
    assert!(names(&run).iter().filter(|name| name.contains("tfevents")).count() >= 2);
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
fn events_that_cannot_be_written_end_the_run_after_it_is_saved() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 1 --out run")).good();
    // No file is made in the place of a folder that has the name of every second to come.
    let far = place.path("run/events.out.tfevents.18446744073709551615.mlpconv");
    fs::create_dir(&far).unwrap();
    place.train("--resume run --epochs 2 --tensorboard").bad(&["events.out.tfevents"]);
    fs::remove_dir(&far).unwrap();
    place.train("--resume run --epochs 2 --tensorboard").good();
}

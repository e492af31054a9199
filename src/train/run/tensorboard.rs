//! Event files: scalars of a run as TensorBoard reads them.
//!
//! An event file is a row of TFRecords: length (u64), CRC of the length, data, CRC of the data, little-endian. Its CRC is
//! CRC-32C, rotated right by 15 bits and increased by 0xa282ead8, as in TensorFlow's `lib/io/record_writer.h` and
//! `lib/hash/crc32c.h`. The data of a record is an `Event` in protocol buffers' encoding. The field numbers are those of
//! `event.proto` (`Event`, `SessionLog`) and `summary.proto` (`Summary`, `Summary.Value`) in `tensorboard/compat/proto`.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crc::{CRC_32_ISCSI, Crc};

use super::Run;
use crate::nn::Module;
use crate::ops::cross_entropy::Reading;
use crate::train::{EpochMetrics, Event, Position, Trainer};
use crate::weights::write_whole_by;
use crate::{Backend, Error, Result};

/// The beginning of an event file's name. TensorBoard reads the files of a folder in the order of their names.
const NAME: &str = "events.out.tfevents.";
/// The file that a temporary file's name speaks of. TensorBoard would read one with an event file's name.
pub(super) const EVENTS: &str = "events";
/// What the first event of a file says.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.START`. Readers drop what earlier files have at the step of this event and beyond.
const START: u64 = 1;

/// An event file of a run, for TensorBoard. The steps are counted from the run's beginning.
///
/// | tag | what it is |
/// |---|---|
/// | `loss/train`, `accuracy/train` | Means over the epoch's images so far, at each reading of [`Event::Step`] and after the epoch. |
/// | `loss/test`, `accuracy/test` | The same on the test images, after each epoch; of a run with a holdout, `loss/holdout` and `accuracy/holdout` on that. |
/// | `rate` | The learning rate of the epoch's last step. |
/// | `images_per_second` | Training images a second, without the evaluation. |
///
/// Values are rounded to f32, as the format has them. An event is in the file when [`EventFile::write`] returns; it
/// survives the process, though not a power cut. A reading that an asynchronous device owed when the process ended, or
/// that a later one had overtaken, is missing. The [`Run`] that made the file has the folder's lock, and has to outlive it.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
    /// The length of the whole records.
    length: u64,
    /// Steps of an epoch.
    steps: u64,
    /// As [`TrainConfig::measured`](crate::train::TrainConfig::measured).
    measured: &'static str,
}

impl Run {
    /// Whether event files were made for this run.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be read.
    pub fn has_event_files(&self) -> Result<bool> {
        Ok(self.last_event_file()?.is_some())
    }

    /// Makes an event file for what follows the position of `trainer`, whose state was just saved or restored. `steps` is the
    /// number of steps of an epoch. The file says that events at that position and beyond are void: the former follow, the
    /// others are going to be repeated. The first event file of a run begins with the epochs that are done.
    ///
    /// # Errors
    /// [`Error::RunLocked`] if another process trains in the folder; [`Error::Io`] if the folder cannot be read, or
    /// the file not be made. [`Error::Diverged`] as by [`Trainer::reading`]. After [`Run::open`] alone, as [`Run::resume`] too.
    pub fn event_file<B: Backend, N: Module<B>>(&mut self, trainer: &Trainer<B, N>, steps: usize) -> Result<EventFile> {
        self.hold_with_history()?;
        let last = self.last_event_file()?;
        let (steps, measured) = (steps as u64, self.config.measured());
        let now = now();
        let mut bytes = record(event(now, 0).bytes(3, VERSION.as_bytes()));
        let start = Message::default().integer(1, START);
        let position = trainer.position;
        let here = global_step(position, steps);
        bytes.extend(record(event(now, here).bytes(7, &start.0)));
        let done = self.history.iter().filter(|metrics| metrics.epoch <= position.epoch);
        let missing = done.filter(|metrics| last.is_none() || end_of(metrics, steps) >= here);
        bytes.extend(missing.flat_map(|metrics| of_epoch(now, steps, measured, metrics)));
        let reading = trainer.reading()?;
        // The reading after the last step is that of the epoch, which is told after its evaluation.
        if (1..steps).contains(&position.step.into()) && reading.samples > 0 {
            bytes.extend(of_reading(now, here, reading));
        }
        // After the last one by name, whatever the clock says.
        let second = now.as_secs().max(last.map_or(0, |last| last.saturating_add(1)));
        let path = self.folder.join(format!("{NAME}{second:010}.mlpconv"));
        write_whole_by(OsStr::new(EVENTS), &path, &bytes)?;
        let mut file = OpenOptions::new().write(true).open(&path).map_err(Error::io("open", &path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io("open", &path))?;
        Ok(EventFile { path, file, length: bytes.len() as u64, steps, measured })
    }

    /// The second in the name of the last event file.
    fn last_event_file(&self) -> Result<Option<u64>> {
        let mut last = None;
        for entry in fs::read_dir(&self.folder).map_err(Error::io("read", &self.folder))? {
            let name = entry.map_err(Error::io("read", &self.folder))?.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(NAME)) else { continue };
            let Some(second) = rest.strip_suffix(".mlpconv").and_then(|second| second.parse().ok()) else { continue };
            last = last.max(Some(second));
        }
        Ok(last)
    }
}

impl EventFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the scalars of an event of [`Trainer::fit`](crate::train::Trainer::fit); some have none. Write an event before
    /// the state that follows it is saved ([`Run::save`]): then no event is missing where a run goes on.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written. It ends with the last whole event then, if the system can cut it there.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        let now = now();
        let bytes = match *event {
            // The reading after the last step is that of the epoch.
            Event::Step { steps, reading: Some((step, reading)), position, .. } if (step as usize) < steps => {
                let position = Position { step, ..position };
                of_reading(now, global_step(position, self.steps), reading)
            }
            Event::Epoch { metrics, .. } => of_epoch(now, self.steps, self.measured, &metrics),
            _ => return Ok(()),
        };
        if let Err(error) = self.file.write_all(&bytes) {
            // The first error is the one to report.
            drop(self.file.set_len(self.length));
            drop(self.file.seek(SeekFrom::Start(self.length)));
            return Err(Error::io("write", &self.path)(error));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Steps since the run's beginning.
fn global_step(position: Position, steps: u64) -> u64 {
    u64::from(position.epoch).saturating_mul(steps).saturating_add(position.step.into())
}

/// Steps since the run's beginning, at the end of an epoch.
fn end_of(metrics: &EpochMetrics, steps: u64) -> u64 {
    global_step(Position { epoch: metrics.epoch, step: 0 }, steps)
}

/// The record of a reading of the epoch so far.
fn of_reading(now: Duration, step: u64, reading: Reading) -> Vec<u8> {
    record(summary(now, step, &[("loss/train", reading.loss), ("accuracy/train", reading.accuracy)]))
}

/// The record of an epoch's metrics, at its last step.
fn of_epoch(now: Duration, steps: u64, measured: &str, metrics: &EpochMetrics) -> Vec<u8> {
    let scalars = [
        ("loss/train", metrics.loss),
        (&*format!("loss/{measured}"), metrics.test_loss),
        ("accuracy/train", metrics.train_accuracy),
        (&*format!("accuracy/{measured}"), metrics.test_accuracy),
        ("rate", metrics.rate),
        ("images_per_second", metrics.examples_per_second),
    ];
    record(summary(now, end_of(metrics, steps), &scalars))
}

/// The time since 1970 by the system's clock.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// An `Event` without what happened.
fn event(now: Duration, step: u64) -> Message {
    // The field is an int64.
    Message::default().double(1, now.as_secs_f64()).integer(2, step.min(i64::MAX as u64))
}

/// An `Event` with a `Summary` of scalars.
fn summary(now: Duration, step: u64, scalars: &[(&str, f64)]) -> Message {
    let value = |(tag, value): &(&str, f64)| Message::default().bytes(1, tag.as_bytes()).float(2, *value as f32);
    let values = scalars.iter().map(value);
    let summary = values.fold(Message::default(), |summary, value| summary.bytes(1, &value.0));
    event(now, step).bytes(5, &summary.0)
}

/// The TFRecord of an event.
fn record(event: Message) -> Vec<u8> {
    let data = event.0;
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), &data, &masked_crc(&data)].concat()
}

fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    CRC32C.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// A message in protocol buffers' encoding: each field follows its number and the type of its encoding. Zeros may be left
/// out, and are.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A zero is not left out: of a value it would leave nothing.
    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_as_tensorflow_frames_them() {
        // The check value of CRC-32/ISCSI, masked.
        assert_eq!(
            u32::from_le_bytes(masked_crc(b"123456789")),
            0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
        // Every event file begins with these bytes, up to the clock.
        let first = record(event(Duration::from_secs(1), 0).bytes(3, VERSION.as_bytes()));
        assert_eq!(first[..13], *b"\x18\0\0\0\0\0\0\0\xa3\x7fK\"\x09");
        assert_eq!(first.len(), 8 + 4 + 24 + 4);
    }

    #[test]
    fn numbers_are_encoded_as_in_the_specification_of_protocol_buffers() {
        // Its example: field 1 is 150.
        assert_eq!(Message::default().integer(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().bytes(2, b"testing").0, *b"\x12\x07testing");
        assert_eq!(Message::default().integer(2, i64::MAX as u64).0.len(), 10);
        assert_eq!(Message::default().float(2, 0.0).0, [0x15, 0, 0, 0, 0]);
    }

    #[test]
    fn steps_are_counted_from_the_beginning_and_do_not_overflow() {
        assert_eq!(global_step(Position { epoch: 2, step: 3 }, 10), 23);
        assert_eq!(global_step(Position { epoch: u32::MAX, step: 1 }, u64::MAX), u64::MAX);
        assert_eq!(event(Duration::ZERO, u64::MAX).0.len(), 9 + 10);
    }
}

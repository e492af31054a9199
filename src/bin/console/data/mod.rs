//! The data set, with a progress bar while it is fetched; and the commands `mlpconv data` and `mlpconv data show`.

pub mod mosaic;
mod sheet;
mod show;

use std::path::Path;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlpconv::Result;
use mlpconv::data::{DataFile, DataName, Dataset, Progress, Published, Splits};

use super::screen::printable;
use super::{grouped, note, output, say};
pub use show::{ShowArgs, show};

/// A requested data set. Its channels and classes are known at once. A known data set is read only by
/// [`Requested::load`], so that bad options are reported before anything is fetched.
pub struct Requested<'a> {
    name: &'a DataName,
    /// The folder of `--data-dir`.
    folder: Option<&'a Path>,
    /// The side, in pixels, to which images of several sizes are resized.
    size: usize,
    read: Option<Splits>,
    pub channels: usize,
    pub classes: usize,
    /// Height and width of its images, before they are resized for the network.
    pub extents: [usize; 2],
}

impl<'a> Requested<'a> {
    /// # Errors
    /// As [`Splits::load`], for a folder: it is read at once, as nothing else tells its channels and classes.
    pub fn new(name: &'a DataName, folder: Option<&'a Path>, size: usize) -> Result<Self> {
        if let Some(spec) = name.spec() {
            let (channels, classes, extents) = (spec.channels, spec.class_names.len(), spec.extents);
            return Ok(Requested { name, folder, size, read: None, channels, classes, extents });
        }
        let read = load(name, folder, size)?;
        let train = &read.train;
        let (channels, classes, extents) = (train.channels(), train.classes(), [train.height(), train.width()]);
        Ok(Requested { name, folder, size, read: Some(read), channels, classes, extents })
    }

    /// Bytes of its images and labels in memory; of a data set that is not read yet as far as they are published.
    pub fn bytes(&self) -> usize {
        let published = |file: &DataFile| match file.published {
            Published::Content { bytes, .. } | Published::Size { bytes } | Published::Compressed { bytes, .. } => bytes,
        };
        let held = |data: &Dataset| data.images().len() + data.labels().len();
        match (&self.read, self.name.spec()) {
            (Some(read), _) => held(&read.train) + held(&read.test),
            (None, spec) => spec.map_or(0, |spec| spec.files().map(published).sum::<u64>() as usize),
        }
    }

    /// # Errors
    /// As [`Splits::load`].
    pub fn load(self) -> Result<Splits> {
        self.read.map_or_else(|| load(self.name, self.folder, self.size), Ok)
    }
}

/// Finds, or else fetches, a data set. Warnings go to standard error.
///
/// # Errors
/// As [`Splits::load`].
pub fn load(name: &DataName, folder: Option<&Path>, size: usize) -> Result<Splits> {
    let bar = ProgressBar::hidden();
    let data = Splits::load(name, folder, size, &mut |progress| draw(&bar, progress));
    bar.finish_and_clear();
    let data = data?;
    for warning in &data.warnings {
        note(format_args!("warning: {warning}"));
    }
    Ok(data)
}

fn draw(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Trying { data, source } => {
            // A fetch has begun, so the bar is shown from now on.
            if output::draws() {
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            let style = ProgressStyle::with_template("{prefix} {msg}").expect("a constant template");
            bar.set_style(style);
            bar.set_prefix(format!("fetching {data} from {source}"));
            if bar.is_hidden() {
                note(format_args!("fetching {data} from {source}"));
            }
        }
        Progress::Bytes { file, done, total } => {
            let template = match total {
                Some(_) => "{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
                None => "{msg} {bytes}, {bytes_per_sec}",
            };
            bar.set_style(ProgressStyle::with_template(template).expect("a constant template"));
            bar.set_message(file);
            bar.set_length(total.unwrap_or(done));
            bar.set_position(done);
        }
        Progress::Done { file } => {
            if bar.is_hidden() {
                note(format_args!("got {file}"));
            }
            bar.reset();
        }
    }
}

/// The first `limit` images, or all without a limit.
pub fn limited(data: Dataset, limit: Option<usize>) -> Arc<Dataset> {
    Arc::new(match limit {
        Some(limit) => data.take(limit),
        None => data,
    })
}

/// Finds or fetches a data set, and prints where it lies and what it holds.
///
/// # Errors
/// As [`load`].
pub fn describe(name: &DataName, folder: Option<&Path>) -> Result<()> {
    // Images of several sizes are resized to one. It does not matter which, as they are only counted.
    let data = load(name, folder, 32)?;
    summarize(&data);
    Ok(())
}

/// Prints where a data set lies and what it holds.
fn summarize(data: &Splits) {
    let (train, test) = (grouped(data.train.len()), grouped(data.test.len()));
    say(format_args!("{}: {train} training and {test} test images in {}", data.title, data.source));
    let channels = match data.train.channels() {
        1 => "grey".into(),
        3 => "RGB".into(),
        channels => format!("{channels} channels"),
    };
    let (height, width) = (data.train.height(), data.train.width());
    let classes: Vec<String> = data.train.class_names().iter().map(|name| printable(name)).collect();
    say(format_args!("{height}x{width}, {channels}; {} classes: {}", classes.len(), classes.join(", ")));
}

//! The data set, with a progress bar while it is fetched.

use std::path::Path;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use mlpconv::Result;
use mlpconv::data::{Dataset, FashionMnist, Loader, LoaderConfig, Order, Progress};

/// Finds, or else fetches, the data set. Warnings go to standard error.
pub fn load(folder: Option<&Path>) -> Result<FashionMnist> {
    let bar = ProgressBar::hidden();
    let data = FashionMnist::load(folder, &mut |progress| draw(&bar, progress));
    bar.finish_and_clear();
    let data = data?;
    for warning in &data.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(data)
}

fn draw(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Trying { source } => {
            // Only a fetch comes here, so a bar is wanted from now on.
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {msg}").expect("a constant template");
            bar.set_style(style);
            bar.set_prefix(format!("fetching Fashion-MNIST from {source}"));
            if bar.is_hidden() {
                eprintln!("fetching Fashion-MNIST from {source}");
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
                eprintln!("got {file}");
            }
            bar.reset();
        }
    }
}

/// A loader of square images; `seed` shuffles.
///
/// # Errors
/// As [`Loader::new`].
pub fn loader(
    data: Dataset,
    limit: Option<usize>,
    batch_size: usize,
    size: usize,
    seed: Option<u64>,
) -> Result<Loader> {
    let data = match limit {
        Some(limit) => data.take(limit),
        None => data,
    };
    let order = seed.map_or(Order::Sequential, |seed| Order::Shuffled { seed });
    Loader::new(Arc::new(data), LoaderConfig { batch_size, height: size, width: size, order })
}

//! Training: single steps, whole runs, and run folders.

mod classified;
mod config;
mod diverged;
mod exchange;
mod feed;
mod fit;
mod gradients;
mod lag;
mod on_nan;
mod preset;
mod ranks;
mod recipes;
mod recorded;
mod resident;
mod run;
mod shards;
mod source;
mod trainer;

pub use classified::{Classified, Confusion, probabilities};
pub use config::TrainConfig;
pub use feed::Feed;
pub use fit::{EpochMetrics, Event, FitOptions, Health};
pub use on_nan::OnNan;
pub use preset::Preset;
pub use resident::Resident;
pub use run::{Best, Change, DataHashes, EventFile, Run, Score, restore};
pub use trainer::{Position, Trainer};

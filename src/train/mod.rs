//! Training: single steps, whole runs, and run folders.

mod config;
mod feed;
mod fit;
mod lag;
mod recorded;
mod resident;
mod run;
mod trainer;

pub use config::{Preset, TrainConfig};
pub use feed::Feed;
pub use fit::{EpochMetrics, Event, FitOptions, Health};
pub use resident::Resident;
pub use run::{Change, DataHashes, Run};
pub use trainer::{Position, Trainer};

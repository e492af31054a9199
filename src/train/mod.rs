//! Training: single steps, whole runs, and what a run leaves behind.

mod config;
mod fit;
mod run;
mod trainer;

pub use config::{Preset, TrainConfig};
pub use fit::{EpochMetrics, Event, Health, Plan};
pub use run::Run;
pub use trainer::{Position, Trainer};

//! The folder of a new run.

use std::path::{Path, PathBuf};
use std::{fs, io};

use mlpconv::train::{Run, TrainConfig};
use mlpconv::{Error, Result};

/// Begins a run in the folder of `--out`, or in a new one: `runs/small-20260131-235959`, by the clock in UTC, with a
/// number if there is one of that second already.
pub fn create(out: Option<PathBuf>, config: TrainConfig) -> Result<Run> {
    if let Some(folder) = out {
        return Run::create(folder, config);
    }
    let runs = Path::new("runs");
    let io = |folder: &Path| {
        let path = folder.to_owned();
        move |source| Error::Io { action: "create", path, source }
    };
    fs::create_dir_all(runs).map_err(io(runs))?;
    let name = format!("{}-{}", config.preset, jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let mut folder = runs.join(&name);
    for number in 2.. {
        match fs::create_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => folder = runs.join(format!("{name}-{number}")),
            made => {
                made.map_err(io(&folder))?;
                break;
            }
        }
    }
    Run::create(folder, config)
}

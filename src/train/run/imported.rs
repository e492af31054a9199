//! Run folders of weights that were trained elsewhere: settings and weights, and nothing to go on with.

use std::fs;
use std::path::PathBuf;

use super::{CONFIG, Run, WEIGHTS};
use crate::nn::Module;
use crate::train::TrainConfig;
use crate::weights::Tensors;
use crate::{Backend, Error, Result};

impl Run {
    /// Makes a run folder of a network whose weights come from the file [`TrainConfig::imported`]. It holds `config.toml` and
    /// `weights.safetensors`, so all that reads a run's weights can use it. It cannot be resumed.
    ///
    /// # Errors
    /// As [`Run::create`], [`Tensors::of`] and [`Tensors::save`], after which no half of a run is left; [`Error::Config`] without
    /// such a file.
    pub fn import<B: Backend>(
        folder: impl Into<PathBuf>,
        config: TrainConfig,
        backend: &B,
        net: &impl Module<B>,
    ) -> Result<Self> {
        if config.imported.is_none() {
            return Err(Error::config("imported", "name the file that the weights come from"));
        }
        let tensors = Tensors::of(backend, net)?;
        let run = Run::create(folder, config)?;
        // The folder is empty for another try; of the lock its file stays, as ever.
        tensors.save(&run.weights()).inspect_err(|_| {
            for file in [CONFIG, WEIGHTS] {
                // The first error is the one to report.
                drop(fs::remove_file(run.folder.join(file)));
            }
        })?;
        Ok(run)
    }

    /// Refuses what goes on with a run if its weights were imported: training would begin with drawn weights, and
    /// replace them.
    pub(super) fn require_own(&self) -> Result<()> {
        match &self.config.imported {
            Some(from) => Err(Error::RunImported { path: self.folder.clone(), from: from.clone() }),
            None => Ok(()),
        }
    }
}

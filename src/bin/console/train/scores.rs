//! The scores of a run at its end: of its last weights and of their average, on the test images.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use mlpconv::data::Dataset;
use mlpconv::optim::Average;
use mlpconv::train::{Classified, Run, Score, TrainConfig};
use mlpconv::{Backend, Result, weights};

use crate::console::signals;

/// Whether the last epoch's test accuracy is not all that there is to say about a run with these settings.
pub fn are_wanted(config: &TrainConfig) -> bool {
    config.average != Average::None || config.tta || config.holdout > 0
}

/// The scores of the run's weights on the test images, the one that counts last: of the average if there is one, on mirror
/// images too if the settings say so. `None` if a signal breaks it off.
///
/// # Errors
/// As loading the weights and classifying.
pub fn scores<B: Backend<Scalar = f32>>(run: &Run, backend: &B, test: &Arc<Dataset>) -> Result<Option<Vec<Score>>> {
    let config = run.config();
    let loader = config.test_loader(test.clone())?;
    let mut net = config.preset.net_for(backend, config.seed, test.channels(), test.classes())?;
    let averaged = config.average != Average::None;
    let files = [Some(run.weights()), averaged.then(|| run.average()).transpose()?];
    let on_batch = &mut |_| {
        let stops = signals::received().is_some();
        Ok(if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let mut scores = Vec::new();
    for file in files.into_iter().flatten() {
        weights::load(backend, &mut net, &file)?;
        for tta in [false, true].into_iter().filter(|tta| config.tta || !tta) {
            let classified = match tta {
                true => Classified::of_both_sides(backend, &net, &loader, on_batch)?,
                false => Classified::of(backend, &net, &loader, on_batch)?,
            };
            let Some(classified) = classified else { return Ok(None) };
            let (images, loss) = (classified.len(), classified.loss());
            let accuracy = classified.confusion().accuracy().unwrap_or_default();
            scores.push(Score { weights: name(&file), tta, images, loss, accuracy });
        }
    }
    Ok(Some(scores))
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

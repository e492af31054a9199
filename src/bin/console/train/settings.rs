//! The settings of a new run.

use mlpconv::train::TrainConfig;
use mlpconv::{Error, Result};

use super::options::TrainArgs;
use crate::console::device::Choice;

/// The settings of the run: the preset's, overridden by the options.
pub fn resolve(args: &TrainArgs, device: &Choice) -> Result<TrainConfig> {
    let preset = args.preset.unwrap_or(device.preset);
    let mut config = preset.config_with(args.optimizer.unwrap_or_default());
    fn set<T: Clone>(setting: &mut T, option: &Option<T>) {
        if let Some(value) = option {
            setting.clone_from(value);
        }
    }
    if let Some(data) = &args.data {
        config.data = data.clone().absolute()?;
    }
    if let Some(folder) = &args.data_dir {
        let absolute = std::path::absolute(folder);
        config.data_dir =
            Some(absolute.map_err(|source| Error::Io { action: "find", path: folder.clone(), source })?);
    }
    config.device.clone_from(&device.name);
    config.precision = device.precision;
    set(&mut config.epochs, &args.epochs);
    set(&mut config.batch_size, &args.batch_size);
    set(&mut config.learning_rate, &args.lr);
    set(&mut config.momentum, &args.momentum);
    set(&mut config.weight_decay, &args.weight_decay);
    set(&mut config.beta1, &args.beta1);
    set(&mut config.beta2, &args.beta2);
    set(&mut config.eps, &args.eps);
    set(&mut config.schedule, &args.schedule);
    set(&mut config.resize, &args.resize);
    set(&mut config.seed, &args.seed);
    set(&mut config.on_nan, &args.on_nan);
    config.nesterov |= args.nesterov;
    config.train_limit = args.train_limit;
    config.test_limit = args.test_limit;
    config.validate()?;
    Ok(config)
}

//! The settings of a new run: in layers, the preset's, then those of a file, then those of the options.

use std::path::Path;

use mlpconv::data::DataName;
use mlpconv::train::TrainConfig;
use mlpconv::{Error, Result};
use serde::Serialize;
use toml::Table;

use super::init::settings_of_weights;
use super::options::TrainArgs;
use super::settings_file::SettingsFile;
use crate::console::device::Choice;

/// The settings of a run that `ranks` ranks begin.
///
/// # Errors
/// [`Error::Config`] for a setting out of its range, [`Error::Io`] where there is no working folder.
pub fn resolve(args: &TrainArgs, file: Option<&SettingsFile>, device: &Choice, ranks: usize) -> Result<TrainConfig> {
    let of_weights = settings_of_weights(args, file)?;
    let own = || of_weights.get("preset")?.clone().try_into().ok();
    let preset = args.network.preset.or_else(|| file?.get("preset")).or_else(own).unwrap_or(device.preset);
    let chosen = args.optimizer.optimizer.or_else(|| file?.get("optimizer"));
    let optimizer = chosen.unwrap_or_else(|| preset.config().optimizer);
    let unusable = |problem: String| Error::Config { what: "settings".into(), problem };
    let preset = Table::try_from(preset.config_with(optimizer));
    let mut settings = preset.map_err(|error| unusable(error.to_string()))?;
    settings.extend(of_weights);
    if let Some(file) = file {
        settings.extend(file.settings.clone());
    }
    settings.extend(of_options(args)?);
    // A shard a rank. Those of another run's weights are not this run's.
    if args.course.shards.is_none() && file.is_none_or(|file| !file.settings.contains_key("shards")) {
        settings.insert("shards".into(), toml::Value::try_from(ranks).unwrap_or(toml::Value::Integer(1)));
    }
    // They are the history of another run.
    settings.remove("changes");
    settings.remove("imported");
    let mut config = TrainConfig::from_toml(&settings.to_string(), "settings")?;
    config.device.clone_from(&device.name);
    config.precision = device.precision;
    config.validate()?;
    Ok(config)
}

/// The error of a setting, with the file and the line if a file has made it.
pub fn locate(error: Error, args: &TrainArgs, file: Option<&SettingsFile>) -> Error {
    match (file, of_options(args)) {
        (Some(file), Ok(options)) => file.locate(error, &options),
        _ => error,
    }
}

/// The settings that the options make.
fn of_options(args: &TrainArgs) -> Result<Table> {
    let TrainArgs { network, course, optimizer, augmentation, .. } = args;
    let mut settings = Table::new();
    let mut set = |entry: Option<(&str, toml::Value)>| settings.extend(entry.map(|(key, value)| (key.into(), value)));
    set(entry("preset", network.preset)?);
    set(path("init", network.init.as_deref())?);
    set(entry("reset_head", network.reset_head.then_some(true))?);
    set(entry("data", network.data.clone().map(DataName::absolute).transpose()?)?);
    set(path("data_dir", network.data_dir.as_deref())?);
    set(entry("resize", network.resize)?);
    set(entry("holdout", network.holdout)?);
    set(entry("normalize", network.normalize.clone())?);
    set(entry("train_limit", network.train_limit)?);
    set(entry("test_limit", network.test_limit)?);
    set(entry("epochs", course.epochs)?);
    set(entry("batch_size", course.batch_size)?);
    set(entry("shards", course.shards)?);
    set(entry("allreduce", course.allreduce)?);
    set(entry("patience", course.patience)?);
    set(entry("label_smoothing", course.label_smoothing)?);
    set(entry("lsuv", course.lsuv)?);
    set(entry("average", course.average)?);
    set(entry("tta", course.tta)?);
    set(entry("seed", course.seed)?);
    set(entry("on_nan", course.on_nan)?);
    set(entry("optimizer", optimizer.optimizer)?);
    set(entry("learning_rate", optimizer.lr)?);
    set(entry("schedule", optimizer.schedule.map(|schedule| schedule.to_string()))?);
    set(entry("momentum", optimizer.momentum)?);
    set(entry("nesterov", optimizer.nesterov)?);
    set(entry("weight_decay", optimizer.weight_decay)?);
    set(entry("decay_weights_only", optimizer.decay_weights_only)?);
    let rates = &optimizer.rate_multipliers;
    set(entry("rate_multipliers", (!rates.is_empty()).then_some(rates))?);
    set(entry("beta1", optimizer.beta1)?);
    set(entry("beta2", optimizer.beta2)?);
    set(entry("eps", optimizer.eps)?);
    set(entry("fliplr", augmentation.fliplr)?);
    set(entry("translate", augmentation.translate)?);
    set(entry("erasing", augmentation.erasing)?);
    set(entry("erasing_rest", augmentation.erasing_rest)?);
    Ok(settings)
}

/// The setting of an option, if it is given.
fn entry(key: &str, option: Option<impl Serialize>) -> Result<Option<(&str, toml::Value)>> {
    let Some(value) = option else { return Ok(None) };
    // TOML's numbers end there.
    let too_large = |_| Error::Config { what: key.into(), problem: format!("must be at most {}", i64::MAX) };
    Ok(Some((key, toml::Value::try_from(value).map_err(too_large)?)))
}

/// The setting of an option that is a path, if it is given: the absolute path.
fn path<'a>(key: &'a str, option: Option<&Path>) -> Result<Option<(&'a str, toml::Value)>> {
    let Some(path) = option else { return Ok(None) };
    let not_found = |source| Error::Io { action: "find", path: path.into(), source };
    let absolute = std::path::absolute(path).map_err(not_found)?;
    let Some(text) = absolute.to_str() else {
        let problem = format!("{} is not UTF-8, and config.toml holds no other path; rename it", absolute.display());
        return Err(Error::Config { what: key.replace('_', "-"), problem });
    };
    Ok(Some((key, text.into())))
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_path_that_is_not_utf_8_is_refused_as_such() {
        let error = path("data_dir", Some(Path::new(OsStr::from_bytes(b"/images\xff")))).unwrap_err().to_string();
        assert_eq!(error, "data-dir: /images\u{fffd} is not UTF-8, and config.toml holds no other path; rename it");
    }
}

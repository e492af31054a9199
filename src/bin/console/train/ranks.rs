//! The ranks of a run: what they agree on before the first step. Rank 0 reads and writes the run folder; the others follow it.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use mlpconv::data::{Loader, Share};
use mlpconv::nn::Nin;
use mlpconv::ops::shards::Order;
use mlpconv::ranks::{Group, Place, Timeouts};
use mlpconv::train::{DataHashes, TrainConfig, Trainer, restore};
use mlpconv::{Backend, Result};
use sha2::{Digest as _, Sha256};

use super::images::Images;
use crate::console::device::Choice;
use crate::console::memory::Steps;
use crate::console::signals;

/// Meets the other ranks, if a launcher has started any.
///
/// # Errors
/// [`Error::Ranks`](mlpconv::Error::Ranks) for a launcher's variables that are incomplete, or ranks that do not come.
pub fn meet() -> Result<Option<Arc<Group>>> {
    match Place::from_environment()?.filter(|place| place.ranks > 1) {
        Some(place) => Group::join(&place, Timeouts::default()).map(Some),
        None => Ok(None),
    }
}

/// Settings that may differ from rank to rank: where things lie on a machine.
const OWN: [&str; 3] = ["device", "data_dir", "init"];

/// Checks that all ranks run this program with these settings, on devices of one kind, and that there is a shard for each.
///
/// # Errors
/// [`Error::Ranks`](mlpconv::Error::Ranks) that names what differs, and on which rank;
/// [`Error::Config`](mlpconv::Error::Config) for fewer shards than ranks; as
/// [`Shards::can_join`](mlpconv::ops::shards::Shards::can_join).
pub fn agree_on_settings<B: Backend>(group: &Group, config: &TrainConfig, backend: &B) -> Result<()> {
    order(config, group)?;
    backend.can_join()?;
    let settings = toml::Table::try_from(config).unwrap_or_default();
    let mut entries = vec![("program".to_owned(), program())];
    // Without its number: GPUs of another kind would divide their sums otherwise. Threads change no bits.
    let name = backend.name();
    let kind = if name.starts_with("CPU") { "CPU" } else { name.split_once(", ").map_or(&*name, |(_, kind)| kind) };
    entries.push(("device".into(), kind.into()));
    let shared = settings.into_iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
    entries.extend(shared.map(|(key, value)| (key, value.to_string())));
    group.agree("settings", &entries)
}

/// Checks that all ranks have the same data set.
///
/// # Errors
/// As [`agree_on_settings`].
pub fn agree_on_data(group: &Group, hashes: &DataHashes) -> Result<()> {
    let DataHashes { train_images, train_labels, test_images, test_labels } = hashes;
    let parts = [
        ("training images", train_images),
        ("training labels", train_labels),
        ("test images", test_images),
        ("test labels", test_labels),
    ];
    group.agree("data set", &parts.map(|(part, hash)| (part.to_owned(), hash.clone())))
}

/// The version of this program, and the SHA-256 of its file.
fn program() -> String {
    let hash = std::env::current_exe().and_then(std::fs::read).map(Sha256::digest);
    let hash = hash.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let version = env!("CARGO_PKG_VERSION");
    hash.map_or_else(|_| version.into(), |hash| format!("{version}, SHA-256 {hash}"))
}

/// Rank 0's settings of the run that goes on, for all ranks; `None` for a new run. `data_dir` is this rank's option.
///
/// # Errors
/// [`Error::Ranks`](mlpconv::Error::Ranks).
pub fn share_settings(
    group: &Group,
    own: Option<&TrainConfig>,
    data_dir: Option<PathBuf>,
) -> Result<Option<TrainConfig>> {
    let text = own.map(TrainConfig::to_toml).transpose()?.unwrap_or_default();
    let text = group.broadcast((group.rank() == 0).then_some(text.as_bytes()))?;
    if text.is_empty() {
        return Ok(None);
    }
    let mut config = TrainConfig::from_toml(&String::from_utf8_lossy(&text), "settings of rank 0")?;
    // The data lies where this machine has it: where an option says, or where rank 0's does if that is here as well.
    if group.rank() > 0 {
        config.data_dir = data_dir.or(config.data_dir.filter(|folder| folder.is_dir()));
    }
    Ok(Some(config))
}

/// The loader of the images that a rank prepares on its host: its part of each batch.
///
/// # Errors
/// [`Error::Config`](mlpconv::Error::Config) for fewer shards than ranks.
pub fn own_part(loader: Loader, config: &TrainConfig, group: Option<&Arc<Group>>) -> Result<Loader> {
    match group {
        Some(group) => Ok(loader.with_share(Share::new(order(config, group)?.own(), config.shards)?)),
        None => Ok(loader),
    }
}

/// The order in which this rank's shards are added to the others'.
///
/// # Errors
/// [`Error::Config`](mlpconv::Error::Config) for fewer shards than ranks.
fn order(config: &TrainConfig, group: &Group) -> Result<Order> {
    Order::new(config.shards, group.ranks(), group.rank())
}

/// Rank 0's state and the steps between its readings of the loss, for all ranks, which read alike; `None` where nothing is left to be
/// done.
///
/// # Errors
/// [`Error::Ranks`](mlpconv::Error::Ranks).
pub fn share_start(group: &Group, own: Option<(Vec<u8>, usize)>) -> Result<Option<(Vec<u8>, usize)>> {
    let first = group.rank() == 0;
    let bytes = own.map(|(state, every)| [&(every as u64).to_le_bytes(), &state[..]].concat()).unwrap_or_default();
    let bytes = group.broadcast(first.then_some(&bytes[..]))?;
    let Some((every, state)) = bytes.split_first_chunk() else { return Ok(None) };
    Ok(Some((state.to_vec(), u64::from_le_bytes(*every) as usize)))
}

/// Trains as one of the ranks that follow rank 0, from the state that it sends, until it ends.
///
/// # Errors
/// [`Error::Ranks`](mlpconv::Error::Ranks) if a rank is lost; as training.
pub fn follow<B: Backend<Scalar = f32>>(
    group: &Arc<Group>,
    config: &TrainConfig,
    loaders: [Loader; 2],
    net: Nin<B>,
    (device, backend): (&Choice, &B),
    steps: &Steps,
) -> Result<ExitCode> {
    let mut trainer: Trainer<B, Nin<B>> = config.trainer(backend, net)?;
    signals::listen()?;
    let Some((state, report_every)) = share_start(group, None)? else { return Ok(ExitCode::SUCCESS) };
    restore(&state, "of rank 0", &mut trainer)?;
    trainer.divide(&config.division(), Some(group))?;
    let [train, test] = Images::of_run(loaders, device, backend, steps)?;
    let options = config.fit_options(report_every);
    trainer
        .fit(train.feed(), test.feed(), &options, &mut |_, _| {
            Ok(if signals::received().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .map(|_| signals::received().map_or(ExitCode::SUCCESS, |signal| ExitCode::from(signals::code(signal) as u8)))
}

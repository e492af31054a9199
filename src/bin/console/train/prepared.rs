//! A run before its first step: the data set that it asks for, its network, its costs and its memory.

use std::sync::Arc;

use mlpconv::data::Loader;
use mlpconv::nn::{Nin, Summary};
use mlpconv::ops::shards::Order;
use mlpconv::optim::require_fit;
use mlpconv::ranks::Group;
use mlpconv::train::TrainConfig;
use mlpconv::{Backend, Result};

use crate::console::data::Requested;
use crate::console::device::Choice;
use crate::console::memory::Steps;
use crate::console::{grouped, metric, summarize};

/// What is known of a run before its data set is fetched or found.
pub struct Prepared<'a, B: Backend> {
    pub data: Requested<'a>,
    pub net: Nin<B>,
    pub summary: Summary,
    /// The memory of a step. It fits the device.
    pub steps: Steps,
}

impl<'a, B: Backend> Prepared<'a, B> {
    /// # Errors
    /// [`Error::Config`](mlpconv::Error::Config) for images too small for the network, a step too large for the device, or a
    /// setting that does not fit the images or the network; as [`Requested::new`].
    pub fn new(config: &'a TrainConfig, device: &Choice, backend: &B, group: Option<&Arc<Group>>) -> Result<Self> {
        let size = config.resize;
        let data = Requested::new(&config.data, config.data_dir.as_deref(), size)?;
        let (channels, classes) = (data.channels, data.classes);
        let net = config.preset.net_for(backend, config.seed, channels, classes)?;
        // What would be refused later, once the data set is fetched.
        config.normalize.require(channels)?;
        config.augmentation().validate(data.extents)?;
        require_fit(&net, &config.rate_multipliers)?;
        let summary = summarize(config.preset, &net, 1, channels, size)?;
        let precise = TrainConfig { precision: device.precision, ..config.clone() };
        // On a CPU the batches of two loaders and the data set lie beside the steps.
        let (batches, bytes) = if device.resident { (0, 0) } else { (2 * Loader::BATCHES, data.bytes()) };
        let (rank, ranks) = group.map_or((0, 1), |group| (group.rank(), group.ranks()));
        let order = Order::new(config.shards, ranks, rank)?;
        let steps = Steps::of(backend, &net, &precise, channels, batches, bytes, Some(&order))?;
        steps.require(backend)?;
        Ok(Prepared { data, net, summary, steps })
    }

    /// The lines that a run begins with. `why` is the reason for the preset.
    pub fn lines(&self, config: &TrainConfig, device: &Choice, backend: &B, why: &str) -> [String; 3] {
        let size = config.resize;
        let (params, macs) = (grouped(self.summary.params()), metric(self.summary.forward_macs()));
        [
            format!("device   {} ({})", backend.name(), device.why),
            format!("preset   {} at {size}x{size} ({why})", config.preset),
            format!("network  {params} parameters, {macs} multiply-adds an image"),
        ]
    }
}

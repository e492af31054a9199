//! The batch that fits: what a training step takes by its size, against the memory that there is.

use mlpconv::nn::Nin;
use mlpconv::ops::shards::Order;
use mlpconv::train::TrainConfig;
use mlpconv::{Backend, Error, Result};

use super::{bytes, summarize};

/// The memory of training steps of several sizes.
pub struct Steps {
    /// The batch that was asked for and its halves, each with the bytes that a step of it takes.
    sizes: Vec<(usize, usize)>,
    /// Bytes of the data set.
    data: usize,
    /// Bytes that the program takes besides: the stacks of its threads, and what they work in.
    spare: usize,
}

/// [`Steps`]' spare bytes where steps run on the host.
const SPARE: usize = 24 << 20;

impl Steps {
    /// The steps of a configuration on images of so many channels, where so many batches (of floats) lie beside the step, and
    /// a data set of `data` bytes. Training has an order of its shards.
    ///
    /// # Errors
    /// As [`summarize`].
    pub fn of<B: Backend>(
        backend: &B,
        net: &Nin<B>,
        config: &TrainConfig,
        channels: usize,
        batches: usize,
        data: usize,
        order: Option<&Order>,
    ) -> Result<Self> {
        let state = config.optimizer(backend).tensor_names().len();
        let mut sizes = Vec::new();
        let mut batch = config.batch_size;
        while batch > 0 {
            // One shard of a batch is in memory at a time, beside the nodes that wait to be added.
            let (shards, nodes) = order.map_or((1, 0), |order| (order.shards(), nodes(order, batches > 0)));
            let summary = summarize(config.preset, net, batch.div_ceil(shards), channels, config.resize)?;
            let step = summary.training_bytes(config.precision, state) + nodes * summary.params() * size_of::<f32>();
            sizes.push((batch, step + batches * summary.input.with_batch(batch).len() * size_of::<f32>()));
            batch /= 2;
        }
        let spare = if batches > 0 { SPARE } else { 0 };
        Ok(Steps { sizes, data, spare })
    }

    /// Bytes of a step of the batch that was asked for, and of the data set.
    pub fn needed(&self) -> usize {
        self.asked().1 + self.data
    }

    /// The same with a fourth of what a step takes, and the program's spare bytes: the device's working memory is not counted.
    pub fn with_spare(&self) -> usize {
        self.spared(self.asked().1) + self.data
    }

    fn spared(&self, step: usize) -> usize {
        step + step / 4 + self.spare
    }

    /// Checks that the device has enough memory for a step and the data set, where it can tell how much it has.
    ///
    /// # Errors
    /// [`Error::Config`] with a batch size that would fit.
    pub fn require<B: Backend>(&self, backend: &B) -> Result<()> {
        let (Some(free), needed) = (backend.free_memory()?, self.needed()) else { return Ok(()) };
        if needed <= free {
            return Ok(());
        }
        let (batch, _) = self.asked();
        let with_data = if self.data > 0 { " with the data set" } else { "" };
        let remedy = match free.checked_sub(self.data) {
            Some(left) => self.remedy(left, batch),
            None => format!("the data set alone takes {}", bytes(self.data)),
        };
        let (needed, free, device) = (bytes(needed), bytes(free), backend.name());
        Err(too_large(format!(
            "a step of {batch} images takes {needed}{with_data}, and {device} has {free} left; {remedy}"
        )))
    }

    /// For `map_err` where steps run, once the data set is loaded: the error of a step that found no memory names a smaller
    /// batch that would fit.
    pub fn explain<B: Backend>(&self, backend: &B, error: Error) -> Error {
        let Error::Memory { device, bytes: refused, .. } = &error else { return error };
        let (batch, _) = self.asked();
        // What the buffers hold now is there for those of a smaller batch.
        let free = backend.free_memory().ok().flatten().map_or(usize::MAX, |free| free + backend.memory().reserved);
        let (refused, remedy) = (bytes(*refused), self.remedy(free, batch.saturating_sub(1)));
        too_large(format!("a step of {batch} images finds no {refused} more on {device}; {remedy}"))
    }

    /// The largest size up to `most` that fits `free` bytes, with what is [spared](Steps::with_spare).
    fn remedy(&self, free: usize, most: usize) -> String {
        let fits = |&&(size, needed): &&(usize, usize)| size <= most && self.spared(needed) <= free;
        match self.sizes.iter().find(fits) {
            Some((size, _)) => format!("--batch-size {size} would fit"),
            None => "not even one image fits; make --resize smaller".into(),
        }
    }

    fn asked(&self) -> (usize, usize) {
        self.sizes.first().copied().unwrap_or_default()
    }
}

/// The nodes that a rank has room for: its own, those of all ranks, and the sum. What goes over the network of CPUs, and what comes in,
/// is there once more.
fn nodes(order: &Order, on_host: bool) -> usize {
    match (order.shards(), order.ranks()) {
        (1, 1) => 0,
        (_, 1) => order.room() + 1,
        (_, ranks) => order.room() + ranks * order.sent() + 1 + if on_host { (1 + ranks) * order.sent() } else { 0 },
    }
}

fn too_large(problem: String) -> Error {
    Error::Config { what: "batch-size".into(), problem }
}

//! A look at a network: what it makes of test images (or of a holdout), and of one image in each block.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::nn::{Nin, Op, Output, layers, outputs};
use mlpconv::train::Classified;
use mlpconv::{Backend, Error, Result, Shape};

use crate::console::signals;

/// The most test images of a look. More change no figure of a report visibly.
pub const MOST: usize = 10_000;

/// Images a batch: a look needs less memory than a training step.
const BATCH: usize = 32;

/// The most bytes of images that are copied, where not all are classified.
const COPIED: usize = 64 << 20;

/// A look at a network.
pub struct Look {
    /// The images that were looked at, in a word: `test` or `holdout`.
    pub measured: &'static str,
    /// The weights that were looked at: after which epoch, or where from.
    pub weights: String,
    /// The images that were classified, or those spread evenly over them if they are many.
    pub dataset: Arc<Dataset>,
    /// How many such images there are.
    pub of: usize,
    pub classified: Classified,
    /// The one image, by its number in the test set.
    pub image: usize,
    pub label: usize,
    /// The one image as the network takes it: `[1, C, H, W]`, in NHWC memory order, from 0 to 1.
    pub input: Output<f32>,
    /// The first convolution's weights, in their memory order KRSC.
    pub filters: Option<Output<f32>>,
    /// What the blocks make of the one image.
    pub blocks: Vec<Output<f32>>,
    /// Whether the mean of each map of the last block is the score of a class.
    pub maps_are_classes: bool,
    /// The scores of the classes for the one image.
    pub logits: Vec<f32>,
    pub cost: Duration,
}

impl Look {
    /// Looks at `net`: classifies up to `most` images of a loader, and follows image `image` through the network. `measured`
    /// and `weights` say which images and weights these are. A signal breaks it off with `None`.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such image; those of [`Classified::of`] and [`outputs`].
    pub fn of<B: Backend<Scalar = f32>>(
        backend: &B,
        net: &Nin<B>,
        test: &Loader,
        measured: &'static str,
        most: usize,
        image: usize,
        weights: String,
    ) -> Result<Option<Self>> {
        let began = Instant::now();
        let all = test.dataset();
        if image >= all.len() {
            let problem = format!("{image}, but there are {} {measured} images (numbers go from 0)", all.len());
            return Err(Error::Config { what: "image".into(), problem });
        }
        let dataset = match all.len() <= most {
            true => all.clone(),
            false => Arc::new(spread(all, most.min(COPIED / all.image(image).len()).max(1))?),
        };
        let on_batch = &mut |_| {
            let stops = signals::received().is_some();
            Ok(if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let Some(classified) = Classified::of(backend, net, &loader(test, dataset.clone(), BATCH)?, on_batch)? else {
            return Ok(None);
        };

        let shape = Shape::image(1, all.channels(), test.config().height, test.config().width);
        let one = loader(test, Arc::new(part(all, [image].into_iter())?), 1)?;
        let Some(batch) = one.epoch(0)?.next() else { return Ok(None) };
        let listed = layers(net);
        let last_of_block = |i: usize| {
            let module =
                |at: usize| listed.get(at).and_then(|layer| layer.path.split_once('.')).map(|(module, _)| module);
            module(i).is_some() && module(i) != module(i + 1)
        };
        let ends: Vec<usize> = (0..listed.len()).filter(|i| last_of_block(*i)).collect();
        let mut paths: Vec<&str> = ends.iter().map(|end| &*listed[*end].path).collect();
        let averaged = |end: &usize| matches!(listed.get(end + 1).map(|layer| &layer.op), Some(Op::GlobalAvgPool));
        let maps_are_classes = ends.last().is_some_and(averaged);
        paths.extend(listed.last().map(|layer| &*layer.path));
        let mut blocks = outputs(backend, net, &batch.images, shape, &paths)?;
        let logits = blocks.pop().map(|output| output.values).unwrap_or_default();
        let first = listed.iter().find_map(|layer| match &layer.op {
            Op::Conv2d { weight, .. } => Some(*weight),
            _ => None,
        });
        let filters = match first {
            Some(weight) => Some(Output { shape: weight.shape(), values: backend.download(weight.data())? }),
            None => None,
        };
        Ok(Some(Look {
            measured,
            weights,
            dataset,
            of: all.len(),
            classified,
            image,
            label: usize::from(all.labels()[image]),
            input: Output { shape, values: batch.images.clone() },
            filters,
            blocks,
            maps_are_classes,
            logits,
            cost: began.elapsed(),
        }))
    }

    /// The number of images classified.
    pub fn images(&self) -> usize {
        self.classified.len()
    }

    /// The number of image `i` of those classified in the test set.
    pub fn number(&self, i: usize) -> usize {
        place(i, self.images(), self.of)
    }

    pub fn class(&self, class: usize) -> &str {
        self.dataset.class_names().get(class).map_or("", |name| name)
    }
}

/// Where image `i` of `count` images spread over `of` images lies among these.
fn place(i: usize, count: usize, of: usize) -> usize {
    i * of / count
}

/// `count` images spread evenly over a data set, as those of a folder lie class by class.
fn spread(dataset: &Dataset, count: usize) -> Result<Dataset> {
    part(dataset, (0..count).map(|i| place(i, count, dataset.len())))
}

/// The images of a data set with these indices.
fn part(dataset: &Dataset, indices: impl Iterator<Item = usize>) -> Result<Dataset> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for index in indices {
        images.extend_from_slice(dataset.image(index));
        labels.push(dataset.labels()[index]);
    }
    let extents = [dataset.height(), dataset.width(), dataset.channels()];
    Dataset::with_channels(images, labels, extents, dataset.class_names().to_vec())
}

/// A loader of `dataset` in its order, whose images are as those of `test`.
fn loader(test: &Loader, dataset: Arc<Dataset>, batch_size: usize) -> Result<Loader> {
    let config = LoaderConfig { batch_size, order: Order::Sequential, ..*test.config() };
    Loader::new(dataset, config)?.with_normalization(test.normalization().clone())
}

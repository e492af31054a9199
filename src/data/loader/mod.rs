//! Batches of a data set, prepared on a thread of their own while the network computes.

mod batches;

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use rand::seq::SliceRandom;

use super::normalization::LEVELS;
use super::{Augmentation, Dataset, Normalization, Resizer, Transform};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
pub use batches::{Batch, Batches};
use batches::{Buffers, IN_USE, SpareBuffers};

/// The order in which an epoch visits the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The data set's order.
    Sequential,
    /// A permutation that depends on the seed and the epoch alone.
    Shuffled { seed: u64 },
}

/// The size of a [`Loader`]'s batches and images, and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Images a batch; the last one of an epoch may have fewer.
    pub batch_size: usize,
    /// Rows of an image in a batch.
    pub height: usize,
    /// Columns of an image in a batch.
    pub width: usize,
    /// The order of the images.
    pub order: Order,
}

/// Turns a data set into epochs of batches.
///
/// An [`Augmentation`] changes the images first, if there is one. [`Resizer`] resizes them as Pillow does. At last they are
/// scaled to `[0, 1]` as torchvision's `ToTensor` does, value / 255 in `f32`, or normalised by a [`Normalization`].
#[derive(Clone, Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    config: LoaderConfig,
    augmentation: Option<Augmentation>,
    resizer: Arc<Resizer>,
    normalization: Normalization,
    /// `[channels, LEVELS]`: the number of each grey level.
    levels: Arc<[f32]>,
    spare: Arc<SpareBuffers>,
    share: Share,
}

/// A share of every batch: some neighbouring ones of its equal parts. Part `i` of `of` of `n` images begins at image `⌊i · n / of⌋`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    parts: Range<usize>,
    of: usize,
}

impl Share {
    /// All of a batch.
    pub const WHOLE: Share = Share { parts: 0..1, of: 1 };

    /// These parts of `of`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a share of no parts, or beyond its parts.
    pub fn new(parts: Range<usize>, of: usize) -> Result<Self> {
        if parts.is_empty() || parts.end > of {
            return Err(Error::config("share", format!("parts {parts:?} of {of}; it needs one of them at least")));
        }
        Ok(Share { parts, of })
    }

    /// The images of a batch of `images`.
    pub fn images(&self, images: usize) -> Range<usize> {
        let start = |part: usize| (part as u128 * images as u128 / self.of as u128) as usize;
        start(self.parts.start)..start(self.parts.end)
    }
}

impl Loader {
    /// The most batches for which an epoch takes memory: those that wait, one with the consumer, one that is filled.
    pub const BATCHES: usize = IN_USE;

    /// A loader of `dataset`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the batch size or a side of the images is 0, or where a batch would not fit into
    /// memory's address space. [`Error::Data`] where the data set has no images, or more than can be ordered.
    pub fn new(dataset: Arc<Dataset>, config: LoaderConfig) -> Result<Self> {
        let LoaderConfig { batch_size, height, width, .. } = config;
        if batch_size == 0 {
            return Err(Error::config("batch size", "0; a batch needs an image at least"));
        }
        if height == 0 || width == 0 {
            let problem = format!("{height}x{width}; an image needs a pixel at least");
            return Err(Error::config("image size", problem));
        }
        let elements = [width, dataset.channels(), batch_size]
            .into_iter()
            .try_fold(height, |product, factor| product.checked_mul(factor));
        if elements.is_none_or(|elements| elements > isize::MAX as usize / size_of::<f32>()) {
            let problem = format!("{batch_size} images of {height}x{width} cannot be addressed");
            return Err(Error::config("batch size", problem));
        }
        if dataset.is_empty() {
            return Err(Error::data("data set", "there are no images; a loader needs one at least"));
        }
        if u32::try_from(dataset.len()).is_err() {
            let problem = format!("{} images; at most 2^32 - 1 can be ordered", dataset.len());
            return Err(Error::data("data set", problem));
        }
        let resizer = Resizer::new(dataset.height(), dataset.width(), height, width)?;
        let resizer = Arc::new(resizer.with_channels(dataset.channels())?);
        let normalization = Normalization::default();
        let levels = normalization.levels(dataset.channels())?.into();
        let spare = Arc::default();
        let share = Share::WHOLE;
        Ok(Loader { dataset, config, augmentation: None, resizer, normalization, levels, spare, share })
    }

    /// The same loader with a share of every batch alone, as a rank runs it.
    pub fn with_share(self, share: Share) -> Self {
        Loader { share, ..self }
    }

    /// The share of every batch that it prepares.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// The places in an epoch's order whose images step `step` takes; none beyond the epoch's last step.
    pub(crate) fn places(&self, step: usize) -> Range<usize> {
        let (size, len) = (self.config.batch_size, self.dataset.len());
        let place = |step: usize| step.saturating_mul(size).min(len);
        place(step)..place(step.saturating_add(1))
    }

    /// Those of [`places`](Self::places) that are of the share.
    pub(crate) fn own_places(&self, step: usize) -> Range<usize> {
        let places = self.places(step);
        let own = self.share.images(places.len());
        places.start + own.start..places.start + own.end
    }

    /// The number of images that the share has of an epoch.
    pub fn own_images(&self) -> usize {
        (0..self.steps()).map(|step| self.own_places(step).len()).sum()
    }

    /// The same loader with every image changed by `augmentation`.
    ///
    /// # Errors
    ///
    /// As [`Augmentation::validate`].
    pub fn with_augmentation(mut self, augmentation: Augmentation) -> Result<Self> {
        augmentation.validate([self.dataset.height(), self.dataset.width()])?;
        self.augmentation = Some(augmentation).filter(|augmentation| !augmentation.is_none());
        Ok(self)
    }

    /// The same loader with images normalised by `normalization`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where it is for another number of channels.
    pub fn with_normalization(mut self, normalization: Normalization) -> Result<Self> {
        self.levels = normalization.levels(self.dataset.channels())?.into();
        self.normalization = normalization;
        Ok(self)
    }

    /// The data set behind the batches.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The configuration that [`new`](Self::new) was given.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// How images are changed; `None` if they are left as they are.
    pub fn augmentation(&self) -> Option<&Augmentation> {
        self.augmentation.as_ref()
    }

    /// How images are normalised.
    pub fn normalization(&self) -> &Normalization {
        &self.normalization
    }

    /// What becomes of image `index` of the data set in an epoch; `None` if it is left as it is.
    pub fn transform(&self, epoch: u32, index: u32) -> Option<Transform> {
        let sides = [self.dataset.height(), self.dataset.width()];
        self.augmentation.map(|augmentation| augmentation.transform(epoch, index, sides))
    }

    /// Batches an epoch.
    pub fn steps(&self) -> usize {
        self.dataset.len().div_ceil(self.config.batch_size)
    }

    /// Checks the number of an epoch's first step. The number after the last one is of an epoch that is done.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where it is beyond [`steps`](Self::steps).
    pub(crate) fn require_step(&self, first_step: usize) -> Result<()> {
        let steps = self.steps();
        if first_step > steps {
            let problem = format!("{first_step}, but an epoch has {steps}");
            return Err(Error::config("first step", problem));
        }
        Ok(())
    }

    /// All batches of an epoch. Every image, or of each batch those of the [share](Self::share), is in exactly one of them.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] where there is no memory for the batches that are in use at once, and [`Error::Config`] where the
    /// system grants no thread.
    pub fn epoch(&self, epoch: u32) -> Result<Batches> {
        self.epoch_from(epoch, 0)
    }

    /// The batches of an epoch from number `first_step` on, for a run that resumes in the middle of an epoch. They
    /// equal the batches of [`epoch`](Self::epoch) after the first `first_step`.
    ///
    /// # Errors
    ///
    /// As [`epoch`](Self::epoch); [`Error::Config`] where `first_step` is beyond [`steps`](Self::steps).
    pub fn epoch_from(&self, epoch: u32, first_step: usize) -> Result<Batches> {
        self.require_step(first_step)?;
        let steps = self.steps();
        let (batch_size, image) =
            (self.config.batch_size, self.config.height * self.config.width * self.dataset.channels());
        self.spare.reserve(steps - first_step, batch_size.min(self.dataset.len()), image)?;
        let worker = Worker { loader: self.clone(), epoch, order: self.order(epoch), image };
        Batches::spawn(steps - first_step, move |batches| worker.run(first_step, batches))
    }

    /// The order in which an epoch visits the images: their indices in the data set.
    pub fn order(&self, epoch: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.dataset.len() as u32).collect();
        if let Order::Shuffled { seed } = self.config.order {
            order.shuffle(&mut Stream::new(seed, Purpose::Shuffle, epoch, 0).rng());
        }
        order
    }
}

/// The state of an epoch's thread.
struct Worker {
    loader: Loader,
    epoch: u32,
    order: Vec<u32>,
    /// Values of one image in a batch.
    image: usize,
}

impl Worker {
    /// Sends the batches from `first_step` on, until the epoch ends or the receiver is gone.
    fn run(self, first_step: usize, batches: SyncSender<Batch>) {
        let Loader { dataset, resizer, levels, .. } = &self.loader;
        let extents = [dataset.height(), dataset.width(), dataset.channels()];
        let (mut changed, mut resized) = (vec![0; extents.iter().product()], vec![0; self.image]);
        let mut scratch = Vec::new();
        for step in first_step..self.loader.steps() {
            let (places, own) = (self.loader.places(step), self.loader.own_places(step));
            let indices = &self.order[own.clone()];
            let mut batch = self.batch(step, indices);
            (batch.first, batch.of) = (own.start - places.start, places.len());
            for (out, &index) in batch.images.chunks_exact_mut(self.image).zip(indices) {
                let mut image = dataset.image(index as usize);
                if let Some(transform) = self.loader.transform(self.epoch, index) {
                    transform.apply(image, extents, &mut changed);
                    image = &changed;
                }
                resizer
                    .resize(image, &mut resized, &mut scratch)
                    .expect("the resizer was made for the data set's images and the loader's");
                for (out, resized) in out.chunks_exact_mut(extents[2]).zip(resized.chunks_exact(extents[2])) {
                    for ((out, &value), levels) in out.iter_mut().zip(resized).zip(levels.chunks_exact(LEVELS)) {
                        *out = levels[usize::from(value)];
                    }
                }
            }
            if batches.send(batch).is_err() {
                return;
            }
        }
    }

    /// A batch with labels and indices, whose images are not written yet.
    fn batch(&self, step: usize, indices: &[u32]) -> Batch {
        let Loader { dataset, spare, .. } = &self.loader;
        let Buffers { mut images, mut labels, indices: mut kept } = spare.take();
        images.resize(indices.len() * self.image, 0.0);
        labels.clear();
        labels.extend(indices.iter().map(|&index| dataset.labels()[index as usize]));
        kept.clear();
        kept.extend_from_slice(indices);
        Batch { images, labels, indices: kept, step, first: 0, of: indices.len(), spare: spare.clone() }
    }
}

#[cfg(test)]
mod tests;

//! Batches of a data set, prepared on a thread of their own while the network computes.

use std::mem;
use std::panic;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rand::seq::SliceRandom;

use super::normalization::LEVELS;
use super::{Augmentation, Dataset, Normalization, Resizer, Transform};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use crate::system::allocation::reserve;

/// Finished batches that may wait for the consumer. Two are enough for a consumer of uneven speed.
const DEPTH: usize = 2;

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
}

impl Loader {
    /// The most batches for which an epoch takes memory: `DEPTH` that wait, one with the consumer, one that is filled.
    pub const BATCHES: usize = DEPTH + 2;

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
        Ok(Loader { dataset, config, augmentation: None, resizer, normalization, levels, spare })
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

    /// All batches of an epoch. Every image is in exactly one of them.
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

/// A batch of images and labels, ready for a network.
///
/// Dropping it returns its buffers to the loader, which reuses them for a later batch.
#[derive(Debug)]
pub struct Batch {
    /// `[len, height, width, channels]`, row-major (NHWC), from 0 (black) to 1 unless they are normalised.
    pub images: Vec<f32>,
    /// `[len]`: the class of each image.
    pub labels: Vec<u8>,
    /// `[len]`: the index of each image in the data set.
    pub indices: Vec<u32>,
    /// The number of this batch in its epoch, from 0.
    pub step: usize,
    spare: Arc<SpareBuffers>,
}

impl Batch {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never true of a loader's batch: an epoch has no batch without images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.spare.give(Buffers {
            images: mem::take(&mut self.images),
            labels: mem::take(&mut self.labels),
            indices: mem::take(&mut self.indices),
        });
    }
}

/// The batches of an epoch, in order. Dropping it ends its thread.
///
/// # Panics
///
/// `next` repeats a panic of the thread that prepares the batches, which would otherwise look like the epoch's end.
#[derive(Debug)]
pub struct Batches {
    left: usize,
    receiver: Option<Receiver<Batch>>,
    worker: Option<JoinHandle<()>>,
}

impl Batches {
    /// Runs `work` on a thread. It must send `count` batches.
    fn spawn(count: usize, work: impl FnOnce(SyncSender<Batch>) + Send + 'static) -> Result<Self> {
        let (sender, receiver) = sync_channel(DEPTH);
        let worker = thread::Builder::new()
            .name("mlpconv-loader".into())
            .spawn(move || work(sender))
            .map_err(|source| Error::config("loader", format!("the system grants no thread: {source}")))?;
        Ok(Batches { left: count, receiver: Some(receiver), worker: Some(worker) })
    }

    /// Closes the channel and waits for the thread to end. Returns the thread's panic, if it had one.
    fn stop(&mut self) -> thread::Result<()> {
        self.receiver = None;
        self.worker.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.left = self.left.checked_sub(1)?;
        let batch = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
        if batch.is_none() {
            self.left = 0;
            if let Err(payload) = self.stop() {
                panic::resume_unwind(payload);
            }
        }
        batch
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        // A panic while preparing a batch that nobody asked for does not matter.
        let _ = self.stop();
    }
}

/// The storage of one batch.
#[derive(Debug, Default)]
struct Buffers {
    images: Vec<f32>,
    labels: Vec<u8>,
    indices: Vec<u32>,
}

/// Storage that no batch uses at present.
#[derive(Debug, Default)]
struct SpareBuffers(Mutex<Vec<Buffers>>);

impl SpareBuffers {
    /// Takes the memory of all batches that are in use at once: buffers for `batches` batches of `len` images of `image`
    /// values, but for at most [`Loader::BATCHES`] batches.
    ///
    /// # Errors
    /// [`Error::Memory`] where the system refuses it.
    fn reserve(&self, batches: usize, len: usize, image: usize) -> Result<()> {
        let mut free = self.lock();
        while free.len() < batches.min(Loader::BATCHES) {
            let mut buffers = Buffers::default();
            let refused = |_| Error::memory(len * (image * size_of::<f32>() + size_of::<u8>() + size_of::<u32>()));
            reserve(&mut buffers.images, len * image).map_err(refused)?;
            reserve(&mut buffers.labels, len).map_err(refused)?;
            reserve(&mut buffers.indices, len).map_err(refused)?;
            free.push(buffers);
        }
        Ok(())
    }

    /// Reserved buffers. A consumer that keeps more batches than are reserved gets further ones, without an answer where
    /// there is no memory for them.
    fn take(&self) -> Buffers {
        self.lock().pop().unwrap_or_default()
    }

    fn give(&self, buffers: Buffers) {
        let mut free = self.lock();
        if free.len() < Loader::BATCHES {
            free.push(buffers);
        }
    }

    /// A panic elsewhere cannot have left a list of free buffers half-written.
    fn lock(&self) -> MutexGuard<'_, Vec<Buffers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Loader { dataset, config, resizer, levels, .. } = &self.loader;
        let extents = [dataset.height(), dataset.width(), dataset.channels()];
        let (mut changed, mut resized) = (vec![0; extents.iter().product()], vec![0; self.image]);
        let mut scratch = Vec::new();
        for (step, indices) in self.order.chunks(config.batch_size).enumerate().skip(first_step) {
            let mut batch = self.batch(step, indices);
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
        Batch { images, labels, indices: kept, step, spare: spare.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Erasing, Flip};

    /// Images of 2x2. The first pixel is the image's index, modulo 256, and the label is the index's last digit.
    fn dataset(len: usize) -> Arc<Dataset> {
        let images = (0..len).flat_map(|index| [index as u8, 0, 255, 51]).collect();
        let labels = (0..len).map(|index| (index % 10) as u8).collect();
        Arc::new(Dataset::new(images, labels, 2, 2, 10).unwrap())
    }

    fn loader(len: usize, batch_size: usize, order: Order) -> Loader {
        let config = LoaderConfig { batch_size, height: 2, width: 2, order };
        Loader::new(dataset(len), config).unwrap()
    }

    fn indices(batches: Batches) -> Vec<u32> {
        batches.flat_map(|batch| batch.indices.clone()).collect()
    }

    const SHUFFLED: Order = Order::Shuffled { seed: 1 };

    #[test]
    fn a_sequential_epoch_is_the_data_set() {
        let loader = loader(7, 3, Order::Sequential);
        let batches: Vec<Batch> = loader.epoch(0).unwrap().collect();
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [3, 3, 1]);
        assert_eq!(batches.iter().map(|batch| batch.step).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(batches[1].labels, [3, 4, 5]);
        assert_eq!(batches[2].images, [6.0f32 / 255.0, 0.0, 1.0, 51.0f32 / 255.0]);
        assert_eq!(loader.steps(), 3);
    }

    #[test]
    fn a_shuffled_epoch_has_every_image_once() {
        let loader = loader(100, 7, SHUFFLED);
        let order = indices(loader.epoch(3).unwrap());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(order, sorted);
        for batch in loader.epoch(3).unwrap() {
            for ((image, &label), &index) in batch.images.chunks_exact(4).zip(&batch.labels).zip(&batch.indices) {
                assert_eq!(image[0], index as f32 / 255.0);
                assert_eq!(u32::from(label), index % 10);
            }
        }
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_alone() {
        let order =
            |seed, epoch, batch_size| indices(loader(100, batch_size, Order::Shuffled { seed }).epoch(epoch).unwrap());
        assert_eq!(order(1, 2, 7), order(1, 2, 100));
        assert_ne!(order(1, 2, 7), order(1, 3, 7));
        assert_ne!(order(1, 2, 7), order(2, 2, 7));
    }

    /// A checkpoint may resume in the middle of an epoch, so an update of the `rand` crate must not change the order.
    #[test]
    fn the_order_is_stable() {
        let order = indices(loader(12, 12, SHUFFLED).epoch(5).unwrap());
        assert_eq!(order, [2, 6, 9, 11, 10, 8, 0, 5, 4, 7, 3, 1]);
    }

    #[test]
    fn an_epoch_can_begin_anywhere() {
        let loader = loader(23, 5, SHUFFLED);
        let whole: Vec<_> = loader.epoch(4).unwrap().map(|b| (b.step, b.images.clone())).collect();
        for first in 0..=whole.len() {
            let batches = loader.epoch_from(4, first).unwrap();
            assert_eq!(batches.len(), whole.len() - first);
            let tail: Vec<_> = batches.map(|b| (b.step, b.images.clone())).collect();
            assert_eq!(tail, whole[first..]);
        }
        let error = loader.epoch_from(4, 6).unwrap_err();
        assert_eq!(error.to_string(), "first step: 6, but an epoch has 5");
    }

    #[test]
    fn images_come_in_any_size() {
        let config = LoaderConfig { batch_size: 2, height: 5, width: 3, order: Order::Sequential };
        let dataset = dataset(3);
        let loader = Loader::new(dataset.clone(), config).unwrap();
        let resizer = Resizer::new(2, 2, 5, 3).unwrap();
        for batch in loader.epoch(0).unwrap() {
            for (image, &index) in batch.images.chunks_exact(15).zip(&batch.indices) {
                let mut expected = [0; 15];
                let source = dataset.image(index as usize);
                resizer.resize(source, &mut expected, &mut Vec::new()).unwrap();
                assert_eq!(image, expected.map(|grey| f32::from(grey) / 255.0));
            }
        }
    }

    #[test]
    fn channels_stay_side_by_side() {
        let pixels = (0..2 * 2 * 2 * 3).map(|i| i * 10).collect();
        let dataset = Dataset::with_channels(pixels, vec![1, 0], [2, 2, 3], vec!["a".into(), "b".into()]).unwrap();
        let config = LoaderConfig { batch_size: 2, height: 2, width: 2, order: Order::Sequential };
        let loader = Loader::new(Arc::new(dataset.clone()), config).unwrap();
        let batch = loader.epoch(0).unwrap().next().unwrap();
        assert_eq!(batch.images, dataset.images().iter().map(|&v| f32::from(v) / 255.0).collect::<Vec<_>>());

        let loader = Loader::new(Arc::new(dataset.clone()), LoaderConfig { height: 3, width: 5, ..config }).unwrap();
        let resizer = Resizer::new(2, 2, 3, 5).unwrap().with_channels(3).unwrap();
        let batch = loader.epoch(0).unwrap().next().unwrap();
        assert_eq!(batch.images.len(), 2 * 3 * 5 * 3);
        for (image, &index) in batch.images.chunks_exact(45).zip(&batch.indices) {
            let mut expected = [0; 45];
            resizer.resize(dataset.image(index as usize), &mut expected, &mut Vec::new()).unwrap();
            assert_eq!(image, expected.map(|value| f32::from(value) / 255.0));
        }
    }

    /// Whatever the batch size and wherever an epoch begins, an image of an epoch is the same one: changed, resized and
    /// normalised, in this order.
    #[test]
    fn changes_depend_on_seed_epoch_and_image_alone() {
        let images: Vec<u8> = (0..20 * 6 * 6).map(|i| (i * 7 % 251) as u8).collect();
        let dataset = Arc::new(Dataset::new(images, vec![0; 20], 6, 6, 10).unwrap());
        let changes = Augmentation { translate: 2, erasing: Some(Erasing::new(0.5)), flip: Flip::Random, seed: 5 };
        let normalization: Normalization = "0.25:0.5".parse().unwrap();
        let resizer = Resizer::new(6, 6, 8, 8).unwrap();
        let wanted = |epoch: u32, index: u32| {
            let (mut changed, mut resized) = ([0; 36], [0; 64]);
            let transform = changes.transform(epoch, index, [6, 6]);
            transform.apply(dataset.image(index as usize), [6, 6, 1], &mut changed);
            resizer.resize(&changed, &mut resized, &mut Vec::new()).unwrap();
            resized.map(|grey| (f32::from(grey) / 255.0 - 0.25) / 0.5)
        };
        let mut seen = 0;
        for (batch_size, epoch, first) in [(3, 0, 0), (7, 0, 1), (20, 0, 0), (4, 3, 0), (5, 3, 2)] {
            let config = LoaderConfig { batch_size, height: 8, width: 8, order: SHUFFLED };
            let loader = Loader::new(dataset.clone(), config).unwrap().with_augmentation(changes).unwrap();
            let loader = loader.with_normalization(normalization.clone()).unwrap();
            for batch in loader.epoch_from(epoch, first).unwrap() {
                for (image, &index) in batch.images.chunks_exact(64).zip(&batch.indices) {
                    assert_eq!(image, wanted(epoch, index), "image {index} of epoch {epoch}, {batch_size} a batch");
                    assert_eq!(loader.transform(epoch, index), Some(changes.transform(epoch, index, [6, 6])));
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 20 + 13 + 20 + 20 + 10);
        let none = Augmentation::none(5);
        let same = loader(3, 1, SHUFFLED).with_augmentation(none).unwrap();
        assert!(same.augmentation().is_none() && same.transform(0, 0).is_none());
        let error = loader(3, 1, SHUFFLED).with_augmentation(Augmentation { translate: 2, ..none }).unwrap_err();
        assert!(error.to_string().starts_with("translate: 2 pixels"), "{error}");
    }

    #[test]
    fn dropping_an_epoch_early_ends_its_thread() {
        let loader = loader(200, 1, SHUFFLED);
        for taken in [0, 1, 5] {
            let mut batches = loader.epoch(0).unwrap();
            assert_eq!(batches.by_ref().take(taken).count(), taken);
            drop(batches);
            // The thread held a clone of the data set. Once it has ended, the loader's own is the only one left.
            assert_eq!(Arc::strong_count(loader.dataset()), 1);
        }
    }

    #[test]
    fn buffers_are_reused() {
        let loader = loader(200, 1, SHUFFLED);
        let mut addresses: Vec<_> =
            (0..3).flat_map(|epoch| loader.epoch(epoch).unwrap()).map(|batch| batch.images.as_ptr() as usize).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert!(addresses.len() <= Loader::BATCHES, "{} buffers for 600 batches", addresses.len());
    }

    #[test]
    fn a_panic_of_the_thread_reaches_the_consumer() {
        let mut batches = Batches::spawn(2, |_| panic::resume_unwind(Box::new("lost"))).unwrap();
        let next = panic::catch_unwind(panic::AssertUnwindSafe(|| batches.next()));
        assert_eq!(next.unwrap_err().downcast_ref(), Some(&"lost"));
        assert!(batches.next().is_none());
    }

    #[test]
    fn bad_options_are_refused() {
        let error = |batch_size, height, width| {
            let config = LoaderConfig { batch_size, height, width, order: SHUFFLED };
            Loader::new(dataset(3), config).unwrap_err().to_string()
        };
        assert!(error(0, 2, 2).starts_with("batch size: 0"));
        assert!(error(1, 0, 2).starts_with("image size: 0x2"));
        assert!(error(usize::MAX, 2, 2).contains("cannot be addressed"));
        // An epoch without a batch would look like one that is done.
        let config = LoaderConfig { batch_size: 1, height: 2, width: 2, order: SHUFFLED };
        let error = Loader::new(dataset(0), config).unwrap_err().to_string();
        assert!(error.contains("there are no images"), "{error}");
    }
}

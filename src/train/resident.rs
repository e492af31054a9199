//! Resident data sets: a data set in device memory, or a rank's share of it, whose batches the device gathers, changes, resizes and
//! normalises.

use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, TryLockError};

use crate::Backend;
use crate::data::{Loader, Order, Transform};
use crate::device::{Buffer, Role};
use crate::ops::gather::{DeviceResizer, Selection};
use crate::system::allocation::reserve;
use crate::tape::unique;
use crate::{Error, Result, Shape};

/// A data set in device memory, or what a rank trains on in an epoch. Its batches have the same bits as those of its [`Loader`],
/// without work on the host.
///
/// It has the order of one epoch at a time. Trainers that share it, on several threads or within the `on_batch` of an evaluation of these
/// images, have to be in the same epoch, unless every epoch is the same one.
pub struct Resident<B: Backend> {
    backend: B,
    resizer: DeviceResizer<B>,
    held: RwLock<Held<B>>,
    /// Whether it holds the loader's share of each batch alone.
    of_share: bool,
    loader: Loader,
    /// The largest label, and the index of an image that has it.
    largest_label: (u8, usize),
    pub(super) id: u64,
}

/// What is on the device.
struct Held<B: Backend> {
    /// All images, or those of an epoch's share, each where its batch comes.
    images: B::Bytes,
    labels: B::Bytes,
    /// The order of an epoch: where its images lie in `images`, as little-endian `u32`s. Those of other ranks lie nowhere.
    order: B::Bytes,
    /// The words of each image's transform, in the same order, if the loader changes images.
    transforms: Option<B::Bytes>,
    /// `None` before the first epoch.
    epoch: Option<u32>,
}

impl<B: Backend> Resident<B> {
    /// Uploads the data set of `loader`, whose batch size, image size, order, augmentation and normalisation it keeps.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has too little free memory; as [`DeviceResizer::new`].
    pub fn new(backend: &B, loader: Loader) -> Result<Self> {
        let dataset = loader.dataset().clone();
        let (images, labels) = (backend.upload_bytes(dataset.images())?, backend.upload_bytes(dataset.labels())?);
        Self::with(backend, loader, images, labels, false)
    }

    /// Holds the loader's [share](Loader::with_share) of each batch alone, for a data set that is too large for the device of one
    /// rank: an Nth for each of N ranks. They are uploaded anew for every epoch, whose order is another one.
    ///
    /// # Errors
    /// As [`Resident::new`].
    pub fn of_share(backend: &B, loader: Loader) -> Result<Self> {
        let (dataset, share) = (loader.dataset(), loader.own_images());
        let image = dataset.images().len() / dataset.len();
        // There is no empty buffer.
        let (images, labels) = (backend.alloc_bytes((share * image).max(1))?, backend.alloc_bytes(share.max(1))?);
        Self::with(backend, loader, images, labels, true)
    }

    fn with(backend: &B, loader: Loader, images: B::Bytes, labels: B::Bytes, of_share: bool) -> Result<Self> {
        let (dataset, config) = (loader.dataset(), loader.config());
        let (from, to) = ([dataset.height(), dataset.width()], [config.height, config.width]);
        let resizer = DeviceResizer::new(backend, from, to, dataset.channels())?;
        let resizer = resizer.with_normalization(backend, loader.normalization())?;
        let order = backend.alloc_bytes(dataset.len() * size_of::<u32>())?;
        let words = dataset.len() * Transform::WORDS;
        let transforms = loader.augmentation().map(|_| backend.alloc_bytes(words * size_of::<i32>())).transpose()?;
        let held = Held { images, labels, order, transforms, epoch: None };
        let labelled = dataset.labels().iter().copied().enumerate().map(|(at, label)| (label, at));
        let largest_label = labelled.max_by_key(|&(label, _)| label).unwrap_or_default();
        let (backend, held, id) = (backend.clone(), RwLock::new(held), unique());
        Ok(Resident { backend, resizer, held, of_share, loader, largest_label, id })
    }

    /// The loader that has the same batches.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// The bytes of the images and labels on the device.
    pub fn bytes(&self) -> usize {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.images.len() + held.labels.len()
    }

    /// The range of positions in an epoch's order that step `step` takes; empty beyond the epoch's last step.
    pub(super) fn batch(&self, step: usize) -> Range<usize> {
        self.loader.places(step)
    }

    /// The shape of a batch of `n` images.
    pub(super) fn shape(&self, n: usize) -> Shape {
        let config = self.loader.config();
        Shape::image(n, self.loader.dataset().channels(), config.height, config.width)
    }

    /// Uploads the order of an epoch, and what becomes of its images, unless the device has them already.
    pub(super) fn begin(&self, epoch: u32) -> Result<()> {
        // Images that are not changed, in a sequential order, are the same in every epoch, so they are uploaded once.
        let same = self.loader.config().order == Order::Sequential && self.loader.augmentation().is_none();
        let epoch = if same { 0 } else { epoch };
        if self.held.read().unwrap_or_else(PoisonError::into_inner).epoch == Some(epoch) {
            return Ok(());
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have begun it meanwhile.
        if held.epoch == Some(epoch) {
            return Ok(());
        }
        // Half of an upload belongs to no epoch.
        held.epoch = None;
        let indices = self.loader.order(epoch);
        if let Some(transforms) = &mut held.transforms {
            let words = indices.iter().map(|&index| self.loader.transform(epoch, index).unwrap_or_default().words());
            let words: Vec<_> = words.collect();
            let bytes: Vec<u8> = words.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect();
            self.backend.write_bytes(transforms, &bytes)?;
        }
        let order = if self.of_share { self.bring_share(&mut held, indices)? } else { indices };
        let bytes: Vec<u8> = order.iter().flat_map(|place| place.to_le_bytes()).collect();
        self.backend.write_bytes(&mut held.order, &bytes)?;
        held.epoch = Some(epoch);
        Ok(())
    }

    /// Uploads the share of an epoch's images, one behind the other as they come in the epoch's `order`. Returns where each of the
    /// order's images lies; those of other ranks seem to lie at 0.
    fn bring_share(&self, held: &mut Held<B>, order: Vec<u32>) -> Result<Vec<u32>> {
        let dataset = self.loader.dataset();
        let (mut images, mut labels, mut places) = (Vec::new(), Vec::new(), vec![0; order.len()]);
        let bytes = held.images.len();
        reserve(&mut images, bytes).map_err(|_| Error::memory(bytes))?;
        for place in (0..self.loader.steps()).flat_map(|step| self.loader.own_places(step)) {
            let index = order[place] as usize;
            places[place] = labels.len() as u32;
            images.extend_from_slice(dataset.image(index));
            labels.push(dataset.labels()[index]);
        }
        if !labels.is_empty() {
            self.backend.write_bytes(&mut held.images, &images)?;
            self.backend.write_bytes(&mut held.labels, &labels)?;
        }
        Ok(places)
    }

    /// Gathers the images (NHWC) and labels `part` of the batch at positions `batch` of the present epoch's order.
    ///
    /// # Errors
    /// [`Error::Config`] for images that are not of the share that the device holds; as the device.
    pub(super) fn gather(&self, batch: Range<usize>, part: Range<usize>) -> Result<(B::Buf, B::Bytes)> {
        let (n, own) = (part.len(), self.loader.share().images(batch.len()));
        if self.of_share && (part.start < own.start || part.end > own.end) {
            let problem = format!("images {part:?} of a batch are wanted, and the device holds {own:?}");
            return Err(Error::config("share", problem));
        }
        let mut x = self.backend.alloc(Role::Activation, self.shape(n).len())?;
        let mut labels = self.backend.alloc_bytes(n)?;
        let held = self.held()?;
        let selection = Selection {
            images: &held.images,
            labels: &held.labels,
            order: &held.order,
            transforms: held.transforms.as_ref(),
            first: batch.start,
            skipped: part.start,
        };
        self.resizer.gather(&self.backend, &selection, &mut x, &mut labels)?;
        Ok((x, labels))
    }

    /// Checks the labels of the whole data set, because kernels do not check them.
    ///
    /// # Errors
    /// [`Error::Label`] if a label is not below `classes`.
    pub(super) fn require_classes(&self, classes: usize) -> Result<()> {
        let (label, position) = self.largest_label;
        if usize::from(label) < classes {
            return Ok(());
        }
        Err(Error::Label { op: "cross_entropy", label, position, classes })
    }

    /// What is on the device. It does not wait: the thread that changes it may wait for this one.
    fn held(&self) -> Result<RwLockReadGuard<'_, Held<B>>> {
        match self.held.try_read() {
            Ok(held) => Ok(held),
            // Harmless: `epoch` is set after the upload, so a panic during the upload leaves no number.
            Err(TryLockError::Poisoned(held)) => Ok(held.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::config(
                "resident",
                "another thread has begun another epoch; give each its own, or one at a time",
            )),
        }
    }
}

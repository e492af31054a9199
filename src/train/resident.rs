//! Resident data sets: a data set in device memory, whose batches the device gathers, changes, resizes and normalises.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Backend;
use crate::data::{Loader, Order, Transform};
use crate::device::Role;
use crate::ops::gather::{DeviceResizer, Selection};
use crate::tape::unique;
use crate::{Error, Result, Shape};

/// A data set in device memory. Its batches have the same bits as those of its [`Loader`], without work on the host.
pub struct Resident<B: Backend> {
    backend: B,
    resizer: DeviceResizer<B>,
    images: B::Bytes,
    labels: B::Bytes,
    order: Mutex<EpochOrder<B>>,
    loader: Loader,
    /// The largest label, and the index of an image that has it.
    largest_label: (u8, usize),
    pub(super) id: u64,
}

/// The order of an epoch on the device: indices of images as little-endian `u32`s.
struct EpochOrder<B: Backend> {
    bytes: B::Bytes,
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
        let (dataset, config) = (loader.dataset(), loader.config());
        let (from, to) = ([dataset.height(), dataset.width()], [config.height, config.width]);
        let resizer = DeviceResizer::new(backend, from, to, dataset.channels())?;
        let resizer = resizer.with_normalization(backend, loader.normalization())?;
        let images = backend.upload_bytes(dataset.images())?;
        let labels = backend.upload_bytes(dataset.labels())?;
        let bytes = backend.alloc_bytes(dataset.len() * size_of::<u32>())?;
        let words = dataset.len() * Transform::WORDS;
        let transforms = loader.augmentation().map(|_| backend.alloc_bytes(words * size_of::<i32>())).transpose()?;
        let order = EpochOrder { bytes, transforms, epoch: None };
        let labelled = dataset.labels().iter().copied().enumerate().map(|(at, label)| (label, at));
        let largest_label = labelled.max_by_key(|&(label, _)| label).unwrap_or_default();
        let (backend, order, id) = (backend.clone(), Mutex::new(order), unique());
        Ok(Resident { backend, resizer, images, labels, order, loader, largest_label, id })
    }

    /// The loader that has the same batches.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// The range of positions in an epoch's order that step `step` takes; empty beyond the epoch's last step.
    pub(super) fn batch(&self, step: usize) -> Range<usize> {
        let (size, len) = (self.loader.config().batch_size, self.loader.dataset().len());
        let place = |step: usize| step.saturating_mul(size).min(len);
        place(step)..place(step.saturating_add(1))
    }

    /// The shape of a batch of `n` images.
    pub(super) fn shape(&self, n: usize) -> Shape {
        let config = self.loader.config();
        Shape::image(n, self.loader.dataset().channels(), config.height, config.width)
    }

    /// Uploads the order of an epoch, and what becomes of its images, unless the device has them already.
    pub(super) fn begin(&self, epoch: u32) -> Result<()> {
        let mut order = self.order();
        // Images that are not changed, in a sequential order, are the same in every epoch, so they are uploaded once.
        let same = self.loader.config().order == Order::Sequential && self.loader.augmentation().is_none();
        let epoch = if same { 0 } else { epoch };
        if order.epoch == Some(epoch) {
            return Ok(());
        }
        // Half of an upload belongs to no epoch.
        order.epoch = None;
        let indices = self.loader.order(epoch);
        let bytes: Vec<u8> = indices.iter().flat_map(|index| index.to_le_bytes()).collect();
        self.backend.write_bytes(&mut order.bytes, &bytes)?;
        if let Some(transforms) = &mut order.transforms {
            let words = indices.iter().map(|&index| self.loader.transform(epoch, index).unwrap_or_default().words());
            let words: Vec<_> = words.collect();
            let bytes: Vec<u8> = words.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect();
            self.backend.write_bytes(transforms, &bytes)?;
        }
        order.epoch = Some(epoch);
        Ok(())
    }

    /// Gathers the images (NHWC) and labels `part` of the batch whose first image is at position `first` of the present epoch's
    /// order.
    pub(super) fn gather(&self, first: usize, part: Range<usize>) -> Result<(B::Buf, B::Bytes)> {
        let n = part.len();
        let mut x = self.backend.alloc(Role::Activation, self.shape(n).len())?;
        let mut labels = self.backend.alloc_bytes(n)?;
        let order = self.order();
        let selection = Selection {
            images: &self.images,
            labels: &self.labels,
            order: &order.bytes,
            transforms: order.transforms.as_ref(),
            first,
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

    fn order(&self) -> MutexGuard<'_, EpochOrder<B>> {
        // A poisoned lock is harmless: `epoch` is set after the upload, so a panic during the upload leaves no number.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The images and labels of a step, from the host or from a data set in device memory.

use std::ops::Range;

use super::Resident;
use crate::Backend;
use crate::device::Role;
use crate::{Error, Result, Shape};

/// The batch of a step.
pub(super) enum Source<'a, B: Backend> {
    /// Images and labels on the host: those of the batch from `first` on, as many as `shape` has, of `batch` images in all.
    Host { images: &'a [B::Scalar], labels: &'a [u8], shape: Shape, first: usize, batch: usize },
    /// The images at these positions of the order of the present epoch.
    Resident { data: &'a Resident<B>, places: Range<usize> },
}

/// The labels of a part of a batch, before they are checked.
pub(super) enum Labels<'a, B: Backend> {
    /// Those of the batch from this image on.
    Host(&'a [u8], usize),
    Device(B::Bytes, &'a Resident<B>),
}

impl<'a, B: Backend> Source<'a, B> {
    /// A whole batch on the host. `shape` is `[N, C, H, W]`.
    pub(super) fn host(images: &'a [B::Scalar], labels: &'a [u8], shape: Shape) -> Self {
        Source::Host { images, labels, shape, first: 0, batch: labels.len() }
    }

    /// The number of images.
    pub(super) fn batch(&self) -> usize {
        match self {
            Source::Host { batch, .. } => *batch,
            Source::Resident { places, .. } => places.len(),
        }
    }

    /// The whole batch on the device, with its shape.
    ///
    /// # Errors
    /// As the device.
    pub(super) fn whole(&self, backend: &B) -> Result<(B::Buf, Shape, Labels<'a, B>)> {
        match self {
            Source::Host { images, labels, shape, .. } => {
                Ok((backend.upload(Role::Activation, images)?, *shape, Labels::Host(labels, 0)))
            }
            Source::Resident { places, .. } => self.part(backend, 0..places.len()),
        }
    }

    /// Images `part` of the batch on the device, with their shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if images, labels and shape do not go together, or do not have the part; as the device.
    pub(super) fn part(&self, backend: &B, part: Range<usize>) -> Result<(B::Buf, Shape, Labels<'a, B>)> {
        match self {
            &Source::Host { images, labels, shape, first, .. } => {
                let n = labels.len();
                if n == 0
                    || shape.dims().first() != Some(&n)
                    || images.len() != shape.len()
                    || part.start < first
                    || part.end > first + n
                {
                    let problem = format!(
                        "{} values and {n} labels of a {shape}, from image {first} on, for images {part:?} of a batch",
                        images.len()
                    );
                    return Err(Error::shape("shards", problem));
                }
                let (own, image) = (part.start - first..part.end - first, images.len() / n);
                let x = backend.upload(Role::Activation, &images[own.start * image..own.end * image])?;
                Ok((x, shape.with_batch(own.len()), Labels::Host(&labels[own], part.start)))
            }
            Source::Resident { data, places } => {
                let (x, labels) = data.gather(places.clone(), part.clone())?;
                Ok((x, data.shape(part.len()), Labels::Device(labels, data)))
            }
        }
    }
}

impl<B: Backend> Labels<'_, B> {
    /// The labels on the device, after a check that each is below `classes`. A kernel could report an error only if the host
    /// waited for it.
    ///
    /// # Errors
    /// [`Error::Label`] for the first label that is not.
    pub(super) fn checked(self, backend: &B, classes: usize) -> Result<B::Bytes> {
        match self {
            Labels::Host(labels, first) => {
                if let Some(at) = labels.iter().position(|&label| usize::from(label) >= classes) {
                    let (label, position) = (labels[at], first + at);
                    return Err(Error::Label { op: "cross_entropy", label, position, classes });
                }
                backend.upload_bytes(labels)
            }
            Labels::Device(labels, data) => data.require_classes(classes).map(|()| labels),
        }
    }
}

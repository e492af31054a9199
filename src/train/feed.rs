//! Feeds: the sources of a training run's batches.

use std::ops::Range;

use super::Resident;
use super::source::Source;
use crate::Backend;
use crate::data::{self, Loader};
use crate::{Result, Shape};

/// A source of batches: a loader, which prepares them on a thread of the host, or a resident data set, whose batches
/// the device gathers.
pub enum Feed<'a, B: Backend> {
    Loader(&'a Loader),
    Resident(&'a Resident<B>),
}

impl<'a, B: Backend> From<&'a Loader> for Feed<'a, B> {
    fn from(loader: &'a Loader) -> Self {
        Feed::Loader(loader)
    }
}

impl<'a, B: Backend> From<&'a Resident<B>> for Feed<'a, B> {
    fn from(resident: &'a Resident<B>) -> Self {
        Feed::Resident(resident)
    }
}

impl<B: Backend> Clone for Feed<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Feed<'_, B> {}

/// A batch of a feed.
pub(super) enum Batch<'a, B: Backend> {
    Loaded(data::Batch, Shape),
    /// The batch of step `.1` of the epoch whose order is on the device.
    Resident(&'a Resident<B>, usize),
}

impl<B: Backend> Batch<'_, B> {
    /// The number of images, those of other ranks included.
    pub(super) fn len(&self) -> usize {
        match self {
            Batch::Loaded(batch, _) => batch.of,
            Batch::Resident(data, step) => data.batch(*step).len(),
        }
    }
}

impl<B: Backend<Scalar = f32>> Batch<'_, B> {
    pub(super) fn source(&self) -> Source<'_, B> {
        match self {
            Batch::Loaded(batch, shape) => {
                let (images, labels, shape) = (&batch.images[..], &batch.labels[..], shape.with_batch(batch.len()));
                Source::Host { images, labels, shape, first: batch.first, batch: batch.of }
            }
            Batch::Resident(data, step) => Source::Resident { data, places: data.batch(*step) },
        }
    }
}

impl<'a, B: Backend> Feed<'a, B> {
    pub(super) fn loader(self) -> &'a Loader {
        match self {
            Feed::Loader(loader) => loader,
            Feed::Resident(resident) => resident.loader(),
        }
    }

    /// The batches of an epoch from step `first` on.
    ///
    /// # Errors
    /// As [`Loader::epoch_from`].
    pub(super) fn epoch_from(self, epoch: u32, first: usize) -> Result<Batches<'a, B>> {
        Ok(match self {
            Feed::Loader(loader) => {
                let config = loader.config();
                let channels = loader.dataset().channels();
                let shape = Shape::image(config.batch_size, channels, config.height, config.width);
                Batches::Loaded(loader.epoch_from(epoch, first)?, shape)
            }
            Feed::Resident(data) => {
                data.loader().require_step(first)?;
                data.begin(epoch)?;
                Batches::Resident(data, first..data.loader().steps())
            }
        })
    }
}

/// The batches of an epoch.
pub(super) enum Batches<'a, B: Backend> {
    Loaded(data::Batches, Shape),
    Resident(&'a Resident<B>, Range<usize>),
}

impl<'a, B: Backend> Iterator for Batches<'a, B> {
    type Item = Batch<'a, B>;

    fn next(&mut self) -> Option<Batch<'a, B>> {
        match self {
            Batches::Loaded(batches, shape) => {
                let batch = batches.next()?;
                let shape = shape.with_batch(batch.len());
                Some(Batch::Loaded(batch, shape))
            }
            Batches::Resident(data, steps) => Some(Batch::Resident(data, steps.next()?)),
        }
    }
}

//! The images of a run where its device wants them: on the host, in a loader, or on the device.

use mlpconv::data::{Dataset, Loader, Share};
use mlpconv::train::{Feed, Resident};
use mlpconv::{Backend, Result};

use crate::console::device::Choice;
use crate::console::memory::Steps;

/// Images for training or for testing.
pub enum Images<B: Backend> {
    Host(Box<Loader>),
    Device(Box<Resident<B>>),
}

impl<B: Backend> Images<B> {
    /// The images of a run's loaders, brought to the device if that prepares its batches. All of them lie there beside the `steps`,
    /// if they fit; otherwise a rank has its share of the training images there.
    ///
    /// # Errors
    /// As [`Resident::new`].
    pub fn of_run([train, test]: [Loader; 2], device: &Choice, backend: &B, steps: &Steps) -> Result<[Self; 2]> {
        if !device.resident {
            return Ok([train, test].map(|loader| Images::Host(Box::new(loader))));
        }
        let all = steps.needed() + [&train, &test].map(|loader| bytes(loader.dataset())).iter().sum::<usize>();
        let fits = backend.free_memory()?.is_none_or(|free| all <= free);
        let of_share = !fits && *train.share() != Share::WHOLE;
        let train = if of_share { Resident::of_share(backend, train)? } else { Resident::new(backend, train)? };
        Ok([train, Resident::new(backend, test)?].map(|resident| Images::Device(Box::new(resident))))
    }

    pub fn feed(&self) -> Feed<'_, B> {
        match self {
            Images::Host(loader) => (&**loader).into(),
            Images::Device(resident) => (&**resident).into(),
        }
    }
}

/// The bytes of a data set's images and labels.
fn bytes(dataset: &Dataset) -> usize {
    dataset.images().len() + dataset.labels().len()
}

//! The images of a run where its device wants them: on the host, in a loader, or on the device.

use mlpconv::data::Loader;
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
    /// The images of a run's loaders, brought to the device if that prepares its batches and has room for them beside the `steps`: all
    /// of them, or else what this rank trains on. Where it has not even that, the host prepares the batches.
    ///
    /// # Errors
    /// As [`Resident::new`].
    pub fn of_run([train, test]: [Loader; 2], device: &Choice, backend: &B, steps: &Steps) -> Result<[Self; 2]> {
        let mut room = match device.resident {
            // What the trainer holds already is a part of what its steps take.
            true => {
                let free = backend.free_memory()?.unwrap_or(usize::MAX);
                free.saturating_add(backend.memory().reserved).saturating_sub(steps.with_spare())
            }
            false => 0,
        };
        let mut place = |loader: Loader| -> Result<Self> {
            let dataset = loader.dataset();
            let image = (dataset.images().len() + dataset.labels().len()) / dataset.len();
            let [all, share] = [dataset.len(), loader.own_images()].map(|images| images * image);
            let mut takes = |bytes: usize| room.checked_sub(bytes).map(|left| room = left).is_some();
            Ok(if takes(all) {
                Images::Device(Box::new(Resident::new(backend, loader)?))
            } else if takes(share) {
                Images::Device(Box::new(Resident::of_share(backend, loader)?))
            } else {
                Images::Host(Box::new(loader))
            })
        };
        // Of these each rank needs all, so they come first.
        let test = place(test)?;
        Ok([place(train)?, test])
    }

    pub fn feed(&self) -> Feed<'_, B> {
        match self {
            Images::Host(loader) => (&**loader).into(),
            Images::Device(resident) => (&**resident).into(),
        }
    }
}

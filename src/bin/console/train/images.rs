//! The images of a run where its device wants them: on the host, in a loader, or on the device.

use mlpconv::data::Loader;
use mlpconv::train::{Feed, Resident};
use mlpconv::{Backend, Result};

use crate::console::device::Choice;

/// Images for training or for testing.
pub enum Images<B: Backend> {
    Host(Box<Loader>),
    Device(Box<Resident<B>>),
}

impl<B: Backend> Images<B> {
    /// The images of `loader`, brought to the device if that prepares its batches.
    ///
    /// # Errors
    /// As [`Resident::new`].
    pub fn new(loader: Loader, device: &Choice, backend: &B) -> Result<Self> {
        Ok(match device.resident {
            true => Images::Device(Box::new(Resident::new(backend, loader)?)),
            false => Images::Host(Box::new(loader)),
        })
    }

    pub fn feed(&self) -> Feed<'_, B> {
        match self {
            Images::Host(loader) => (&**loader).into(),
            Images::Device(resident) => (&**resident).into(),
        }
    }
}

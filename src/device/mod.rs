//! Devices: memory, transfers, recordings, and the gradients that kernels write.
//!
//! [`Device`] is the memory's trait. Each op of [`crate::ops`] adds one small trait with its kernels, and
//! [`Backend`](crate::Backend) is a device that has all of these traits.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod grad;
pub(crate) mod guard;
mod precision;

use std::fmt::Debug;

use crate::{Error, Result};
pub use cpu::{Buf, Cpu, NoRecording};
#[cfg(feature = "cuda")]
pub use cuda::Cuda;
pub use grad::{Grad, Write};
pub use guard::Guard;
pub use precision::Precision;

/// The numbers that a host exchanges with a device: `f32`, or `f64` for the reference backend.
pub trait Real:
    sealed::Sealed + num_traits::Float + num_traits::NumAssign + bytemuck::Pod + Default + Debug + Send + Sync + 'static
{
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
}

/// Seals [`Real`]: the GEMM library has these two types.
mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Real for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// The role of a buffer. It decides the type of the elements on a backend with a [`Precision`]: parameters and their
/// gradients are fp32, activations have the precision's storage type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Activation,
    Parameter,
}

/// A device's allocations, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Held by live buffers now.
    pub in_use: usize,
    /// The most that live buffers ever held at once.
    pub peak: usize,
    /// Taken from the system, in use or waiting to be used again.
    pub reserved: usize,
    /// Allocations from the system so far. In the steady state of a program the number is constant.
    pub allocations: usize,
}

/// Memory on a device.
///
/// Cloning a device clones a handle: clones share memory, statistics, and one order of execution. Buffers return to the
/// device's arena when they are dropped, and the contents of fresh buffers are unspecified (NaN in builds with debug
/// assertions).
///
/// A device may be asynchronous, as a GPU is. Work is done in the order of the calls, so the memory of a dropped
/// buffer may be reused by later work. Host slices are read before a call returns. `download` waits for the numbers.
/// An error of earlier work may surface in any later call, at the latest in [`Device::synchronize`].
///
/// # Errors
/// Of every method: [`Error::Memory`] if the device has too little free memory for what it allocates, and on a GPU
/// `Error::Cuda` for what the driver refuses or reports. Methods name the errors that they have besides.
pub trait Device: Clone + Send + Sync + 'static {
    /// The type of numbers on the host: uploads, downloads and hyper-parameters.
    type Scalar: Real;
    /// A buffer of numbers on the device.
    type Buf: Buffer;
    /// A buffer of bytes on the device: labels, and the positions of pooled maxima.
    type Bytes: Buffer;
    /// Recorded work.
    type Recording: Recording;
    /// A download under way.
    type Download: Download<Self::Scalar>;

    /// A readable name of the device, with its precision.
    fn name(&self) -> String;

    /// A buffer of `len` elements whose contents are unspecified.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has too little free memory.
    fn alloc(&self, role: Role, len: usize) -> Result<Self::Buf>;
    /// [`Device::alloc`] for what outlives the step in which it is made, such as an optimiser's tensors: recordings of steps use the memory of
    /// what steps make by `alloc`.
    fn alloc_lasting(&self, role: Role, len: usize) -> Result<Self::Buf>;

    /// [`Device::alloc`] for bytes.
    fn alloc_bytes(&self, len: usize) -> Result<Self::Bytes>;

    /// [`Device::alloc`] for a ReLU output that masks a gradient; a GPU also reserves one sign bit an element.
    fn alloc_rectified(&self, len: usize) -> Result<Self::Buf> {
        self.alloc(Role::Activation, len)
    }

    /// A buffer with the numbers of `host`. An activation is rounded to the precision's storage type.
    fn upload(&self, role: Role, host: &[Self::Scalar]) -> Result<Self::Buf>;
    /// [`Device::upload`] for bytes.
    fn upload_bytes(&self, host: &[u8]) -> Result<Self::Bytes>;
    /// Replaces the contents of a buffer. Its address does not change.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ.
    fn write(&self, buf: &mut Self::Buf, host: &[Self::Scalar]) -> Result<()>;
    /// [`Device::write`] for bytes.
    fn write_bytes(&self, bytes: &mut Self::Bytes, host: &[u8]) -> Result<()>;

    /// The numbers of a buffer, after the work of all earlier calls.
    fn download(&self, buf: &Self::Buf) -> Result<Vec<Self::Scalar>>;
    /// [`Device::download`] for bytes. Training reads none back: tests compare labels and the positions of maxima by it.
    fn download_bytes(&self, bytes: &Self::Bytes) -> Result<Vec<u8>>;

    /// [`Device::download`] without waiting. The numbers are those after the work of all earlier calls.
    fn download_later(&self, buf: &Self::Buf) -> Result<Self::Download>;

    /// Sets every element to `value`.
    fn fill(&self, buf: &mut Self::Buf, value: Self::Scalar) -> Result<()>;

    /// Zeroes the gradient `dy` where `y`, a ReLU's output of the same length, is not positive. [`Grad::finish`] calls
    /// it for a mask that no kernel applied.
    fn relu_mask(&self, y: &Self::Buf, dy: &mut Self::Buf) -> Result<()>;

    /// Records the device work of `work` for later replays, without doing it. A device that gains nothing by recording
    /// returns `None` and does not call `work`.
    ///
    /// The host's part of `work` runs once, during this call. It may not exchange data with the device, and every
    /// per-step scalar that it passes to kernels must have the value in `scalars`. Buffers that `work` allocates and
    /// drops belong to the recording. Buffers that it only uses must keep their addresses. Other threads that use the device wait
    /// meanwhile, so `work` may not wait for them.
    fn record(&self, scalars: &StepScalars, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Self::Recording>>;

    /// Runs `work` unrecorded, from the recordings' memory. Buffers made inside by [`alloc`](Device::alloc) must be dropped inside. Other
    /// threads that use the device wait meanwhile, so `work` may not wait for them.
    ///
    /// # Errors
    /// Those of `work`; on a GPU `CudaError::KeptBeyondStep` if it keeps such a buffer.
    fn warm_up(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()>;

    /// A handle for kernels that may run at the same time as those of later calls. They begin after the work of all earlier calls. Later
    /// calls of this device are ordered after them only from [`wait_for`](Device::wait_for) on. Neither side may write what the other
    /// uses, both have to be given [settled](Device::settle) buffers, and the fork takes no per-step scalars and no downloads. A device
    /// that does its work as it is called has nothing to do.
    ///
    /// # Errors
    /// That of the device, if it cannot order the work.
    fn fork(&self) -> Result<Self> {
        Ok(self.clone())
    }

    /// Completes a value of which a device has kept parts, as sums of gradients are. The first kernel that reads a value does so too.
    ///
    /// # Errors
    /// That of the device, if it cannot launch the sum.
    fn settle(&self, _buf: &Self::Buf) -> Result<()> {
        Ok(())
    }

    /// Orders the work of later calls after that of `fork`. Each [`fork`](Device::fork) is waited for once.
    ///
    /// # Errors
    /// That of the device, if it cannot order the work.
    fn wait_for(&self, _fork: &Self) -> Result<()> {
        Ok(())
    }

    /// Waits until the work of all earlier calls is done.
    fn synchronize(&self) -> Result<()>;

    /// The device's allocations now.
    fn memory(&self) -> Memory;

    /// Bytes that the device could still allocate, besides the free ones in its arena; `None` if it cannot tell.
    fn free_memory(&self) -> Result<Option<usize>>;
}

/// The length check of [`Device::write`].
fn require_same_len(device: usize, host: usize) -> Result<()> {
    if device == host {
        return Ok(());
    }
    Err(Error::shape("write", format!("{host} elements for a buffer of {device}")))
}

/// Per-step scalars. On a GPU they lie in device memory, so that a replayed graph reads current values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepScalars {
    /// The optimiser's learning rate.
    pub rate: f32,
    /// The optimiser's other per-step scalars, see [`Optimizer::corrections`](crate::optim::Optimizer::corrections).
    pub corrections: [f32; 2],
    /// What an update keeps of an average of the weights, see [`Optimizer::keep`](crate::optim::Optimizer::keep).
    pub keep: f32,
    /// Dropout draws from the seed, the epoch and the step.
    pub epoch: u32,
    pub step: u32,
    /// The position of the batch's first image in the order of its epoch.
    pub first: u32,
}

/// Recorded work, see [`Device::record`].
pub trait Recording: Send + 'static {
    /// Launches the recorded work once more, with these scalars.
    fn replay(&self, scalars: &StepScalars) -> Result<()>;
}

/// A download under way, see [`Device::download_later`].
pub trait Download<S>: Send + 'static {
    /// Whether the numbers have arrived.
    fn is_done(&self) -> Result<bool>;

    /// Waits for the numbers.
    fn wait(self) -> Result<Vec<S>>;
}

/// The download of a synchronous device: the numbers themselves.
impl<S: Send + 'static> Download<S> for Vec<S> {
    fn is_done(&self) -> Result<bool> {
        Ok(true)
    }

    fn wait(self) -> Result<Vec<S>> {
        Ok(self)
    }
}

/// A buffer of any device.
pub trait Buffer: Send + Sync + 'static {
    /// The number of elements.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

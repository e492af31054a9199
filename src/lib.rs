//! Network in Network, with nothing hidden: convolutions, pools, loss and optimiser, a tape that differentiates them,
//! and the training loop around it.
//!
//! A whole training step, on arrays of one's own:
//!
//! ```
//! use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, MaxPool, Sequential};
//! use mlpconv::{Cpu, Shape, optim::Sgd, train::Trainer};
//!
//! # fn main() -> mlpconv::Result<()> {
//! let backend = Cpu::<f32>::new();
//! let mut build = Builder::new(&backend, Init::He, 42);
//! let net = Sequential::new()
//!     .push(build.nin_block(1, 16, 5, 2, 2)?)
//!     .push(MaxPool { window: 3, stride: 2 })
//!     .push(build.nin_block(16, 10, 3, 1, 1)?.with_linear_output())
//!     .push(GlobalAvgPool)
//!     .push(Flatten);
//! let mut trainer = Trainer::new(&backend, net, Sgd::new(&backend).with_momentum(0.9), 42)?;
//!
//! let (images, labels) = (vec![0.5; 2 * 28 * 28], [3, 7]);
//! trainer.step(&images, Shape::image(2, 1, 28, 28), &labels, 0.02)?;
//! assert!((trainer.reading()?.loss - 10f64.ln()).abs() < 1.0);
//! # Ok(())
//! # }
//! ```
//!
//! # The modules, in reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`error`], [`shape`], [`rng`] | one error type; shapes as arithmetic; random numbers as functions of a counter |
//! | [`device`] | where tensors live: the [`Device`] and [`Backend`] traits, the CPU, and GPUs |
//! | [`tape`] | reverse-mode differentiation: what ran is what runs backward |
//! | [`ops`] | one folder an op: contract, forward, backward, kernels |
//! | [`nn`], [`optim`] | layers, NiN's block and presets, what a network costs; SGD, AdamW and rate schedules |
//! | [`data`] | IDX files, Fashion-MNIST, resizing as Pillow does, batches from a thread of their own |
//! | [`train`], [`weights`] | steps, runs and their folders; safetensors under PyTorch's names |
//!
//! Dependencies point one way: `error, shape, rng → device → tape → ops → nn, optim → train → bin`, and `data` needs
//! only `error` and `rng`; `ops::gather` asks it how images are resized. (`device`, `tape` and `ops` name each other's
//! traits: a backend is a device that has every op's kernels, and an op is a node that a tape can run.)
//!
//! # What always holds
//!
//! * **Logical NCHW, memory NHWC.** A 1×1 convolution is a GEMM as it stands. Weights lie KRSC. Shapes print as
//!   `[N, C, H, W]`, and files carry PyTorch's layout.
//! * **The same bits from any number of threads.** Work is cut by shape, partial sums are added in a fixed order.
//! * **Random numbers are functions of (seed, purpose, epoch, step, element).** There is no generator to save, so a run
//!   that was interrupted goes on exactly as if it had not been.
//! * **Once every batch size has been seen, a step takes no buffer from the system:** they come from a pool and go back
//!   to it. (The CPU's GEMM library packs its panels in memory of its own.)
//! * **What a kernel reads does not depend on when it runs.** One GPU has one stream, and what changes from step to step lies in
//!   device memory; so a step can be recorded as a graph, and a replay gives the bits of the step.
//! * **A gradient is owned once.** The first contributor overwrites, later ones add; nothing is cleared beforehand.
//! * **A ReLU costs no pass of its own:** it is in the epilogue of the op before it, in both directions (see [`ops`]).
//! * **Precision belongs to the backend,** never to the graph: networks are written once, for any [`Backend`].
//! * **Bad input is an [`Error`] that names it;** the library neither prints nor exits.
//!
//! # What is deliberately absent
//!
//! Broadcasting, strided views, graph rewriting, a type for every dtype, batch norm, atomics in
//! sums, more than one device at a time. A NiN needs none of them, and each would stand between a reader and the kernels.

pub mod data;
pub mod device;
pub mod error;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod rng;
pub mod shape;
pub mod tape;
pub mod train;
pub mod weights;

#[cfg(feature = "cuda")]
pub use device::Cuda;
pub use device::{Backend, Cpu, Device, Precision};
pub use error::{Error, Result};
pub use shape::Shape;
pub use tape::{Mode, Param, Tape, Var};

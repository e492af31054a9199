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
//! | [`error`], [`system`], `text`, [`shape`], [`rng`] | one error type; memory and threads that are asked for; settings as text; shapes as arithmetic; random numbers as functions of a counter |
//! | [`ranks`] | processes that train together: their places, their calls, and what happens when one is lost |
//! | [`data`] | data sets found, fetched and read; resizing as Pillow does; batches from a thread of their own |
//! | [`device`] | memory, transfers and recordings on the CPU and on GPUs: the [`Device`] trait |
//! | [`tape`] | reverse-mode differentiation: what ran is what runs backward |
//! | [`ops`] | one folder an op: contract, forward, backward, kernels |
//! | `backend` | [`Backend`]: a device that has every op's kernels |
//! | [`nn`] | layers, NiN's block and presets; the [plan](nn::plan) of what runs as one op; what a network costs |
//! | [`optim`] | SGD and AdamW behind one trait; rate schedules |
//! | [`weights`], [`export`], [`train`] | safetensors and `.pt` under PyTorch's names; networks for other programs, as ONNX, Python and NumPy; steps, runs and their folders |
//!
//! Dependencies point one way, and `tests/architecture.rs` holds every `use` to it:
//! `error → system → text → shape → rng → ranks → data → device → tape → ops → backend → nn → optim → weights → export → train`.
//!
//! # What always holds
//!
//! * **Logical NCHW, memory NHWC.** A 1×1 convolution is a GEMM as it stands. Weights lie KRSC. Shapes print as
//!   `[N, C, H, W]`, and files carry PyTorch's layout.
//! * **The same bits from any number of threads.** Work is cut by shape, partial sums are added in a fixed order.
//! * **The same bits from any number of ranks.** A step's batch is cut into shards, and their gradients are added in one tree
//!   ([`ops::shards`]).
//! * **Random numbers are functions of (seed, purpose, epoch, step, element).** There is no generator to save, so a run
//!   that was interrupted goes on exactly as if it had not been.
//! * **Once every batch size has been seen, a step takes no buffer from the system:** they come from an arena and go back
//!   to it. (The CPU's GEMM library packs its panels in memory of its own.)
//! * **What a kernel reads does not depend on when it runs.** Events order what runs beside other work on a GPU, and what changes from
//!   step to step lies in device memory; so a step can be recorded as a graph, and a replay gives the bits of the step.
//! * **A gradient is owned once.** The first contributor overwrites, later ones add; nothing is cleared beforehand.
//! * **A ReLU after a convolution costs no pass of its own:** it is in the convolution's epilogue, in both directions (see
//!   [`ops`]).
//! * **Fusing is decided in one place,** [`nn::plan`], and changes speed, and no result beyond the order of a sum and the
//!   rounding of values that a fused op keeps to itself.
//! * **Precision belongs to the backend,** never to the graph: networks are written once, for any [`Backend`].
//! * **Nothing that is not finite reaches a weight.** A NaN or an infinity ends a run, or its step is skipped
//!   ([`OnNan`](train::OnNan)); a [checked tape](Tape::checked) names the op.
//! * **Bad input is an [`Error`] that names it;** the library neither prints nor exits.
//! * **Too little memory is an [`Error`] as well,** and leaves network, optimiser and position as they were, so that the step can be
//!   repeated. ([`system`] states what is exempt.)
//!
//! # What is deliberately absent
//!
//! Broadcasting, strided views, graph rewriting beyond the one plan, a type for every dtype, batch norm, atomics in sums, more
//! than one device in a process, networks that are divided over devices. A NiN needs none of them, and each would stand between a reader and the kernels.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod backend;
pub mod data;
pub mod device;
pub mod error;
pub mod export;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod ranks;
pub mod rng;
pub mod shape;
pub mod system;
pub mod tape;
mod text;
pub mod train;
pub mod weights;

pub use backend::Backend;
#[cfg(feature = "cuda")]
pub use device::Cuda;
pub use device::{Cpu, Device, Precision};
pub use error::{Error, Result};
pub use shape::Shape;
pub use tape::{Mode, Param, Tape, Var};

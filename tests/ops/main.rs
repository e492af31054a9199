//! The tests of the ops, in one binary. They are written from the ops' contracts, not from any backend's kernels.
//!
//! A statement about every backend is tested on each of them: the CPU in f64 and f32, and CUDA at every precision, on
//! the virtual GPU or, with `MLPCONV_TESTS=real`, on the machine's own.

#[macro_use]
mod backends;

/// Backward kernels overwrite or accumulate.
mod accumulate;
/// A model of a backend's rounding, for tolerances.
mod arithmetic;
/// Uploads, downloads and fresh buffers.
mod buffers;
/// An op with its extents, run on a tape.
mod case;
/// Pixels that no pool reads.
mod dead_pixels;
/// The same bits on every run and with any number of threads.
mod determinism;
/// Fixed pseudo-random numbers.
mod draw;
/// Dropout's masks.
mod dropout;
/// A 1×1 convolution equals a 3×3 convolution with zeros around the middle.
mod equivalence;
/// A table of every kernel's error.
mod error_table;
/// Wrong shapes that are refused.
mod errors;
/// Convolutions of few pixels and long sums (split-K).
mod few;
/// Batches of a resident data set.
mod gather;
/// GPUs, virtual or real.
#[cfg(feature = "cuda")]
#[path = "../gpu/mod.rs"]
mod gpu;
/// Gradients against finite differences.
mod gradients;
/// A reference that computes with intervals.
mod interval;
/// Logical and memory order.
mod layout;
/// The loss and its meter.
mod loss;
/// No allocation in the steady state.
mod memory;
/// The block of three convolutions as one op.
mod mlpconv;
/// The ops' formulas as loops.
mod naive;
/// The propagation of NaN.
mod nan;
/// The virtual GPU detects an access beyond a buffer's end.
#[cfg(feature = "cuda")]
mod overrun;
/// Two 1×1 convolutions as one op.
mod pair;
/// Gradients in parts that are not added up yet.
mod parts;
/// A 1×1 convolution and a max pool as one op.
mod pooled;
/// The wording of the promises.
#[cfg(feature = "cuda")]
#[path = "../promises/promise.rs"]
mod promise;
/// Every op on random shapes, under the checks of the virtual GPU.
#[cfg(feature = "cuda")]
mod random;
/// The ReLU contract.
mod rectified;
/// Values and gradients against the naive loops.
mod reference;
/// What may be skipped.
#[cfg(feature = "cuda")]
#[path = "../required/mod.rs"]
mod required;
/// Buffers of unusual roles: activations as parameters, and parameters as activations.
mod roles;
/// Numbers that storing has to round.
mod rounded;
/// Signs of ReLU outputs, which mask gradients.
mod signs;
/// The table of cases.
mod table;
/// Tiles of more rows, for products of many rows and long sums.
#[cfg(feature = "cuda")]
mod tall;
/// Gradients at kinks: ties of a maximum, and zero of a ReLU.
mod ties;
/// The optimisers' rules.
mod update;
/// Products of warpgroups, of GPUs that have them.
#[cfg(feature = "cuda")]
mod warpgroups;

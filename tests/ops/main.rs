//! The tests of the ops, in one binary. They are written from the ops' contracts, not from any backend's kernels.
//!
//! What they say of backends in general is tested on each: the CPU in f64 and f32, and CUDA at every precision, on the
//! virtual GPU or, with `MLPCONV_TESTS=real`, on the machine's own.

#[macro_use]
mod backends;

/// Kernels overwrite or add, as they are told.
mod accumulate;
/// What a backend's arithmetic does to a number.
mod arithmetic;
/// What is put into a buffer is what comes out.
mod buffers;
/// An op with its extents, run on a tape.
mod case;
/// The same bits, always.
mod determinism;
/// Fixed numbers.
mod draw;
/// Dropout's masks.
mod dropout;
/// A 1×1 convolution is a convolution.
mod equivalence;
/// A table of how far off every kernel is.
mod error_table;
/// What is refused.
mod errors;
/// Few pixels, and long sums.
mod few;
/// Batches out of a data set.
mod gather;
/// GPUs, virtual or real.
#[cfg(feature = "cuda")]
#[path = "../gpu/mod.rs"]
mod gpu;
/// Gradients against finite differences.
mod gradients;
/// A reference that knows what may be off, and by how much.
mod interval;
/// Logical and memory order.
mod layout;
/// The loss and its meter.
mod loss;
/// A steady state of memory.
mod memory;
/// A block of convolutions, fused or not.
mod mlpconv;
/// The ops' formulas as loops.
mod naive;
/// What becomes of NaN.
mod nan;
/// An access beyond a buffer's end does not pass.
#[cfg(feature = "cuda")]
mod overrun;
/// Two 1×1 convolutions as one op.
mod pair;
/// Gradients that wait to be added up.
mod parts;
/// A 1×1 convolution and a max pool as one op.
mod pooled;
/// The ReLU contract.
mod rectified;
/// Values and gradients against the naive loops.
mod reference;
/// Activations for parameters, and parameters for activations.
mod roles;
/// Numbers that have to be rounded to be multiplied.
mod rounded;
/// What masks a gradient.
mod signs;
/// The cases.
mod table;
/// Kinks.
mod ties;
/// The optimiser's rule.
mod update;

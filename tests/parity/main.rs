//! The crate against PyTorch (tests/fixtures/parity): logits, gradients and losses of a narrow d2l NiN, a step of
//! `cifar` at its own size, and the weights files that the two exchange.

#[cfg(feature = "cuda")]
#[path = "../gpu/mod.rs"]
mod gpu;
#[cfg(feature = "cuda")]
#[path = "../required/mod.rs"]
mod required;

use mlpconv::Backend;
use mlpconv::device::Real;
use mlpconv::nn::Nin;
use safetensors::{Dtype, SafeTensors};

mod fixture;

mod numbers;

mod cifar;

mod weights_files;

mod weights_of_others;

mod weights_damage;

/// Files of torch.save.
mod pytorch_files;

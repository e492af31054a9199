//! Training that several ranks share: the same bits for any number of them, and what is left when one is lost. Ranks are threads
//! here, each with a backend of its own, joined over the loopback; `tests/programs/ranks.rs` has processes.

#[cfg(feature = "cuda")]
#[path = "../gpu/mod.rs"]
mod gpu;

#[cfg(feature = "cuda")]
mod gpus;
mod kernels;
mod lost;
#[cfg(feature = "cuda")]
mod on_a_gpu;
mod same_bits;
mod team;

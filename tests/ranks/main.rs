//! Training that several ranks share: the same bits for any number of them, and what is left when one is lost. Ranks are threads,
//! each with a backend of its own, or processes, joined over the loopback; `tests/programs/ranks.rs` has the program.

/// A backend with faults on demand.
#[path = "../promises/not_a_number/faulty.rs"]
mod faulty;

#[cfg(feature = "cuda")]
#[path = "../gpu/mod.rs"]
mod gpu;
#[cfg(feature = "cuda")]
#[path = "../required/mod.rs"]
mod required;

#[cfg(feature = "cuda")]
mod gpus;
mod kernels;
mod lost;
#[cfg(feature = "cuda")]
mod on_a_gpu;
mod phases;
mod processes;
mod same_bits;
mod team;

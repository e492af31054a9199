//! The C interface of CUDA's driver, over one [`Machine`](crate::machine::Machine).
//!
//! # How a program gets it
//!
//! The library's SONAME is `libcuda.so`. glibc answers `dlopen("libcuda.so")` with an object that is already loaded
//! under that SONAME, so a program that looks the driver up by this name (cudarc does, first of all names) gets this
//! one if it was loaded before, by `LD_PRELOAD=…/libvirtual_gpu.so` or by `dlopen` of its path. A SONAME is one
//! string, and `libcuda.so.1` is another: for programs that ask for that name, or are linked with it, make two links,
//! `libcuda.so` and `libcuda.so.1`, to the library in one directory and name this directory in `LD_LIBRARY_PATH`. Both
//! ways may be used together: glibc knows by device and inode that it is the same file, and loads it once.
//!
//! # Environment
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `VIRTUAL_GPU_SM` | compute capability: `8.0`, `80`, `sm_90a` | `8.0` |
//! | `VIRTUAL_GPU_CHECKS` | `off`: execute without looking for bugs | `on` |
//! | `VIRTUAL_GPU_MEMORY` | device memory: bytes, or with `K`, `M`, `G` | `8G` |
//! | `VIRTUAL_GPU_COUNTS` | file that gets one line of JSON for each launch | none |
//! | `VIRTUAL_GPU_DRIVER_VERSION` | CUDA version that the driver claims: `12.4`, `12040` | `13.0` |
//!
//! A value that cannot be read fails `cuInit`, with the reason on stderr: a silent default would test something else.
//!
//! # Order and errors
//!
//! Work is executed by the calling thread when it is enqueued, one piece at a time: every order that streams and
//! events ask for is then kept, and `NOT_READY` is never seen. Errors come late all the same, as they do from a card: a
//! launch that traps returns success, prints its diagnosis on stderr and leaves the context failed; work enqueued after
//! it is dropped; the next call that waits for the device reports the trap's code, and from then on every call in
//! this context does, until the context is destroyed (or the primary one reset).
//!
//! Every handle is a number looked up in a table, never an address, and no number is given out twice: a foreign,
//! stale or doubly destroyed handle is `CUDA_ERROR_INVALID_HANDLE`. Whatever else a program looks up by name is
//! exported by [`stubs`]: it returns `CUDA_ERROR_NOT_SUPPORTED` and says so on stderr, once for each function.
//!
//! # Files
//!
//! `abi` holds all unsafe code and states the contract with the C caller; `boundary` is the one way in: it finds driver
//! and context, catches panics, prints explanations. `state` is what the driver remembers; `work` is what can be
//! enqueued, and `capture` decides whether it is executed or recorded. The other files are groups of functions, as
//! NVIDIA's reference has them.

// The functions and types of the interface keep the names that C gives them.
#![allow(non_snake_case)]

mod abi;
mod boundary;
mod capture;
mod context;
mod device;
mod error;
mod event;
mod function;
mod graph;
mod host;
mod launch;
mod library;
mod memory;
mod module;
mod occupancy;
mod pool;
mod proc_address;
mod settings;
mod state;
mod stream;
pub mod stubs;
mod transfer;
mod work;

//! The C interface of the CUDA driver, on top of a [`Machine`](crate::machine::Machine).
//!
//! # Loading
//!
//! The library's SONAME is `libcuda.so`. glibc resolves `dlopen("libcuda.so")` to an already loaded object with that
//! SONAME. A program that looks up the driver by this name (cudarc tries it first) thus gets this library if it was
//! loaded before, by `LD_PRELOAD=…/libvirtual_gpu.so` or by `dlopen` of its path. A library has only one SONAME, so
//! `libcuda.so.1` is not covered. For programs that ask for that name or are linked with it, make two links,
//! `libcuda.so` and `libcuda.so.1`, to the library in one directory, and name this directory in `LD_LIBRARY_PATH`. Both
//! ways may be combined: glibc recognises the file by device and inode, and loads it once.
//!
//! # Environment
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `VIRTUAL_GPU_SM` | compute capability: `8.0`, `80`, `sm_90a` | `8.0` |
//! | `VIRTUAL_GPU_CHECKS` | `off`: execute without checks | `on` |
//! | `VIRTUAL_GPU_SUMS` | `ordered`: matrix products are summed in the order of k, not as tensor cores sum them | `card` |
//! | `VIRTUAL_GPU_MEMORY` | memory of each device: bytes, or with `K`, `M`, `G` | `8G` |
//! | `VIRTUAL_GPU_DEVICES` | number of devices, at most 8 | `1` |
//! | `VIRTUAL_GPU_MULTIPROCESSORS` | multiprocessors that each reports | a GPU's of its compute capability |
//! | `VIRTUAL_GPU_COUNTS` | file to which each launch appends one line of JSON, with its kernel and stream | none |
//! | `VIRTUAL_GPU_DRIVER_VERSION` | CUDA version that the driver reports: `12.4`, `12040` | `13.0` |
//!
//! Besides, `virtual_gpu_refuse_memory` makes allocations of the calling thread fail, see `refusal`.
//!
//! An invalid value fails `cuInit`, with the reason on stderr: a silent default would test something else.
//!
//! # Order and errors
//!
//! The calling thread executes work when it is enqueued, one operation at a time. This satisfies every order that
//! streams and events can ask for. A host function is the exception: it runs on a thread of its stream, and what is
//! ordered behind it waits there too (see `queue`), for which queries return `NOT_READY`. Errors are reported late, as
//! on a card. A launch that traps returns success, prints its diagnosis on stderr and marks the context as failed. Work
//! enqueued after it is dropped. The next call that waits for the device reports the trap's code. From then on every
//! call in this context does, until the context is destroyed (or the primary one reset).
//!
//! A handle is a number looked up in a table, never an address, and no number is issued twice. A foreign, stale or
//! doubly destroyed handle is therefore `CUDA_ERROR_INVALID_HANDLE`. The driver's other functions are exported by
//! [`stubs`]: each returns `CUDA_ERROR_NOT_SUPPORTED` and says so on stderr once.
//!
//! # Files
//!
//! `abi` holds all unsafe code and states the contract with the C caller. `boundary` is the entry of every exported
//! function: it finds driver and context, catches panics and prints explanations. `state` holds the driver's tables.
//! `work` holds the operations that can be enqueued; `capture` decides whether one is executed or recorded, `queue`
//! holds what is executed later. `order` follows which operation happened before which, and `rewrite` the host's buffers
//! of copies that were not waited for. The other files are groups of functions, as in NVIDIA's reference.

// Functions and types of the interface keep their names in C.
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
mod managed;
mod memory;
mod module;
mod occupancy;
mod order;
mod peer;
mod pointer;
mod pool;
mod primary;
mod proc_address;
mod queue;
mod refusal;
mod rewrite;
mod settings;
mod state;
mod stream;
pub mod stubs;
mod tensor;
mod transfer;
mod work;

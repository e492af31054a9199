//! A stand-in for NCCL, for tests: each rank is a process with a virtual GPU of its own, and they exchange over TCP.
//!
//! It exports the functions of `nccl.h` 2.28 that all-gather and all-reduce need. What is like NCCL and what is not is in README.md.
//!
//! # A collective
//!
//! `ncclAllReduce` enqueues on the stream: copies of the input, and of what the output holds, to page-locked memory; a host function;
//! a copy of the output to the device. The host function sends the input to a hub, waits for the result and writes it over the
//! output. All of these can be captured, so a graph that is replayed communicates anew with each replay.
//!
//! # The hub
//!
//! The process that calls `ncclGetUniqueId` listens at a port of 127.0.0.1. Its address and a random token are the unique id. All
//! ranks connect to it, those of the same process too. It compares what the ranks ask for, adds or gathers, and answers.
//!
//! # Files
//!
//! | file | idea |
//! | --- | --- |
//! | `abi` | the C functions: arguments are checked, panics caught |
//! | `error` | result codes, and the text of the last error |
//! | `call` | what a collective is: kind, count, type |
//! | `group` | `ncclGroupStart` and `ncclGroupEnd` |
//! | `comm` | a communicator: its state, and what waits for it |
//! | `staging` | what a collective enqueues on its stream |
//! | `cuda` | the functions of the driver that the process has loaded |
//! | `rank` | a rank's connection to the hub |
//! | `hub` | the hub |
//! | `wire` | the messages between them |
//! | `reduce` | the orders in which values are added |
//! | `settings` | the environment: orders, delays and planted errors |

// Functions and types of the interface keep their names in C.
#![allow(non_snake_case)]

mod abi;
mod call;
mod comm;
mod cuda;
mod error;
mod group;
mod hub;
mod random;
mod rank;
mod reduce;
mod settings;
mod staging;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of another thread: the states behind the locks are changed in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

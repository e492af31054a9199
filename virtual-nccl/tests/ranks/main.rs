//! Ranks that are processes, each with a virtual GPU: a test starts itself again for every rank.

// `world::run` finds a test's name in the type of its closure.
#![allow(clippy::redundant_closure)]

mod arguments;
mod collectives;
mod end;
mod faults;
mod graphs;
mod init;
mod nccl;
mod orders;
mod races;
mod world;

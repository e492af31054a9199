//! Ranks that are processes, each with a virtual GPU: a test starts itself again for every rank.

mod arguments;
mod collectives;
mod end;
mod faults;
mod graphs;
mod init;
mod nccl;
mod orders;
mod world;

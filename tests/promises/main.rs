//! What the README promises, each with a figure: a module for every row of its table (that of promise 14 is `random` in `tests/ops`).
//! `cargo test --test promises` is the short form, `make torture` the long one.

#[path = "../events/mod.rs"]
mod events;
#[cfg(feature = "cuda")]
#[path = "../gpu/mod.rs"]
mod gpu;
#[path = "../place/mod.rs"]
mod place;
mod promise;
#[path = "../required/mod.rs"]
mod required;

mod bits;
#[cfg(target_os = "linux")]
mod calls;
mod chance;
mod damage;
mod downloads;
mod drivers;
mod embedding;
mod faults;
mod hostile;
mod kills;
mod leaks;
mod learning;
mod lock;
mod memory;
mod not_a_number;
mod own_net;
mod signals;
mod tiny;
mod versions;

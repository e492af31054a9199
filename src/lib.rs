pub mod data;
pub mod device;
pub mod error;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod rng;
pub mod shape;
pub mod tape;
pub mod train;
pub mod weights;

pub use device::{Backend, Cpu, Device};
pub use error::{Error, Result};
pub use shape::Shape;
pub use tape::{Mode, Param, Tape, Var};

//! Ranks: processes that work together, on one host or on several. A [`Place`] says which of them this process is, as a
//! launcher's variables tell it. A [`Group`] is the processes that have met, and its calls: small data by way of rank 0, large
//! data over a ring, and an error on every rank when one is lost.
//!
//! Nothing here knows of networks, and nothing is linked: MPI's launchers start the processes, MPI itself is not used.
//!
//! ```
//! use mlpconv::ranks::{Group, Place, Timeouts};
//!
//! # fn main() -> mlpconv::Result<()> {
//! let place = Place::on_this_host(0, 1, 0);
//! let group = Group::join(&place, Timeouts::default())?;
//! assert_eq!(group.exchange(b"mine")?, [b"mine"]);
//! group.leave(None);
//! # Ok(())
//! # }
//! ```

mod agreement;
mod environment;
mod gatherer;
mod group;
mod meeting;
mod reception;
mod ring;
mod slurm;
mod state;
mod timeouts;
mod watch;
mod wire;

pub use environment::{Launcher, Place};
pub(crate) use gatherer::{Gatherer, Gathering};
pub use group::Group;
pub use timeouts::Timeouts;

pub use crate::error::RanksError;

#[cfg(test)]
mod tests;

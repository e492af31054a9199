//! Data sets: found or fetched, read, resized and handed out in batches.
//!
//! A data set is described as plain data ([`DataSpec`]) or is a folder of images. From the bottom up, no file importing one
//! that imports it:
//!
//! * [`Dataset`] is images in memory (NHWC, a byte a channel), their labels, and what the classes are called;
//! * [`Idx`](idx::Idx) reads the MNIST family's format, and `cifar` that of CIFAR-10's binary version, `folder` folders of
//!   PNG and JPEG files;
//! * [`known`] describes the data sets that have names;
//! * [`Splits`] finds a data set on this machine, or [fetches](fetch) it, checks it, and reads it;
//! * [`Resizer`] brings an image to another size exactly as Pillow does;
//! * [`Loader`] turns a data set into shuffled batches of `f32` on a thread of its own.
//!
//! Another data set in a format that is there is a description in `known`; another format is a variant of
//! [`Format`] and a file that reads it.

mod cifar;
mod content;
mod dataset;
pub mod fetch;
mod folder;
pub mod idx;
mod idx_images;
pub mod known;
mod load;
mod loader;
mod open;
mod resize;
mod source;
mod spec;

pub use dataset::Dataset;
pub use fetch::Progress;
pub use load::{DataName, Splits};
pub use loader::{Batch, Batches, Loader, LoaderConfig, Order};
pub(crate) use resize::Filters;
pub use resize::Resizer;
pub use source::{Origin, Source};
pub use spec::{Archive, DataFile, DataSpec, Format, Holding, Published};

//! Data sets: found or fetched, read, resized and handed out in batches.
//!
//! A data set is described as plain data ([`DataSpec`]) or is a folder of images. The files, from the bottom up; no two
//! import each other:
//!
//! * [`Dataset`] holds images in memory (NHWC, a byte a channel), their labels, and the names of the classes;
//! * [`Idx`](idx::Idx) reads the MNIST family's format, `cifar` the binary version of CIFAR-10, and `folder` folders of
//!   PNG and JPEG files;
//! * [`Form`] is what the images of a data set have in common, and brings any picture to it;
//! * [`known`] describes the data sets that have names;
//! * [`DataName`] is what a user writes: a known name, or a folder;
//! * [`Splits`] finds a data set on this machine, or [fetches](fetch) it, checks it, and reads it;
//! * [`Augmentation`] mirrors, shifts and erases training images, in another way in each epoch;
//! * [`Resizer`] brings an image to another size exactly as Pillow does;
//! * [`Normalization`] says what number stands for each grey level;
//! * [`Loader`] turns a data set into shuffled batches of `f32` on a thread of its own.
//!
//! To add a data set in an existing format, describe it in `known`. To add a format, add a variant of [`Format`] and a
//! file that reads it.

mod augmentation;
mod cifar;
mod content;
mod dataset;
mod decode;
pub mod fetch;
mod folder;
mod form;
pub mod idx;
mod idx_images;
pub mod known;
mod load;
mod loader;
mod name;
mod normalization;
mod open;
mod pieces;
mod presence;
mod recipe;
mod resize;
mod source;
mod spec;

pub use augmentation::{Augmentation, Erasing, Flip, Transform};
pub(crate) use content::hex;
pub use dataset::{Dataset, Hashes};
pub use fetch::Progress;
pub use form::{Converted, Form, Invert};
pub use load::Splits;
pub use loader::{Batch, Batches, Loader, LoaderConfig, Order, Share};
pub use name::DataName;
pub(crate) use normalization::LEVELS;
pub use normalization::Normalization;
pub use recipe::{Recipe, Trimming};
pub(crate) use resize::Filters;
pub use resize::Resizer;
pub use source::{Origin, Source};
pub use spec::{DataFile, DataSpec, Format, Holding, Published};

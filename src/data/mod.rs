//! The data set: found or fetched, read, resized and handed out in batches.
//!
//! * [`FashionMnist`] finds the four files on this machine, or fetches them, and checks them;
//! * [`Idx`](idx::Idx) reads their format;
//! * [`Dataset`] is what they hold: grey images and their labels;
//! * [`Resizer`] brings an image to another size exactly as Pillow does;
//! * [`Loader`] turns a data set into shuffled batches of `f32` on a thread of its own.

mod dataset;
mod fashion_mnist;
pub mod fetch;
pub mod idx;
mod loader;
mod resize;

pub use dataset::Dataset;
pub use fashion_mnist::{CLASS_NAMES, FashionMnist, Origin, Source};
pub use fetch::Progress;
pub use loader::{Batch, Batches, Loader, LoaderConfig, Order};
pub(crate) use resize::Filters;
pub use resize::Resizer;

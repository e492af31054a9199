//! Gather: a batch out of a data set that lies on the device, resized and scaled to [0, 1] there. What it gives is, to the
//! bit, what a [`Loader`](crate::data::Loader) prepares and a host uploads. It has no gradient.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::data::{Filters, Resizer};
use crate::device::{Buffer, Device};
use crate::{Error, Result};

/// The images of a batch, out of a data set: for each `b`, image and label number `order[first + b]`.
pub struct Selection<'a, D: Device> {
    /// The images of the data set, NHWC, a byte a channel.
    pub images: &'a D::Bytes,
    /// Their labels.
    pub labels: &'a D::Bytes,
    /// The order of an epoch: numbers of images as little-endian `u32`s.
    pub order: &'a D::Bytes,
    /// Where in the order the batch begins.
    pub first: usize,
}

/// The kernel of gather.
pub trait Gather: Device {
    /// For each `b < n`, `n` being the length of `y`, and `i = order[first + b]`: `x[b] = resize(images[i]) / 255` and
    /// `y[b] = labels[i]`. Lengths agree with each other and the resizer.
    ///
    /// # Errors
    /// [`Error::Shape`], on a backend that looks at them, if a number in the order is not below that of labels; one that
    /// does not gathers some image or other. [`Error::Shape`] if the backend cannot shrink images as far.
    fn gather(
        &self,
        resizer: &DeviceResizer<Self>,
        selection: &Selection<'_, Self>,
        x: &mut Self::Buf,
        y: &mut Self::Bytes,
    ) -> Result<()>;
}

/// How the images of a data set become those of a batch: a [`Resizer`] whose tables lie on the device.
pub struct DeviceResizer<D: Device> {
    resizer: Resizer,
    /// Height and width.
    from: [usize; 2],
    to: [usize; 2],
    /// Of rows and of columns.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    axes: [Axis<D>; 2],
}

/// The filters of an axis, each position's of the same length.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
struct Axis<D: Device> {
    /// The first input of each position.
    first: Vec<u32>,
    taps: usize,
    /// On the device: the first inputs, then the weights of each position.
    table: D::Bytes,
}

impl<D: Gather> DeviceResizer<D> {
    /// For images of `channels` channels and the extents `from` (height and width) that are to have the extents `to`.
    ///
    /// # Errors
    /// [`Error::Shape`] where an extent is 0, or so large that pixels cannot be counted.
    pub fn new(device: &D, from: [usize; 2], to: [usize; 2], channels: usize) -> Result<Self> {
        let resizer = Resizer::new(from[0], from[1], to[0], to[1])?.with_channels(channels)?;
        let axis = |filters: Filters| -> Result<Axis<D>> {
            let first = filters.first.iter().map(|&first| first as i32);
            let words: Vec<i32> = first.chain(filters.weights).collect();
            let table = device.upload_bytes(bytemuck::cast_slice(&words))?;
            Ok(Axis { first: filters.first, taps: filters.taps, table })
        };
        let [rows, columns] = resizer.filters();
        Ok(DeviceResizer { from, to, axes: [axis(rows)?, axis(columns)?], resizer })
    }

    /// The images and labels of `selection`, as many as `y` is long; see [`Gather::gather`]. `x` is of
    /// `[n, channels, height, width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where lengths do not agree with each other or the resizer; otherwise as [`Gather::gather`].
    pub fn gather(&self, device: &D, selection: &Selection<'_, D>, x: &mut D::Buf, y: &mut D::Bytes) -> Result<()> {
        let Selection { images, labels, order, first } = *selection;
        let ([h, w], [p, q], n) = (self.from, self.to, y.len());
        let channels = self.resizer.channels();
        let agree = labels.len().checked_mul(h * w * channels) == Some(images.len())
            && n > 0
            && n.checked_mul(p * q * channels) == Some(x.len())
            && first.checked_add(n).is_some_and(|end| end <= order.len() / size_of::<u32>());
        if !agree || labels.is_empty() || u32::try_from(order.len() / size_of::<u32>()).is_err() {
            let problem = format!(
                "{n} labels from {first} on, for {} values of {p}x{q} images with {channels} channels, out of {} labels, \
                 {} values of {h}x{w} images and an order of {} bytes",
                x.len(),
                labels.len(),
                images.len(),
                order.len()
            );
            return Err(Error::shape("gather", problem));
        }
        device.gather(self, selection, x, y)
    }
}

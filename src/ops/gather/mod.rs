//! Gather: the images of a batch from a data set in device memory, changed by an augmentation, resized and normalised there.
//! The result has the same bits as a [`Loader`](crate::data::Loader)'s batch after its upload. It has no gradient.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::data::{Filters, Normalization, Resizer, Transform};
use crate::device::{Buffer, Device};
use crate::{Error, Result};

/// The selection of a batch, or of a part of it, from a data set: image `b` of the part is image number `order[first + skipped + b]`.
pub struct Selection<'a, D: Device> {
    /// The images of the data set, NHWC, a byte a channel.
    pub images: &'a D::Bytes,
    /// The labels of the images, a byte each.
    pub labels: &'a D::Bytes,
    /// The order of an epoch: indices of images as little-endian `u32`s.
    pub order: &'a D::Bytes,
    /// What becomes of each image of the order: the words of a [`Transform`] for each, `[mirrored, down, right, erased[0].start,
    /// erased[0].end, erased[1].start, erased[1].end]`, as little-endian `i32`s. `None` leaves all images as they are.
    pub transforms: Option<&'a D::Bytes>,
    /// The index in `order` of the batch's first image.
    pub first: usize,
    /// Images of the batch before those that are wanted: others may gather these. Unlike `first` it is baked into a recording.
    pub skipped: usize,
}

/// The kernel of gather.
pub trait Gather: Device {
    /// For each `b < n`, where `n` is the length of `y`, and `i = order[first + skipped + b]`:
    /// `x[b] = level(resize(change(images[i])))` and `y[b] = labels[i]`, where `change` is what `transforms[first + skipped + b]` says
    /// and `level` is value / 255, normalised. `x` is NHWC. The caller has checked that lengths agree with each other and with
    /// the resizer.
    ///
    /// # Errors
    /// [`Error::Shape`] on the CPU for an index in `order` that is not below the number of labels; a GPU reads
    /// the last image instead. [`Error::Shape`] on a GPU if the images cannot be shrunk that far in shared memory.
    fn gather(
        &self,
        resizer: &DeviceResizer<Self>,
        selection: &Selection<'_, Self>,
        x: &mut Self::Buf,
        y: &mut Self::Bytes,
    ) -> Result<()>;
}

/// A [`Resizer`] whose tables of filters lie in device memory: it resizes the images of a data set to those of a batch, and
/// scales or [normalises](Normalization) them.
pub struct DeviceResizer<D: Device> {
    resizer: Resizer,
    /// `[channels, 256]`: the number of each grey level, on the host for a CPU.
    levels: Vec<f32>,
    /// The same on the device, in fp32.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    level_table: D::Bytes,
    /// Height and width of the source images, and of the resized ones.
    from: [usize; 2],
    to: [usize; 2],
    /// The filters of rows, and of columns, which a GPU's launch reads.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    axes: [Axis<D>; 2],
}

/// The filters of an axis: `taps` weights for each output position.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
struct Axis<D: Device> {
    /// The first source position of each filter.
    first: Vec<u32>,
    taps: usize,
    /// On the device, as `i32`: the first source positions, then the weights of each filter.
    table: D::Bytes,
}

impl<D: Gather> DeviceResizer<D> {
    /// A resizer of images with `channels` channels, from height and width `from` to height and width `to`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an extent of 0, or for more pixels than can be counted.
    pub fn new(device: &D, from: [usize; 2], to: [usize; 2], channels: usize) -> Result<Self> {
        let resizer = Resizer::new(from[0], from[1], to[0], to[1])?.with_channels(channels)?;
        let axis = |filters: Filters| -> Result<Axis<D>> {
            let first = filters.first.iter().map(|&first| first as i32);
            let words: Vec<i32> = first.chain(filters.weights).collect();
            let table = device.upload_bytes(bytemuck::cast_slice(&words))?;
            Ok(Axis { first: filters.first, taps: filters.taps, table })
        };
        let [rows, columns] = resizer.filters();
        let levels = Normalization::default().levels(channels)?;
        let level_table = device.upload_bytes(bytemuck::cast_slice(&levels))?;
        Ok(DeviceResizer { from, to, axes: [axis(rows)?, axis(columns)?], levels, level_table, resizer })
    }

    /// The same resizer with images normalised by `normalization`; without, they are scaled to [0, 1].
    ///
    /// # Errors
    /// [`Error::Config`] where it is for another number of channels.
    pub fn with_normalization(mut self, device: &D, normalization: &Normalization) -> Result<Self> {
        self.levels = normalization.levels(self.resizer.channels())?;
        self.level_table = device.upload_bytes(bytemuck::cast_slice(&self.levels))?;
        Ok(self)
    }

    /// Gathers the images and labels of `selection`, see [`Gather::gather`]. `y` has the batch's `n` labels; `x` has
    /// the images, logically `[n, channels, height, width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if lengths do not agree with each other or with the resizer; otherwise as [`Gather::gather`].
    pub fn gather(&self, device: &D, selection: &Selection<'_, D>, x: &mut D::Buf, y: &mut D::Bytes) -> Result<()> {
        let Selection { images, labels, order, transforms, first, skipped } = *selection;
        let first = first.saturating_add(skipped);
        let ([h, w], [p, q], n) = (self.from, self.to, y.len());
        let channels = self.resizer.channels();
        let agree = labels.len().checked_mul(h * w * channels) == Some(images.len())
            && n > 0
            && n.checked_mul(p * q * channels) == Some(x.len())
            && first.checked_add(n).is_some_and(|end| {
                let known = transforms.map_or(usize::MAX, |bytes| bytes.len() / (Transform::WORDS * size_of::<i32>()));
                end <= known.min(order.len() / size_of::<u32>())
            });
        if !agree || labels.is_empty() || u32::try_from(order.len() / size_of::<u32>()).is_err() {
            let problem = format!(
                "{n} labels from {first} on, for {} values of {p}x{q} images with {channels} channels, out of {} labels, \
                 {} values of {h}x{w} images, an order of {} bytes and transforms of {}",
                x.len(),
                labels.len(),
                images.len(),
                order.len(),
                transforms.map_or("none".into(), |bytes| format!("{} bytes", bytes.len()))
            );
            return Err(Error::shape("gather", problem));
        }
        device.gather(self, selection, x, y)
    }
}

//! Resizing of images, bit for bit as Pillow's `Image.resize(size, BILINEAR)`. torchvision's `Resize` does the same to
//! PIL images.
//!
//! To shrink, Pillow widens the triangle filter (antialiasing). It filters the rows, rounds to whole grey levels, and
//! then filters the columns. An axis that keeps its size is not filtered. Weights are computed in `f64` and applied in
//! fixed point. Each channel is resized by itself.
//!
//! The order is that of Pillow up to 12. For some changes of the aspect ratio, Pillow 13 filters the columns first,
//! which rounds differently. For images that keep their aspect ratio all versions agree.

use crate::error::{Error, Result};

/// Fractional bits of a weight: 32, less 8 for the grey level and 2 of headroom for filters that overshoot, as in
/// Pillow.
const FRACTION: u32 = 32 - 8 - 2;

/// Resizes images from one fixed size to another.
#[derive(Clone, Debug)]
pub struct Resizer {
    rows: Axis,
    columns: Axis,
    channels: usize,
}

/// The most pixels on a side. A longer side is a mistake, and its filters would fill the memory.
const MAX_SIDE: usize = 1 << 20;

impl Resizer {
    /// A resizer of grey images of `in_height` x `in_width` pixels to `out_height` x `out_width`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where a size is 0 or above 2^20, or where pixels cannot be counted in 32 bits.
    pub fn new(in_height: usize, in_width: usize, out_height: usize, out_width: usize) -> Result<Self> {
        let countable = |height: usize, width: usize| match height.checked_mul(width) {
            Some(1..=0xFFFF_FFFF) if height.max(width) <= MAX_SIDE => Ok(()),
            _ => Err(Error::shape("resize", format!("an image of {height}x{width} is not possible"))),
        };
        countable(in_height, in_width)?;
        countable(out_height, out_width)?;
        countable(in_height, out_width)?;
        Ok(Resizer { rows: Axis::new(in_height, out_height), columns: Axis::new(in_width, out_width), channels: 1 })
    }

    /// The same resizer for images of `channels` channels, which lie side by side in a pixel.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there are no channels, or so many that values cannot be counted.
    pub fn with_channels(mut self, channels: usize) -> Result<Self> {
        let (rows, columns) = (&self.rows, &self.columns);
        for (height, width) in [(rows.from, columns.from), (rows.to, columns.to), (rows.from, columns.to)] {
            match (height * width).checked_mul(channels) {
                Some(1..=0xFFFF_FFFF) => {}
                _ => {
                    let problem = format!("an image of {height}x{width} with {channels} channels is not possible");
                    return Err(Error::shape("resize", problem));
                }
            }
        }
        self.channels = channels;
        Ok(self)
    }

    /// Channels of the images.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Resizes `src` (`[in_height, in_width, channels]`, row-major) into `dst` (`[out_height, out_width, channels]`).
    ///
    /// `scratch` holds the image between the two passes. It may have any contents, and grows if it is too short.
    /// Passing the same one again saves the allocation.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where a slice has the wrong length; `dst` is untouched then.
    pub fn resize(&self, src: &[u8], dst: &mut [u8], scratch: &mut Vec<u8>) -> Result<()> {
        let (rows, columns) = (&self.rows, &self.columns);
        for (slice, len, height, width) in
            [("src", src.len(), rows.from, columns.from), ("dst", dst.len(), rows.to, columns.to)]
        {
            if len != height * width * self.channels {
                let problem = match self.channels {
                    1 => format!("{slice} has {len} pixels instead of {height}x{width}"),
                    channels => {
                        format!("{slice} has {len} values instead of {height}x{width} with {channels} channels")
                    }
                };
                return Err(Error::shape("resize", problem));
            }
        }
        match (columns.is_identity(), rows.is_identity()) {
            (true, true) => dst.copy_from_slice(src),
            (false, true) => columns.along_rows(src, dst, self.channels),
            (true, false) => rows.across_rows(src, dst),
            (false, false) => {
                scratch.resize(rows.from * columns.to * self.channels, 0);
                columns.along_rows(src, scratch, self.channels);
                rows.across_rows(scratch, dst);
            }
        }
        Ok(())
    }

    /// The filters of the vertical axis, then of the horizontal axis. An axis that keeps its size has filters that
    /// change nothing.
    pub(crate) fn filters(&self) -> [Filters; 2] {
        [self.rows.filters(), self.columns.filters()]
    }
}

/// The filters of an axis in the form that kernels take: all of the same length, shorter ones padded by weights of 0.
pub(crate) struct Filters {
    /// The first input of each output position, in non-decreasing order.
    pub(crate) first: Vec<u32>,
    /// Inputs of each output position.
    pub(crate) taps: usize,
    /// `taps` weights for each position, one position after the other.
    pub(crate) weights: Vec<i32>,
}

/// How one axis is resized: the filter of every output position.
#[derive(Clone, Debug)]
struct Axis {
    from: usize,
    to: usize,
    taps: Vec<Taps>,
    /// The weights of all positions, one after the other.
    weights: Vec<i32>,
}

/// The filter of one output position: a range of input positions and their weights.
#[derive(Clone, Copy, Debug)]
struct Taps {
    /// The first input position.
    first: usize,
    /// The number of input positions, at least 1.
    count: usize,
    /// The index of their first weight in [`Axis::weights`].
    weights: usize,
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        // The triangle reaches 1 input to either side, and `scale` inputs when shrinking.
        let support = scale.max(1.0);
        let mut axis = Axis { from, to, taps: Vec::with_capacity(to), weights: Vec::new() };
        let mut exact = Vec::new();
        for position in 0..to {
            let center = (position as f64 + 0.5) * scale;
            // Conversion to an integer cuts the fraction off, and negative values to 0, as Pillow's clamp does.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            exact.clear();
            exact.extend((first..end).map(|input| {
                let distance = (input as f64 - center + 0.5) * (1.0 / support);
                (1.0 - distance.abs()).max(0.0)
            }));
            let sum: f64 = exact.iter().sum();
            axis.taps.push(Taps { first, count: end - first, weights: axis.weights.len() });
            // Rounds half away from zero, as no weight is negative.
            let fixed = |weight: &f64| (0.5 + weight / sum * f64::from(1 << FRACTION)) as i32;
            axis.weights.extend(exact.iter().map(fixed));
        }
        axis
    }

    fn is_identity(&self) -> bool {
        self.from == self.to
    }

    /// Every output position: its first input and its weights.
    fn positions(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.taps.iter().map(|taps| (taps.first, &self.weights[taps.weights..][..taps.count]))
    }

    fn filters(&self) -> Filters {
        let taps = self.taps.iter().map(|taps| taps.count).max().unwrap_or(0);
        let mut filters = Filters { first: Vec::with_capacity(self.to), taps, weights: vec![0; self.to * taps] };
        for ((first, weights), padded) in self.positions().zip(filters.weights.chunks_exact_mut(taps)) {
            // At the right edge padding comes before the weights, so that every padded tap is an input that exists.
            let start = first.min(self.from - taps);
            filters.first.push(start as u32);
            padded[first - start..][..weights.len()].copy_from_slice(weights);
        }
        filters
    }

    /// Filters along the rows, each channel by itself: `[n, from, channels]` to `[n, to, channels]`.
    fn along_rows(&self, src: &[u8], dst: &mut [u8], channels: usize) {
        for (src, dst) in src.chunks_exact(self.from * channels).zip(dst.chunks_exact_mut(self.to * channels)) {
            if channels == 1 {
                for ((first, weights), out) in self.positions().zip(dst) {
                    let taps = weights.iter().zip(&src[first..]);
                    let sum = taps.map(|(&weight, &grey)| weight * i32::from(grey)).sum();
                    *out = round(sum);
                }
                continue;
            }
            for ((first, weights), pixel) in self.positions().zip(dst.chunks_exact_mut(channels)) {
                for (channel, out) in pixel.iter_mut().enumerate() {
                    let taps = weights.iter().zip(src[first * channels + channel..].iter().step_by(channels));
                    let sum = taps.map(|(&weight, &value)| weight * i32::from(value)).sum();
                    *out = round(sum);
                }
            }
        }
    }

    /// Filters across the rows: each output row is a weighted sum of whole input rows, `[from, n]` to `[to, n]`.
    fn across_rows(&self, src: &[u8], dst: &mut [u8]) {
        let width = src.len() / self.from;
        for ((first, weights), out) in self.positions().zip(dst.chunks_exact_mut(width)) {
            let row = |tap: usize| &src[(first + tap) * width..][..width];
            // Enlarging takes two taps a position, and one at the edges. The loop over pixels is innermost, so that it
            // compiles to vector instructions.
            match *weights {
                [weight] => {
                    for (out, &grey) in out.iter_mut().zip(row(0)) {
                        *out = round(weight * i32::from(grey));
                    }
                }
                [above, below] => {
                    for ((out, &a), &b) in out.iter_mut().zip(row(0)).zip(row(1)) {
                        *out = round(above * i32::from(a) + below * i32::from(b));
                    }
                }
                _ => {
                    for (column, out) in out.iter_mut().enumerate() {
                        let taps = weights.iter().zip(src[first * width + column..].iter().step_by(width));
                        *out = round(taps.map(|(&weight, &grey)| weight * i32::from(grey)).sum());
                    }
                }
            }
        }
    }
}

/// Rounds a fixed-point sum to the nearest grey level.
#[inline]
fn round(sum: i32) -> u8 {
    ((sum + (1 << (FRACTION - 1))) >> FRACTION).min(255) as u8
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn every_pixel_is_pillows() {
        let cases = include_str!("../../tests/fixtures/resize/cases.txt");
        let mut pixels = Vec::new();
        GzDecoder::new(&include_bytes!("../../tests/fixtures/resize/pixels.gz")[..]).read_to_end(&mut pixels).unwrap();
        let mut rest = &pixels[..];
        let mut scratch = vec![7; 3];
        for case in cases.lines() {
            let sizes: Vec<usize> = case.split(' ').map(|word| word.parse().unwrap()).collect();
            let [images, in_height, in_width, out_height, out_width] = sizes[..] else {
                panic!("{case}");
            };
            let inputs = rest.split_off(..images * in_height * in_width).unwrap();
            let outputs = rest.split_off(..images * out_height * out_width).unwrap();
            let resizer = Resizer::new(in_height, in_width, out_height, out_width).unwrap();
            let mut resized = vec![0; out_height * out_width];
            for (input, output) in
                inputs.chunks_exact(in_height * in_width).zip(outputs.chunks_exact(out_height * out_width))
            {
                resizer.resize(input, &mut resized, &mut scratch).unwrap();
                assert!(resized == output, "{case}");
            }
        }
        assert!(rest.is_empty());
    }

    /// Pillow resizes each band of an image by itself.
    #[test]
    fn channels_are_resized_each_by_itself() {
        let mut word = 9u32;
        let mut noise = || {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (word >> 24) as u8
        };
        for [in_height, in_width, out_height, out_width] in
            [[32, 32, 224, 224], [32, 32, 28, 28], [5, 7, 9, 3], [4, 4, 4, 9], [4, 4, 9, 4], [3, 2, 3, 2], [1, 1, 2, 3]]
        {
            for channels in [1, 2, 3, 4] {
                let src: Vec<u8> = (0..in_height * in_width * channels).map(|_| noise()).collect();
                let grey = Resizer::new(in_height, in_width, out_height, out_width).unwrap();
                let resizer = grey.clone().with_channels(channels).unwrap();
                assert_eq!(resizer.channels(), channels);
                let mut found = vec![0; out_height * out_width * channels];
                resizer.resize(&src, &mut found, &mut Vec::new()).unwrap();
                for channel in 0..channels {
                    let of = |all: &[u8]| all.iter().skip(channel).step_by(channels).copied().collect::<Vec<u8>>();
                    let mut wanted = vec![0; out_height * out_width];
                    grey.resize(&of(&src), &mut wanted, &mut Vec::new()).unwrap();
                    assert!(of(&found) == wanted, "{in_height}x{in_width} to {out_height}x{out_width}, {channel}");
                }
            }
        }
        let resizer = Resizer::new(2, 2, 4, 4).unwrap().with_channels(3).unwrap();
        let error = resizer.resize(&[0; 4], &mut [0; 48], &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "resize: src has 4 values instead of 2x2 with 3 channels");
        assert!(Resizer::new(2, 2, 4, 4).unwrap().with_channels(0).is_err());
        assert!(Resizer::new(2, 2, 4, 4).unwrap().with_channels(usize::MAX).is_err());
    }

    #[test]
    fn padded_filters_stay_within_the_axis() {
        for (from, to) in [(28, 28), (28, 224), (28, 14), (28, 64), (1, 9), (9, 1), (7, 5), (2, 3)] {
            let axis = Axis::new(from, to);
            let filters = axis.filters();
            assert_eq!((filters.first.len(), filters.weights.len()), (to, to * filters.taps));
            assert!(filters.first.is_sorted());
            let padded = filters.first.iter().zip(filters.weights.chunks_exact(filters.taps));
            for ((first, weights), (&start, padded)) in axis.positions().zip(padded) {
                assert!(start as usize + filters.taps <= from, "{from} to {to}");
                let mut wanted = vec![0; from];
                wanted[first..][..weights.len()].copy_from_slice(weights);
                let mut found = vec![0; from];
                found[start as usize..][..filters.taps].copy_from_slice(padded);
                assert_eq!(found, wanted, "{from} to {to}");
            }
        }
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Resizer::new(28, 28, 0, 28).is_err());
        assert!(Resizer::new(28, usize::MAX, 1, 1).is_err());
        let resizer = Resizer::new(2, 2, 4, 4).unwrap();
        let mut dst = [9; 16];
        let error = resizer.resize(&[0; 5], &mut dst, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "resize: src has 5 pixels instead of 2x2");
        let error = resizer.resize(&[0; 4], &mut dst[1..], &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "resize: dst has 15 pixels instead of 4x4");
        assert_eq!(dst, [9; 16]);
    }
}

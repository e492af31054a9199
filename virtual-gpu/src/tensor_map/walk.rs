//! The walk of a copy over its box, by runs of consecutive bytes.
//!
//! A run lies within one row of the box, and is either wholly inside of the tensor or wholly outside. For each one the
//! visitor gets the offset in the box, before the swizzle, the number of bytes, and the global address: `None` outside of
//! the tensor, where a load writes zeros. Bounds are those of the tensor's dimensions: whether an address is in the
//! allocation is for the visitor to check. An address beyond 2^64 becomes `u64::MAX`, which is in no allocation.

use super::{MAX_RANK, Mode, TensorMap};

/// The greatest offset within a filter, by the number of spatial dimensions.
const MOST_OFFSET: [u16; 3] = [u16::MAX, 255, 31];
/// The spatial dimensions, innermost first.
const SPATIAL: [&str; 3] = ["W", "H", "D"];

/// The address of element 0 of the row at `coordinates`, of which the first is not used; none if another one is outside
/// of its dimension.
fn row_address(map: &TensorMap, coordinates: &[i64; MAX_RANK]) -> Option<u64> {
    let mut address = map.address;
    for ((at, dim), stride) in coordinates.iter().zip(&map.dims).zip(&map.strides).skip(1) {
        let at = u64::try_from(*at).ok().filter(|at| at < dim)?;
        address = address.saturating_add(at.saturating_mul(*stride));
    }
    Some(address)
}

impl TensorMap {
    /// Visits the row whose runs begin at `offset`: `count` elements from `first` on along dimension 0. `address` is that
    /// of the dimension's element 0; none if the whole row is outside of the tensor.
    #[inline]
    fn visit_row<E>(
        &self,
        offset: usize,
        first: i64,
        count: usize,
        address: Option<u64>,
        f: &mut impl FnMut(usize, usize, Option<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = self.element.bytes();
        let Some(address) = address else { return f(offset, count * size, None) };
        let before = (-first).clamp(0, count as i64) as usize;
        let end = (self.dims[0] as i64 - first).clamp(before as i64, count as i64) as usize;
        if before > 0 {
            f(offset, before * size, None)?;
        }
        if end > before {
            let at = address.saturating_add((first + before as i64) as u64 * size as u64);
            f(offset + before * size, (end - before) * size, Some(at))?;
        }
        if count > end {
            f(offset + end * size, (count - end) * size, None)?;
        }
        Ok(())
    }

    /// The instruction's coordinates, if there are as many as the map has dimensions.
    fn coordinates(&self, coords: &[i32]) -> Result<[i64; MAX_RANK], String> {
        if coords.len() != self.rank {
            return Err(format!(
                "an instruction with {} coordinates, but a tensor map of rank {}",
                coords.len(),
                self.rank
            ));
        }
        Ok(std::array::from_fn(|d| coords.get(d).map_or(0, |at| i64::from(*at))))
    }

    /// Visits a box of a tiled map. `coords` is its first element, innermost dimension first; it may be outside of the
    /// tensor.
    ///
    /// # Errors
    /// The visitor's first error. A map of another mode or rank than the instruction's.
    pub fn visit_tile<E: From<String>>(
        &self,
        coords: &[i32],
        mut f: impl FnMut(usize, usize, Option<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Mode::Tiled { box_dim } = self.mode else {
            return Err("an instruction in tile mode, but a tensor map in im2col mode".to_owned().into());
        };
        let start = self.coordinates(coords)?;
        let (counts, pitch, (rows, row)) = (self.counts(box_dim), self.pitch(), self.shape());
        let (mut index, mut at) = ([0; MAX_RANK], start);
        for line in 0..rows {
            self.visit_row(line * pitch, start[0], row, row_address(self, &at), &mut f)?;
            for d in 1..self.rank {
                index[d] += 1;
                at[d] += i64::from(self.element_strides[d]);
                if index[d] < counts[d] {
                    break;
                }
                (index[d], at[d]) = (0, start[d]);
            }
        }
        Ok(())
    }

    /// Visits the pixels of an im2col map. `coords` is the base pixel, with its first channel: (C, W, H, D, N) without the
    /// dimensions that the tensor lacks. `offsets` is the place within the filter, W first.
    ///
    /// # Errors
    /// The visitor's first error. A base pixel outside of the box of base pixels, an offset that has too many bits, a map of
    /// another mode or rank than the instruction's.
    pub fn visit_im2col<E: From<String>>(
        &self,
        coords: &[i32],
        offsets: &[u16],
        mut f: impl FnMut(usize, usize, Option<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Mode::Im2col { lower, upper, channels_per_pixel, pixels_per_column } = self.mode else {
            return Err("an instruction in im2col mode, but a tensor map in tile mode".to_owned().into());
        };
        let mut base = self.coordinates(coords)?;
        let (spatial, images) = (self.rank - 2, self.rank - 1);
        if offsets.len() != spatial {
            return Err(format!(
                "{} im2col offsets: a tensor map of rank {} needs {spatial}",
                offsets.len(),
                self.rank
            )
            .into());
        }
        let (mut first, mut last, mut within) = ([0; 3], [0; 3], [0; 3]);
        for i in 0..spatial {
            within[i] = i64::from(offsets[i]);
            first[i] = i64::from(lower[i]);
            last[i] = self.dims[i + 1] as i64 - 1 + i64::from(upper[i]);
            let (name, at, most) = (SPATIAL[i], base[i + 1], MOST_OFFSET[spatial - 1]);
            if offsets[i] > most {
                return Err(format!("the im2col offset of {name} is {}: it must be at most {most}", offsets[i]).into());
            }
            if at < first[i] || at > last[i] {
                let (first, last) = (first[i], last[i]);
                return Err(format!(
                    "{name} of the base pixel is {at}: the box of base pixels goes from {first} to {last}"
                )
                .into());
            }
        }
        let (pitch, row) = (self.pitch(), channels_per_pixel as usize);
        for pixel in 0..pixels_per_column as usize {
            let mut at = base;
            for i in 0..spatial {
                at[i + 1] += within[i];
            }
            self.visit_row(pixel * pitch, base[0], row, row_address(self, &at), &mut f)?;
            // The next base pixel: along W, then H, then D, then the next image.
            let mut next = 0;
            while next < spatial {
                base[next + 1] += i64::from(self.element_strides[next + 1]);
                if base[next + 1] <= last[next] {
                    break;
                }
                base[next + 1] = first[next];
                next += 1;
            }
            if next == spatial {
                base[images] += 1;
            }
        }
        Ok(())
    }

    /// Visits what a store writes: only runs inside of the tensor. A map in im2col mode is for `.im2col_no_offs`.
    ///
    /// # Errors
    /// Those of the loads. Start coordinates below zero, and for im2col base pixels outside of the image.
    pub fn visit_store<E: From<String>>(
        &self,
        coords: &[i32],
        mut f: impl FnMut(usize, usize, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some((d, at)) = coords.iter().enumerate().find(|(_, at)| **at < 0) {
            return Err(format!("start coordinate {d} of a store is {at}: it must not be negative").into());
        }
        let inside = |offset, bytes, address: Option<u64>| address.map_or(Ok(()), |address| f(offset, bytes, address));
        let Mode::Im2col { lower, upper, .. } = self.mode else { return self.visit_tile(coords, inside) };
        for i in 0..self.rank - 2 {
            if lower[i] < 0 || upper[i] > 0 {
                return Err(format!(
                    "a store through an im2col tensor map whose box leaves the image: along {} its corners are {} and {}, \
                     the lower must be at least 0 and the upper at most 0",
                    SPATIAL[i], lower[i], upper[i]
                )
                .into());
            }
        }
        self.visit_im2col(coords, &[0; 3][..self.rank - 2], inside)
    }
}

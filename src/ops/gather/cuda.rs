//! Gather on a GPU: launches of `kernels/gather.cu`.

use super::{DeviceResizer, Gather, Selection};
use crate::data::Transform;
use crate::device::Buffer;
use crate::device::cuda::tiles::{GATHER_SHARED, THREADS};
use crate::device::cuda::{Args, Buf, Bytes, Cuda, Geometry};
use crate::{Error, Result};

/// The tile of a block: rows and columns of the resized image, computed from source rows that are filtered along
/// columns into shared memory. A column is a value: a row of P pixels with C channels has P·C columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    rows: usize,
    columns: usize,
    /// Bytes from one filtered row to the next.
    stride: usize,
    /// The most source rows under a tile.
    source_rows: usize,
}

/// The widest tile that fits shared memory, and of those the tallest; `None` if one row of 16 columns does not fit.
/// `first` and `taps` are the filters of the image's rows, which have `width` columns. 16 columns, the fewest, are
/// whole packs in any precision.
fn tile(first: &[u32], taps: usize, width: usize) -> Option<Tile> {
    let source_rows = |rows: usize| {
        let tiles = first.chunks(rows).map(|tile| (tile[tile.len() - 1] - tile[0]) as usize + taps);
        tiles.max().unwrap_or(0)
    };
    let heights = [32, 16, 8, 4, 2, 1].map(|rows| (rows, source_rows(rows)));
    [256, 128, 64, 32, 16].into_iter().find_map(|columns| {
        let columns = columns.min(width);
        let stride = columns.next_multiple_of(16);
        let (rows, source_rows) = heights.into_iter().find(|(_, source_rows)| source_rows * stride <= GATHER_SHARED)?;
        Some(Tile { rows, columns, stride, source_rows })
    })
}

fn geometry(tile: &Tile, n: usize, [rows, columns]: [usize; 2]) -> Geometry {
    let tiles = rows.div_ceil(tile.rows) * columns.div_ceil(tile.columns);
    Geometry { grid: [n * tiles, 1, 1], block: [THREADS, 1, 1], shared: tile.source_rows * tile.stride }
}

impl Gather for Cuda {
    fn gather(
        &self,
        resizer: &DeviceResizer<Self>,
        selection: &Selection<'_, Self>,
        x: &mut Buf,
        y: &mut Bytes,
    ) -> Result<()> {
        let ([h, w], [p, q], [rows, columns]) = (resizer.from, resizer.to, &resizer.axes);
        let channels = resizer.resizer.channels();
        let too_far = || Error::shape("gather", format!("images of {h}x{w} cannot be shrunk to {p}x{q} on a GPU"));
        let tile = tile(&rows.first, rows.taps, q * channels).ok_or_else(too_far)?;
        let n = y.len();
        let Selection { images, labels, order, transforms, first, skipped } = *selection;
        let first = self.first(first as u32)?;
        let args = Args::new().output(x).bytes_mut(y).bytes(images).bytes(labels);
        // The kernel adds `first`, which lies in device memory.
        let args = args.address(order.address() + (skipped * size_of::<u32>()) as u64);
        let skip = |transforms: &Bytes| transforms.address() + (skipped * Transform::WORDS * size_of::<i32>()) as u64;
        let args = args
            .address(transforms.map_or(0, skip))
            .bytes(&resizer.level_table)
            .bytes(&rows.table)
            .bytes(&columns.table);
        let args = args.address(first.address).value(labels.len() as u32);
        let args = args.int(h).int(w).int(p).int(q).int(rows.taps).int(columns.taps);
        let args = args.int(tile.rows).int(tile.columns).int(tile.stride).int(channels);
        let kernel = match (channels, transforms) {
            (1, None) => "gather",
            (1, Some(_)) => "gather_changed",
            (_, None) => "gather_channels",
            (_, Some(_)) => "gather_channels_changed",
        };
        self.launch("gather", kernel, geometry(&tile, n, [p, q * channels]), args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Resizer;

    fn of(from: [usize; 2], to: [usize; 2]) -> Option<Tile> {
        let [rows, _] = Resizer::new(from[0], from[1], to[0], to[1]).unwrap().filters();
        tile(&rows.first, rows.taps, to[1])
    }

    #[test]
    fn tiles_have_room_and_cover_the_image() {
        let usual = of([28, 28], [224, 224]).unwrap();
        assert_eq!((usual.rows, usual.columns, usual.stride), (32, 224, 224));
        assert!(usual.source_rows <= 6, "{usual:?}");
        assert_eq!(geometry(&usual, 128, [224, 224]).grid, [128 * 7, 1, 1]);

        // Each pixel of three channels is three columns.
        let colours = of([32, 32], [32, 3 * 32]).unwrap();
        assert_eq!((colours.rows, colours.columns, colours.stride), (32, 96, 96));
        assert_eq!(geometry(&colours, 128, [32, 96]).grid, [128, 1, 1]);

        let small = of([28, 28], [14, 14]).unwrap();
        assert_eq!((small.rows, small.columns, small.stride), (32, 14, 16));
        assert_eq!(geometry(&small, 3, [14, 14]).grid, [3, 1, 1]);

        for (from, to) in [([1, 1], [1, 1]), ([28, 28], [1, 999]), ([4000, 3], [7, 300]), ([900, 2], [1, 5])] {
            let tile = of(from, to).unwrap();
            assert!(tile.source_rows * tile.stride <= GATHER_SHARED && tile.columns <= to[1], "{tile:?}");
            assert!(tile.columns == to[1] || tile.columns.is_multiple_of(16), "{tile:?}");
        }
    }

    #[test]
    fn images_whose_source_rows_do_not_fit_shared_memory_are_refused() {
        assert_eq!(of([3000, 2], [1, 5]), None);
    }
}

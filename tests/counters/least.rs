//! The least global memory traffic of a launch, given its tiles.
//!
//! A block reads its tile's rows of A and columns of B over all of K (in wgrad over its split's part). It can take none
//! of them from another block. A is therefore read once for each tile of n, and B once for each tile of m. Patch
//! elements in the padding are not in memory. A pixel of an image lies under several of a filter's taps and counts as
//! often: the matrix of patches is read, and whether its equal elements hit a cache is not counted.
//!
//! Contiguous elements are read together, as a *run*: a pixel's channels under one tap, or a row of the weights, as far
//! as the tile has them. A run costs the 32-byte sectors that it touches. All tensors begin at a sector.
//!
//! A block that pools has the rows of whole windows. Rows that two blocks share are read by both.
//!
//! In the epilogue a block reads its columns' bias or its results' mask once, and writes its results once. If the sum
//! is split, each split writes its results as floats. In wgrad db is one more column. In fprop the kernel that sums the
//! parts reads the bias.

use mlpconv::device::cuda::tiles::Tile;
use mlpconv::shape::{ConvShape, PoolShape};

/// The size in bytes of a sector, the unit of memory traffic.
pub const SECTOR: usize = 32;

/// The least traffic of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// In sectors, by the launch's tiles.
    pub loads: usize,
    pub stores: usize,
    /// In bytes, if each tensor were moved once.
    pub tensors: usize,
}

/// The number of sectors that `len` elements of `width` bytes touch, starting at element `first`.
fn run(width: usize, first: usize, len: usize) -> usize {
    if len == 0 { 0 } else { ((first + len) * width).div_ceil(SECTOR) - first * width / SECTOR }
}

/// The tiles of `extent`: the begin and the length of each.
fn tiles(extent: usize, tile: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    (0..extent).step_by(tile).map(move |first| (first, tile.min(extent - first)))
}

/// The sectors of `rows` rows of `columns` elements, each cut into tiles of columns.
fn rows(width: usize, rows: usize, columns: usize, tile: usize) -> usize {
    let row = |row: usize| tiles(columns, tile).map(move |(first, len)| run(width, row * columns + first, len));
    (0..rows).flat_map(row).sum()
}

/// For each output pixel and tap: the pixel, the tap and the input pixel, if that is inside the image.
fn taps(g: &ConvShape) -> impl Iterator<Item = (usize, usize, usize)> {
    let &ConvShape { h, w, r, s, p, q, stride, pad, .. } = g;
    (0..g.pixels()).flat_map(move |pixel| {
        (0..r * s).filter_map(move |tap| {
            let (n, y, x) = (pixel / (p * q), pixel / q % p * stride + tap / s, pixel % q * stride + tap % s);
            let inside = (pad..pad + h).contains(&y) && (pad..pad + w).contains(&x);
            inside.then(|| (pixel, tap, (n * h + y - pad) * w + x - pad))
        })
    })
}

/// The pixels of each block that pools, at most `most`: several whole images, or the rows of some windows of one image.
pub fn strips(pool: &PoolShape, most: usize) -> Vec<usize> {
    let &PoolShape { n, h, w, p, window, stride, .. } = pool;
    if h * w <= most {
        return tiles(n, most / (h * w)).map(|(_, images)| images * h * w).collect();
    }
    let whole = (most / w - window) / stride + 1;
    let rows = ((whole - 1) * stride + window) * w;
    let of_image = tiles(p, whole).map(|(first, _)| rows.min((h - first * stride) * w));
    (0..n).flat_map(|_| of_image.clone()).collect()
}

/// The GEMM's m and n. For a kernel that pools, m is rounded up to whole tiles.
pub fn product(pass: &str, g: &ConvShape, pool: &PoolShape, tile: &Tile) -> (usize, usize) {
    match pass {
        "maxpool_fprop" => (strips(pool, tile.m).len() * tile.m, g.k),
        "fprop" => (g.pixels(), g.k),
        "dgrad" => (g.n * g.h * g.w, g.c),
        _ => (g.k, g.taps()),
    }
}

/// The least traffic of `pass` with `tile`, where activations have `width` bytes and the sum has `splits`.
pub fn gemm(pass: &str, g: &ConvShape, pool: &PoolShape, tile: &Tile, width: usize, splits: usize) -> Traffic {
    let (m, n) = product(pass, g, pool, tile);
    let (tiles_m, tiles_n) = (m.div_ceil(tile.m), n.div_ceil(tile.n));
    let [x, y, w] = [g.input(), g.output(), g.weight()].map(|shape| shape.len());
    let results = |width| rows(width, m, n, tile.n);
    let (a, b, epilogue, stores, tensors): (usize, usize, usize, usize, usize) = match pass {
        "fprop" => {
            let a = taps(g).map(|(_, _, at)| run(width, at * g.c, g.c)).sum();
            let b = rows(width, n, g.taps(), g.taps());
            if splits == 1 {
                (a, b, tiles_m * rows(4, 1, n, tile.n), results(width), (x + y + w) * width + 4 * n)
            } else {
                (a, b, 0, splits * results(4), (x + w) * width + 4 * y)
            }
        }
        "maxpool_fprop" => {
            let a = strips(pool, tile.m).into_iter().map(|pixels| run(width, 0, pixels * g.c)).sum();
            let bias = tiles_m * rows(4, 1, n, tile.n);
            let pixels = pool.output().len() / n;
            let stores = rows(width, pixels, n, tile.n) + rows(1, pixels, n, tile.n);
            (a, rows(width, n, g.c, g.c), bias, stores, (x + w) * width + pixels * n * (width + 1) + 4 * n)
        }
        "dgrad" => {
            let a = taps(g).map(|(pixel, _, _)| run(width, pixel * g.k, g.k)).sum();
            let b = rows(width, g.k * g.r * g.s, n, tile.n);
            (a, b, results(width), results(width), (y + w + 2 * x) * width)
        }
        _ => {
            // A tile of n may begin and end anywhere within a tap's channels.
            let part = |tap: usize, (first, len): (usize, usize)| {
                let (begin, end) = (first.max(tap * g.c), (first + len).min((tap + 1) * g.c));
                (begin - tap * g.c, end.saturating_sub(begin))
            };
            let b = taps(g).flat_map(|(_, tap, at)| {
                let parts = tiles(n, tile.n).map(move |columns| part(tap, columns));
                parts.map(move |(begin, len)| run(width, at * g.c + begin, len))
            });
            let db = tiles(m, tile.m)
                .map(|(first, len)| run(4, if splits == 1 { first } else { (m * n).next_multiple_of(4) + first }, len));
            let stores = splits * (results(4) + db.sum::<usize>());
            (rows(width, g.pixels(), m, tile.m), b.sum(), 0, stores, (x + y) * width + 4 * (w + m))
        }
    };
    Traffic { loads: a * tiles_n + b * tiles_m + epilogue, stores, tensors }
}

/// The least traffic of summing the parts of fprop. The sum is over elements; each row of them also reads the bias.
pub fn activated(g: &ConvShape, width: usize, parts: usize) -> Traffic {
    let y = g.output().len();
    let stride = y.next_multiple_of(4);
    let loads: usize = (0..parts).map(|part| run(4, part * stride, y)).sum();
    let bias = g.pixels() * run(4, 0, g.k);
    Traffic { loads: loads + bias, stores: run(width, 0, y), tensors: (4 * parts + width) * y + 4 * g.k }
}

/// The least traffic of summing the parts of dw. Behind each of them lies a part of db.
pub fn sum(g: &ConvShape, parts: usize) -> Traffic {
    let dw = g.weight().len();
    let stride = dw.next_multiple_of(4) + g.k.next_multiple_of(4);
    let loads = (0..parts).map(|part| run(4, part * stride, dw)).sum();
    Traffic { loads, stores: run(4, 0, dw), tensors: 4 * (parts + 1) * dw }
}

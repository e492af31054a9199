//! The least that a launch can ask of global memory, by its tiles.
//!
//! A block reads the rows of A and the columns of B that its tile has, over all of K (in wgrad, over its split's part),
//! and nothing of them can come from another block. So A is read once for each tile of n, B once for each tile of m.
//! A patch's elements in the padding are in no memory. An image's pixel is under several of a filter's taps and counts
//! as often: the matrix of patches is what is read, and that its elements are the same bytes is the caches' affair.
//!
//! What lies together is read together, as a *run*: a pixel's channels under one tap, a row of the weights, as much of
//! either as the tile has. A run costs the 32-byte sectors that it touches. All tensors begin at a sector.
//!
//! A block that pools has the rows of whole windows; those that two blocks have, both read.
//!
//! In the epilogue a block reads its columns' bias once, or the mask of its results, and writes the results once. Where the sum
//! is split that is one result for each split, in float; in wgrad db is one more column, in fprop the bias is for those who add up.

use mlpconv::device::cuda::tiles::Tile;
use mlpconv::shape::{ConvShape, PoolShape};

/// Bytes of a sector, the unit of memory traffic.
pub const SECTOR: usize = 32;

/// What a launch reads and writes at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// In sectors, by its tiles.
    pub loads: usize,
    pub stores: usize,
    /// In bytes, if each tensor went over the bus once.
    pub tensors: usize,
}

/// The sectors that `len` elements of `width` bytes touch, from element `first`.
fn run(width: usize, first: usize, len: usize) -> usize {
    if len == 0 { 0 } else { ((first + len) * width).div_ceil(SECTOR) - first * width / SECTOR }
}

/// The tiles of `extent`: where each begins, and how much of it there is.
fn tiles(extent: usize, tile: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    (0..extent).step_by(tile).map(move |first| (first, tile.min(extent - first)))
}

/// Rows of `columns` elements, cut into tiles of columns.
fn rows(width: usize, rows: usize, columns: usize, tile: usize) -> usize {
    let row = |row: usize| tiles(columns, tile).map(move |(first, len)| run(width, row * columns + first, len));
    (0..rows).flat_map(row).sum()
}

/// Each output pixel and tap, with the input pixel that they meet in, if it is inside.
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

/// The pixels of each block that pools, of at most `most`: several images, or of an image the windows' rows.
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

/// The GEMM's m and n; of a kernel that pools, tiles' m.
pub fn product(pass: &str, g: &ConvShape, pool: &PoolShape, tile: &Tile) -> (usize, usize) {
    match pass {
        "maxpool_fprop" => (strips(pool, tile.m).len() * tile.m, g.k),
        "fprop" => (g.pixels(), g.k),
        "dgrad" => (g.n * g.h * g.w, g.c),
        _ => (g.k, g.taps()),
    }
}

/// What the kernel of `pass` needs with `tile`, where activations are of `width` bytes and the sum has `splits`.
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
            // A tile of n begins and ends anywhere in a tap's channels.
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

/// What the sum of fprop's parts needs. It is over elements, each of whose rows has the bias beside it.
pub fn activated(g: &ConvShape, width: usize, parts: usize) -> Traffic {
    let y = g.output().len();
    let stride = y.next_multiple_of(4);
    let loads: usize = (0..parts).map(|part| run(4, part * stride, y)).sum();
    let bias = g.pixels() * run(4, 0, g.k);
    Traffic { loads: loads + bias, stores: run(width, 0, y), tensors: (4 * parts + width) * y + 4 * g.k }
}

/// What the sum of dw's parts needs, behind each of which db's lies.
pub fn sum(g: &ConvShape, parts: usize) -> Traffic {
    let dw = g.weight().len();
    let stride = dw.next_multiple_of(4) + g.k.next_multiple_of(4);
    let loads = (0..parts).map(|part| run(4, part * stride, dw)).sum();
    Traffic { loads, stores: run(4, 0, dw), tensors: 4 * (parts + 1) * dw }
}

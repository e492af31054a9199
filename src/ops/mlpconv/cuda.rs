//! The block on a GPU: launches of `kernels/mlpconv.cu` in bf16, for shapes whose weights and image rows fit shared
//! memory.

use bytemuck::NoUninit;

use super::bands::{Bands, PooledRows};
use super::{ChainWanted, MlpConv, MlpConvShape, Params, composed};
use crate::Result;
use crate::device::cuda::tiles::{MLPCONV_BACKWARD_PIXELS, MLPCONV_CHANNELS, MLPCONV_FPROP_PIXELS, MLPCONV_WARPS};
use crate::device::cuda::{Args, Buf, Bytes, Cuda, Geometry, Limits, divisor};
use crate::device::{Device, Precision, Role};
use crate::ops::maxpool::MaxPool;
use crate::ops::{Verdict, conv2d};
use crate::shape::ConvShape;

const OP: &str = "mlpconv";

/// Bytes of a 96×96 matrix in bf16.
const SQUARE: usize = MLPCONV_CHANNELS * MLPCONV_CHANNELS * 2;

/// The layout of a block's operands in the kernels: extents as for one channel, and the lines in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BlockLayout {
    /// Extents of the convolution as one of a single channel: w, s, horizontal stride and padding times the channels.
    h: usize,
    w: usize,
    r: usize,
    s: usize,
    stride: [usize; 2],
    pad: [usize; 2],
    /// The filter in squares of 4×4 taps.
    squares: [usize; 2],
    /// Bytes of a line of w1 in shared memory.
    w1_pitch: usize,
    /// Elements of a line of the image in shared memory.
    pitch: usize,
    /// The element of column 0 in the line.
    origin: usize,
    /// Whether lines are copied 16 bytes at a time.
    whole: bool,
}

impl BlockLayout {
    /// The layout; the error is the reason why the kernels do not support the shape or gain nothing.
    ///
    /// * Channels: the kernels compute 96 columns of each product. The bound is memory, so unused columns cost nothing
    ///   as long as more than half are used.
    /// * Stride: they read two neighbouring taps at once, from an even element on, so the horizontal stride is even.
    /// * Memory: weights and image lines have to fit a block's shared memory, `memory` bytes.
    fn new(shape: &MlpConvShape, memory: usize) -> Verdict<Self> {
        let &ConvShape { h, w, c, r, s, q, stride, pad, .. } = &shape.conv;
        let channels = [shape.conv.k, shape.k2, shape.k3];
        let suit = |&k: &usize| k.is_multiple_of(8) && 2 * k > MLPCONV_CHANNELS && k <= MLPCONV_CHANNELS;
        // Larger extents cannot fit shared memory. Refusing them here rules out overflows below.
        let small = |&extent: &usize| extent < 1 << 14;
        if !channels.iter().all(suit) {
            return Err(format!(
                "{channels:?} channels are not multiples of 8 from {} to {MLPCONV_CHANNELS}",
                MLPCONV_CHANNELS / 2 + 8
            ));
        }
        if ![h, w, c, r, s, pad].iter().all(small) {
            return Err("an extent is too large for shared memory".into());
        }
        // Clamped: a stride beyond the padded image gives one window, as any larger stride does.
        let stride = stride.min((h.max(w) + 2 * pad).next_multiple_of(2));
        let (w, s, stride, pad) = (w * c, s * c, [stride, stride * c], [pad, pad * c]);
        if !stride[1].is_multiple_of(2) {
            return Err("the horizontal stride times the channels is odd".into());
        }
        let squares = [r.div_ceil(4), s.div_ceil(4)];
        // An odd number of 16-byte chunks, so neighbouring lines start in different banks.
        let w1_pitch = 32 * squares[0] * squares[1] + 16;
        // Windows begin at even elements: origin − pad is even. Column 0 is at a multiple of 8 if the padding is even.
        let origin = pad[1].next_multiple_of(8) + pad[1] % 2;
        let columns = origin - pad[1] + (q - 1) * stride[1] + 4 * squares[1];
        // An odd multiple of 64 bytes, half of the banks: lanes that read two neighbouring lines at once use different
        // halves.
        let pitch = columns.saturating_sub(32).next_multiple_of(64) + 32;
        let whole = w.is_multiple_of(8) && origin.is_multiple_of(8);
        let layout = BlockLayout { h, w, r, s, stride, pad, squares, w1_pitch, pitch, origin, whole };
        let needed = [false, true].map(|backward| layout.shared(&shape.conv, backward)).into_iter().max().unwrap_or(0);
        match needed <= memory {
            true => Ok(layout),
            false => Err(format!("a block would need {needed} bytes of shared memory, of {memory}")),
        }
    }

    /// The layout on a GPU with these limits.
    fn on(shape: &MlpConvShape, gpu: &Limits) -> Verdict<Self> {
        // Only in bf16 are a layer's sums laid out in registers as the next layer's operands. In fp32 and TF32 they are
        // not, and the weights take twice the shared memory.
        match gpu.precision {
            Precision::Bf16 => BlockLayout::new(shape, gpu.shared_memory),
            precision => Err(format!("the fused block is for bf16, not {precision}")),
        }
    }

    /// Bytes of shared memory: w2, w3, w1 and the image's lines; backward also two tiles of half a block's pixels each.
    fn shared(&self, conv: &ConvShape, backward: bool) -> usize {
        let pixels = if backward { MLPCONV_BACKWARD_PIXELS } else { MLPCONV_FPROP_PIXELS };
        // The most output rows that a tile's pixels lie in.
        let rows = ((pixels - 2) / conv.q + 2).min(conv.p);
        let image = ((rows - 1) * self.stride[0] + 4 * self.squares[0]) * self.pitch * 2;
        let tiles = if backward { pixels * MLPCONV_CHANNELS * 2 } else { 0 };
        2 * SQUARE + tiles + MLPCONV_CHANNELS * self.w1_pitch + image
    }
}

/// The kernels' `Extents`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extents {
    ints: [i32; 23],
    /// Divisors: q, tiles of an image, 16-byte chunks of an image's line, squares of a filter's line.
    divisors: [[u32; 3]; 4],
}

// SAFETY: an array of words has no padding.
unsafe impl NoUninit for Extents {}

/// The fewest blocks that finish `tiles` as soon as one block a multiprocessor would. Fewer blocks are better, because
/// each block loads all weights and leaves partial results.
fn blocks(tiles: usize, multiprocessors: usize) -> usize {
    tiles.div_ceil(tiles.div_ceil(multiprocessors))
}

/// The extents and launch geometry of one of the block's kernels. A pool adds to its shared memory.
struct Launch {
    extents: Extents,
    geometry: Geometry,
    /// Floats of a block's partial gradients of w3, b3, w2 and b2.
    stride: usize,
}

impl Launch {
    fn new(shape: &MlpConvShape, layout: &BlockLayout, backward: bool, multiprocessors: usize) -> Self {
        let &ConvShape { n, k, p, q, .. } = &shape.conv;
        let size = if backward { MLPCONV_BACKWARD_PIXELS } else { MLPCONV_FPROP_PIXELS };
        let (pixels, of_image) = (p * q, (p * q).div_ceil(size));
        let tiles = n * of_image;
        let blocks = blocks(tiles, multiprocessors);
        let stride = shape.k3 * (shape.k2 + 1) + shape.k2 * (k + 1);
        let BlockLayout { h, w, r, s, stride: [stride_y, stride_x], pad: [pad_y, pad_x], .. } = *layout;
        let BlockLayout { squares: [squares_y, squares_x], w1_pitch, pitch, origin, whole, .. } = *layout;
        let conv = [h, w, r, s, p, q, stride_y, stride_x, pad_y, pad_x];
        let output = [k, shape.k2, shape.k3, pixels, of_image, tiles];
        let shared = [squares_y, squares_x, w1_pitch, pitch, origin, whole.into(), stride];
        let mut ints = [0; 23];
        let all = conv.into_iter().chain(output).chain(shared);
        ints.iter_mut().zip(all).for_each(|(word, int)| *word = int as i32);
        Launch {
            extents: Extents { ints, divisors: [q, of_image, pitch / 8, squares_x].map(divisor) },
            geometry: Geometry {
                grid: [blocks, 1, 1],
                block: [32 * MLPCONV_WARPS, 1, 1],
                shared: layout.shared(&shape.conv, backward),
            },
            stride,
        }
    }
}

impl MlpConvShape {
    /// Whether the kernels take the shape on a GPU with these limits, its pool included; `relu` is whether the block ends in a
    /// ReLU. The error is the reason why not.
    pub(in crate::ops) fn suits(&self, relu: bool, gpu: &Limits) -> Verdict {
        let layout = BlockLayout::on(self, gpu)?;
        let Some(pool) = &self.pool else { return Ok(()) };
        if !relu {
            return Err("the block's pool orders values as a ReLU leaves them, and the block ends without one".into());
        }
        let (Some(bands), Some(rows)) = (Bands::new(pool, gpu.multiprocessors), PooledRows::new(pool)) else {
            return Err(format!(
                "the block pools 3x3 at stride 2, not {0}x{0} at stride {1}",
                pool.window, pool.stride
            ));
        };
        let forward = layout.shared(&self.conv, false) + bands.shared();
        let needed = forward.max(layout.shared(&self.conv, true) + rows.shared());
        match needed <= gpu.shared_memory {
            true => Ok(()),
            false => Err(format!("a block that pools needs {needed} bytes of shared memory, of {}", gpu.shared_memory)),
        }
    }
}

impl Cuda {
    /// Whether a block may use `bytes` bytes of shared memory.
    fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.device().shared_memory
    }
}

impl MlpConv for Cuda {
    fn mlpconv_fprop(
        &self,
        shape: &MlpConvShape,
        x: &Buf,
        params: Params<'_, Buf, 3>,
        y: &mut Buf,
        index: Option<&mut Bytes>,
    ) -> Result<()> {
        let Ok(layout) = BlockLayout::on(shape, &self.limits()) else {
            return composed::fprop(self, shape, x, params, y, index);
        };
        let Launch { extents, geometry, .. } = Launch::new(shape, &layout, false, self.multiprocessors());
        let bands = shape.pool.as_ref().and_then(|pool| Bands::new(pool, self.multiprocessors()));
        // The pool compares bf16 bits as integers, which orders values only if none is negative: after a ReLU.
        let bands = bands.filter(|bands| params.relu && self.has_room(geometry.shared + bands.shared()));
        if let (Some(pool), None) = (&shape.pool, &bands) {
            let mut whole = self.alloc(Role::Activation, shape.unpooled().len())?;
            self.mlpconv_fprop(&MlpConvShape { pool: None, ..*shape }, x, params, &mut whole, None)?;
            return self.maxpool_fprop(pool, &whole, y, index);
        }
        let x = self.operand(x)?;
        let [w1, w2, w3] = [self.operand(params.w[0])?, self.operand(params.w[1])?, self.operand(params.w[2])?];
        let [b1, b2, b3] =
            [self.operand_f32(params.b[0])?, self.operand_f32(params.b[1])?, self.operand_f32(params.b[2])?];
        let given = |args: Args| args.input(&x).input(&w1).input(&b1).input(&w2).input(&b2).input(&w3).input(&b3);
        let Some(bands) = bands else {
            return self.launch(
                OP,
                "mlpconv_fprop",
                geometry,
                given(Args::new().output(y)).flag(params.relu).value(extents),
            );
        };
        let blocks = blocks(bands.count(), self.multiprocessors());
        let geometry = Geometry { grid: [blocks, 1, 1], shared: geometry.shared + bands.shared(), ..geometry };
        let args = given(Args::new().rectified(y, true).optional_bytes_mut(index)).value(extents).value(bands.words());
        self.launch(OP, "mlpconv_maxpool_fprop", geometry, args)
    }

    fn mlpconv_backward(
        &self,
        shape: &MlpConvShape,
        x: &Buf,
        params: Params<'_, Buf, 3>,
        dy: &Buf,
        index: Option<&Bytes>,
        wanted: ChainWanted<'_, Buf, 3>,
    ) -> Result<()> {
        let Ok(layout) = BlockLayout::on(shape, &self.limits()) else {
            return composed::backward(self, shape, x, params, dy, index, wanted);
        };
        let Launch { extents, geometry, stride } = Launch::new(shape, &layout, true, self.multiprocessors());
        let pooled = shape.pool.as_ref().and_then(PooledRows::new).zip(index);
        let pooled = pooled.filter(|(rows, _)| self.has_room(geometry.shared + rows.shared()));
        let unpooled = match &shape.pool {
            Some(pool) if pooled.is_none() => Some(composed::unpool(self, pool, dy, index)?),
            _ => None,
        };
        let dy = unpooled.as_ref().unwrap_or(dy);
        let blocks = geometry.grid[0];
        let mut dz1 = self.alloc(Role::Activation, shape.conv.output().len())?;
        let parts = self.parts(blocks, stride)?;
        {
            let (x, dy) = (self.operand(x)?, self.operand(dy)?);
            let [w1, w2, w3] = [self.operand(params.w[0])?, self.operand(params.w[1])?, self.operand(params.w[2])?];
            let [b1, b2] = [self.operand_f32(params.b[0])?, self.operand_f32(params.b[1])?];
            let given = |args: Args| args.input(&w1).input(&b1).input(&w2).input(&b2).input(&w3).value(extents);
            let args = Args::new().output(&mut dz1).address(parts.address()).input(&x).input(&dy);
            match pooled {
                None => self.launch(OP, "mlpconv_backward", geometry, given(args))?,
                Some((rows, index)) => {
                    let geometry = Geometry { shared: geometry.shared + rows.shared(), ..geometry };
                    let args = given(args.bytes(index)).value(rows.words());
                    self.launch(OP, "mlpconv_maxpool_backward", geometry, args)?;
                }
            }
        }
        let ChainWanted { dx, layers: [first, of_second, of_third] } = wanted;
        // A part holds dw3, db3, dw2 and db2 one after the other. Channels are multiples of 8, and so are the offsets.
        let (second, third) = (shape.second(), shape.third());
        let mut start = 0;
        let thirds = [(of_third.dw, third.k * third.c), (of_third.db, third.k)];
        let seconds = [(of_second.dw, second.k * second.c), (of_second.db, second.k)];
        for (grad, len) in thirds.into_iter().chain(seconds) {
            if let Some(grad) = grad {
                self.result_in(grad, parts.behind(start)).finish()?;
            }
            start += len;
        }
        drop(parts);
        conv2d::gradients(self, &shape.conv, x, params.w[0], &dz1, dx, first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use crate::device::cuda::tiles::MLPCONV_D2L_SHARED;
    use crate::shape::Window;

    fn shape(x: [usize; 4], k: [usize; 3], filter: [usize; 2], stride: usize, pad: usize) -> MlpConvShape {
        let [n, c, h, w] = x;
        let weights = [Shape::weight(k[0], c, filter[0], filter[1]), Shape::weight(k[1], k[0], 1, 1)];
        let weights = [weights[0], weights[1], Shape::weight(k[2], k[1], 1, 1)];
        MlpConvShape::new(Shape::image(n, c, h, w), weights, Window { stride, pad }).unwrap()
    }

    /// Bytes of shared memory of a block on compute capabilities 8.6 and 8.9, the least since Ampere.
    const MEMORY: usize = 99 << 10;

    #[test]
    fn the_networks_first_block_fits_and_no_other() {
        let first = shape([128, 1, 224, 224], [96; 3], [11, 11], 4, 0);
        let layout = BlockLayout::new(&first, MEMORY).unwrap();
        assert_eq!((layout.squares, layout.pitch, layout.origin, layout.whole), ([3, 3], 224, 0, true));
        let [(_, fprop), (_, backward), ..] = MLPCONV_D2L_SHARED;
        assert_eq!((layout.shared(&first.conv, false), layout.shared(&first.conv, true)), (fprop, backward));
        assert_eq!(backward, MEMORY);
        for (backward, tiles, blocks) in [(false, 1536, 128), (true, 2944, 128)] {
            let launch = Launch::new(&first, &layout, backward, 132);
            assert_eq!((launch.extents.ints[15], launch.geometry.grid), (tiles, [blocks, 1, 1]));
            assert_eq!(launch.stride, 2 * 96 * 97);
        }
        assert_eq!(BlockLayout::new(&shape([128, 96, 26, 26], [256; 3], [5, 5], 1, 2), MEMORY).ok(), None);
        assert_eq!(BlockLayout::new(&shape([128, 256, 12, 12], [384; 3], [3, 3], 1, 1), MEMORY).ok(), None);
        assert_eq!(BlockLayout::new(&shape([128, 384, 5, 5], [10; 3], [3, 3], 1, 1), MEMORY).ok(), None);
    }

    #[test]
    fn unsupported_and_unprofitable_shapes_have_no_layout() {
        let layout =
            |k, filter, stride, pad| BlockLayout::new(&shape([1, 1, 224, 224], k, filter, stride, pad), MEMORY).ok();
        assert!(layout([56, 64, 96], [11, 11], 2, 3).is_some());
        for k in [[48, 96, 96], [96, 104, 96], [96, 96, 92]] {
            assert_eq!(layout(k, [11, 11], 4, 0), None, "{k:?}");
        }
        assert_eq!(layout([96; 3], [11, 11], 3, 0), None, "an odd stride");
        assert_eq!(layout([96; 3], [24, 24], 4, 0), None, "too large a filter");
        assert_eq!(layout([96; 3], [11, 11], 4, 1 << 20), None, "too much padding");
        assert_eq!(
            BlockLayout::new(&shape([1, 1, 224, 4096], [96; 3], [11, 11], 4, 0), MEMORY).ok(),
            None,
            "lines that are too long"
        );
    }

    /// The fused pool needs more shared memory than the 99 KiB of compute capabilities 8.6 and 8.9. 8.0 has 163 KiB and
    /// 9.0 has 227.
    #[test]
    fn the_networks_first_pool_fits_where_blocks_have_more_memory() {
        let mut first = shape([128, 1, 224, 224], [96; 3], [11, 11], 4, 0);
        first.conv = first.conv.cropped(53, 53);
        let first = first.pooled(3, 2).unwrap();
        let (layout, pool) = (BlockLayout::new(&first, MEMORY).unwrap(), first.pool.unwrap());
        let bands = Bands::new(&pool, 132).unwrap();
        let [.., (_, fprop), (_, backward)] = MLPCONV_D2L_SHARED;
        assert_eq!(layout.shared(&first.conv, false) + bands.shared(), fprop);
        assert_eq!(layout.shared(&first.conv, true) + PooledRows::new(&pool).unwrap().shared(), backward);
    }

    /// Every layout's windows stay within the lines in shared memory.
    #[test]
    fn windows_stay_within_their_lines() {
        for (x, filter, stride, pad) in [
            ([1, 1, 224, 224], [11, 11], 4, 0),
            ([2, 2, 9, 11], [3, 5], 1, 2),
            ([1, 1, 30, 31], [7, 1], 6, 9),
            ([3, 1, 1, 1], [1, 1], 2, 0),
        ] {
            let shape = shape(x, [96; 3], filter, stride, pad);
            let layout = BlockLayout::new(&shape, MEMORY).unwrap();
            let last = layout.origin - layout.pad[1] + (shape.conv.q - 1) * layout.stride[1] + 4 * layout.squares[1];
            assert!(last <= layout.pitch && layout.pitch % 64 == 32, "{layout:?}");
            assert!(layout.origin >= layout.pad[1] && (layout.origin - layout.pad[1]).is_multiple_of(2), "{layout:?}");
        }
    }
}

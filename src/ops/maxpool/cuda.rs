//! Max pooling on a GPU: launches of `kernels/maxpool.cu`.

use super::MaxPool;
use crate::Result;
use crate::device::Grad;
use crate::device::cuda::{Args, Buf, Bytes, Cuda, Geometry, channel_threads, divisor};
use crate::shape::PoolShape;

/// The kernels' `Pooling`: the extents, then the divisors that split a thread's number into channel, column and row. A
/// thread takes `lanes` channels; `columns` and `rows` are the extents of the tensor that threads are spread over.
fn pool(g: &PoolShape, lanes: usize, columns: usize, rows: usize) -> [u32; 16] {
    let mut words = [0; 16];
    // Clamped: a stride beyond the image gives one window, as any larger stride does.
    let extents = [g.h, g.w, g.c, g.p, g.q, g.window, g.stride.min(g.h.max(g.w))].map(|extent| extent as u32);
    words[..7].copy_from_slice(&extents);
    let divisors = [g.c / lanes, columns, rows].map(divisor);
    words[7..].copy_from_slice(divisors.as_flattened());
    words
}

impl MaxPool for Cuda {
    fn maxpool_fprop(&self, g: &PoolShape, x: &Buf, y: &mut Buf, index: Option<&mut Bytes>) -> Result<()> {
        let (threads, packs) = channel_threads(g.output().len(), g.c, self.vector());
        let (kernel, lanes) = if packs { ("maxpool_fprop_packs", self.vector()) } else { ("maxpool_fprop", 1) };
        let x = self.operand(x)?;
        let pool = pool(g, lanes, g.q, g.p);
        let args = Args::new().rectified(y, packs).optional_bytes_mut(index).input(&x).value(pool).int(threads);
        self.launch("maxpool", kernel, Geometry::linear(threads), args)
    }

    fn maxpool_dgrad(&self, g: &PoolShape, dy: &Buf, index: &Bytes, dx: &mut Grad<Buf>) -> Result<()> {
        let Gradient { kernel, pool, threads } = gradient(g, self.vector());
        let (dy, dx) = (self.operand(dy)?, self.result(dx)?);
        let accumulate = dx.accumulate();
        let args = Args::new().destination(&dx).input(&dy).bytes(index).value(pool).int(threads).flag(accumulate);
        self.launch("maxpool", kernel, Geometry::linear(threads), args)?;
        dx.finish()
    }
}

/// The launch of dgrad.
struct Gradient {
    kernel: &'static str,
    pool: [u32; 16],
    threads: usize,
}

fn gradient(g: &PoolShape, vector: usize) -> Gradient {
    let (threads, packs) = channel_threads(g.input().len(), g.c, vector);
    match (packs, g.window, g.stride) {
        (true, 3, 2) => {
            let (columns, rows) = (g.w.div_ceil(2), g.h.div_ceil(2));
            let threads = g.n * rows * columns * g.c / vector;
            Gradient { kernel: "maxpool_dgrad_3_2", pool: pool(g, vector, columns, rows), threads }
        }
        (true, ..) => Gradient { kernel: "maxpool_dgrad_packs", pool: pool(g, vector, g.w, g.h), threads },
        (false, ..) => Gradient { kernel: "maxpool_dgrad", pool: pool(g, 1, g.w, g.h), threads },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    #[test]
    fn extents_lie_as_the_kernel_reads_them() {
        let g = PoolShape::new("maxpool", Shape::image(2, 16, 9, 7), 3, 2).unwrap();
        let words = pool(&g, 8, g.w, g.h);
        assert_eq!(words[..7], [9, 7, 16, 4, 3, 3, 2]);
        assert_eq!([words[7], words[10], words[13]], [2, 7, 9]);
    }

    #[test]
    fn a_stride_beyond_the_kernels_ints_is_one_beyond_the_image() {
        let words = |stride| {
            let g = PoolShape::new("maxpool", Shape::image(2, 16, 9, 7), 3, stride).unwrap();
            pool(&g, 8, g.w, g.h)
        };
        assert_eq!([1 << 32, usize::MAX].map(words), [9, 9].map(words));
    }

    #[test]
    fn gradients_have_a_thread_for_each_pack_or_square_of_packs() {
        let of = |c, h, window, stride| {
            let g = PoolShape::new("maxpool", Shape::image(3, c, h, 7), window, stride).unwrap();
            let Gradient { kernel, pool, threads } = gradient(&g, 8);
            (kernel, [pool[7], pool[10], pool[13]], threads)
        };
        assert_eq!(of(16, 9, 3, 2), ("maxpool_dgrad_3_2", [2, 4, 5], 3 * 5 * 4 * 2));
        assert_eq!(of(16, 9, 3, 1), ("maxpool_dgrad_packs", [2, 7, 9], 3 * 9 * 7 * 2));
        assert_eq!(of(12, 9, 3, 2), ("maxpool_dgrad", [12, 7, 9], 3 * 9 * 7 * 12));
    }
}

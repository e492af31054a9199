//! Max pooling on the CPU. Channels are the inner loop, so that comparisons run over contiguous elements.

use rayon::prelude::*;

use super::MaxPool;
use crate::Result;
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::device::{Grad, Write};
use crate::shape::PoolShape;

/// The offset of each of a window's pixels from the window's first pixel, in elements of an NHWC image.
fn offsets(g: &PoolShape) -> Vec<usize> {
    let at = |i: usize| (i / g.window * g.w + i % g.window) * g.c;
    (0..g.window * g.window).map(at).collect()
}

/// The offset of each output pixel's window within an image, in elements.
fn windows(g: &PoolShape) -> impl Iterator<Item = usize> {
    let g = *g;
    (0..g.p * g.q).map(move |pixel| (pixel / g.q * g.w + pixel % g.q) * g.stride * g.c)
}

impl<T: Real> MaxPool for Cpu<T> {
    fn maxpool_fprop(&self, g: &PoolShape, x: &Buf<T>, y: &mut Buf<T>, index: Option<&mut Buf<u8>>) -> Result<()> {
        let offsets = offsets(g);
        let (input, output) = (g.h * g.w * g.c, g.p * g.q * g.c);
        let pool = |x: &[T], y: &mut [T]| {
            for (start, y) in windows(g).zip(y.chunks_exact_mut(g.c)) {
                y.copy_from_slice(&x[start..start + g.c]);
                for &offset in &offsets[1..] {
                    for (y, &x) in y.iter_mut().zip(&x[start + offset..start + offset + g.c]) {
                        *y = if x > *y || x.is_nan() { x } else { *y };
                    }
                }
            }
        };
        let pool_with_index = |x: &[T], y: &mut [T], index: &mut [u8]| {
            for ((start, y), index) in windows(g).zip(y.chunks_exact_mut(g.c)).zip(index.chunks_exact_mut(g.c)) {
                y.copy_from_slice(&x[start..start + g.c]);
                index.fill(0);
                for (position, &offset) in offsets.iter().enumerate().skip(1) {
                    let x = &x[start + offset..start + offset + g.c];
                    for ((y, index), &x) in y.iter_mut().zip(index.iter_mut()).zip(x) {
                        let greater = x > *y || x.is_nan();
                        *y = if greater { x } else { *y };
                        *index = if greater { position as u8 } else { *index };
                    }
                }
            }
        };
        self.run(|| {
            let images = y.par_chunks_mut(output).zip(x.par_chunks(input));
            match index {
                Some(index) => {
                    images.zip(index.par_chunks_mut(output)).for_each(|((y, x), index)| pool_with_index(x, y, index));
                }
                None => images.for_each(|(y, x)| pool(x, y)),
            }
        });
        Ok(())
    }

    fn maxpool_dgrad(&self, g: &PoolShape, dy: &Buf<T>, index: &Buf<u8>, dx: &mut Grad<Buf<T>>) -> Result<()> {
        let offsets = offsets(g);
        let (input, output, write) = (g.h * g.w * g.c, g.p * g.q * g.c, dx.write);
        self.run(|| {
            let gradients = dy.par_chunks(output).zip(index.par_chunks(output));
            dx.buf.par_chunks_mut(input).zip(gradients).for_each(|(dx, (dy, index))| {
                if write == Write::Overwrite {
                    dx.fill(T::zero());
                }
                for ((start, dy), index) in windows(g).zip(dy.chunks_exact(g.c)).zip(index.chunks_exact(g.c)) {
                    for (c, (&dy, &index)) in dy.iter().zip(index).enumerate() {
                        dx[start + offsets[usize::from(index)] + c] += dy;
                    }
                }
            });
        });
        Ok(())
    }
}

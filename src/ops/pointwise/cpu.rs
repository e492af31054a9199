//! The 1×1 convolution on the CPU: the library's GEMM over strips of pixels.

use rayon::prelude::*;

use super::{Pointwise, PointwiseShape};
use crate::Result;
use crate::device::Real;
use crate::device::cpu::epilogue::{self, Parts};
use crate::device::cpu::{Buf, Cpu, Mat, MatMut};
use crate::ops::{Grad, Write};

/// Pixels at a time: operand and result of a few hundred channels stay in the second-level cache.
const STRIP: usize = 256;

impl<T: Real> Pointwise for Cpu<T> {
    fn pointwise_fprop(
        &self,
        g: &PointwiseShape,
        x: &Buf<T>,
        w: &Buf<T>,
        bias: Option<&Buf<T>>,
        relu: bool,
        y: &mut Buf<T>,
    ) -> Result<()> {
        let weights = self.transposed(w, g.k, g.c)?;
        let weights = Mat::new(&weights, g.c, g.k);
        self.run(|| {
            y.par_chunks_mut(STRIP * g.k).zip(x.par_chunks(STRIP * g.c)).for_each(|(y, x)| {
                let pixels = x.len() / g.c;
                MatMut::new(y, pixels, g.k).product(Write::Overwrite, Mat::new(x, pixels, g.c), weights);
                epilogue::bias_relu(y, bias.map(|b| &**b), g.k, relu);
            });
        });
        Ok(())
    }

    fn pointwise_dgrad(
        &self,
        g: &PointwiseShape,
        dy: &Buf<T>,
        w: &Buf<T>,
        mask: Option<&Buf<T>>,
        dx: &mut Grad<Buf<T>>,
    ) -> Result<()> {
        let (weights, write) = (Mat::new(w, g.k, g.c), dx.write);
        self.run(|| {
            dx.buf.par_chunks_mut(STRIP * g.c).enumerate().for_each(|(i, dx)| {
                let (first, pixels) = (i * STRIP, dx.len() / g.c);
                let dy = &dy[first * g.k..(first + pixels) * g.k];
                MatMut::new(dx, pixels, g.c).product(write, Mat::new(dy, pixels, g.k), weights);
                if let Some(x) = mask {
                    epilogue::mask(dx, &x[first * g.c..][..dx.len()]);
                }
            });
        });
        Ok(())
    }

    fn pointwise_wgrad(
        &self,
        g: &PointwiseShape,
        x: &Buf<T>,
        dy: &Buf<T>,
        dw: Option<&mut Grad<Buf<T>>>,
        db: Option<&mut Grad<Buf<T>>>,
    ) -> Result<()> {
        // Each part's block holds its dw, then its db.
        let parts = Parts::new(g.m, g.k * g.c);
        let block = g.k * g.c + g.k;
        let mut blocks = self.alloc_numbers(parts.count * block)?;
        self.run(|| {
            blocks.par_chunks_mut(block).enumerate().for_each(|(part, block)| {
                let (block_dw, block_db) = block.split_at_mut(g.k * g.c);
                block_db.fill(T::zero());
                let mut write = Write::Overwrite;
                let pixels = parts.range(part);
                let (x, dy) = (&x[pixels.start * g.c..pixels.end * g.c], &dy[pixels.start * g.k..pixels.end * g.k]);
                for (x, dy) in x.chunks(STRIP * g.c).zip(dy.chunks(STRIP * g.k)) {
                    let pixels = x.len() / g.c;
                    let (x, rows) = (Mat::new(x, pixels, g.c), Mat::new(dy, pixels, g.k));
                    MatMut::new(block_dw, g.k, g.c).product(write, rows.t(), x);
                    epilogue::add_rows(block_db, dy);
                    write = Write::Accumulate;
                }
            });
        });
        if let Some(dw) = dw {
            parts.reduce(&blocks, block, 0, dw.write, &mut dw.buf);
        }
        if let Some(db) = db {
            parts.reduce(&blocks, block, g.k * g.c, db.write, &mut db.buf);
        }
        Ok(())
    }
}

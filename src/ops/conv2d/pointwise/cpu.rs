//! The 1×1 convolution on the CPU: the library's GEMM over strips of pixels.

use rayon::prelude::*;

use super::Gemm;
use crate::Result;
use crate::device::Real;
use crate::device::cpu::epilogue::{self, Parts};
use crate::device::cpu::{Buf, Cpu, Mat, MatMut};
use crate::device::{Grad, Write};
use crate::ops::{Affine, Wanted};

/// Pixels of a strip: operand and result of a few hundred channels stay in the second-level cache.
const STRIP: usize = 256;

pub(in super::super) fn fprop<T: Real>(
    cpu: &Cpu<T>,
    g: &Gemm,
    x: &Buf<T>,
    affine: Affine<'_, Buf<T>>,
    y: &mut Buf<T>,
) -> Result<()> {
    let Affine { w, bias, relu } = affine;
    let weights = cpu.transposed(w, g.k, g.c)?;
    let weights = Mat::new(&weights, g.c, g.k);
    cpu.run(|| {
        y.par_chunks_mut(STRIP * g.k).zip(x.par_chunks(STRIP * g.c)).for_each(|(y, x)| {
            let pixels = x.len() / g.c;
            MatMut::new(y, pixels, g.k).product(Write::Overwrite, Mat::new(x, pixels, g.c), weights);
            epilogue::bias_relu(y, bias.map(|b| &**b), g.k, relu);
        });
    });
    Ok(())
}

pub(in super::super) fn dgrad<T: Real>(
    cpu: &Cpu<T>,
    g: &Gemm,
    dy: &Buf<T>,
    w: &Buf<T>,
    dx: &mut Grad<Buf<T>>,
) -> Result<()> {
    let mask = dx.take_mask();
    let (weights, write) = (Mat::new(w, g.k, g.c), dx.write);
    cpu.run(|| {
        dx.buf.par_chunks_mut(STRIP * g.c).enumerate().for_each(|(i, dx)| {
            let (first, pixels) = (i * STRIP, dx.len() / g.c);
            let dy = &dy[first * g.k..(first + pixels) * g.k];
            MatMut::new(dx, pixels, g.c).product(write, Mat::new(dy, pixels, g.k), weights);
            if let Some(x) = &mask {
                epilogue::mask(dx, &x[first * g.c..][..dx.len()]);
            }
        });
    });
    Ok(())
}

pub(in super::super) fn wgrad<T: Real>(
    cpu: &Cpu<T>,
    g: &Gemm,
    x: &Buf<T>,
    dy: &Buf<T>,
    wanted: Wanted<'_, Buf<T>>,
) -> Result<()> {
    let Wanted { dw, db } = wanted;
    // A part's block holds its dw, then its db.
    let parts = Parts::new(g.m, g.k * g.c);
    let block = g.k * g.c + g.k;
    let mut blocks = cpu.alloc_numbers(parts.count * block)?;
    cpu.run(|| {
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

//! Convolution on the CPU: im2col of a strip that stays in the second-level cache, then the library's GEMM.

use std::ops::Range;

use rayon::prelude::*;

use super::pointwise::{self, Gemm};
use super::{Conv2d, im2col};
use crate::Result;
use crate::device::Real;
use crate::device::cpu::epilogue::{self, Parts};
use crate::device::cpu::{Buf, Cpu, Mat, MatMut};
use crate::device::{Grad, Write};
use crate::ops::{Affine, Wanted};
use crate::shape::ConvShape;

/// Elements of a strip of the im2col matrix: 512 KiB of f32, half of a common second-level cache.
const STRIP: usize = 1 << 17;

/// Output pixels of a strip of the im2col matrix, whose rows have `width` elements.
fn strip_pixels(width: usize) -> usize {
    (STRIP / width).clamp(16, 512)
}

/// Groups of filter rows: the rows of a group, and the number of groups. A group has about 512 columns of the im2col
/// matrix: enough for the GEMM, and few enough for a strip of many pixels.
fn filter_groups(g: &ConvShape) -> (usize, usize) {
    let rows = (512 / (g.s * g.c)).clamp(1, g.r);
    (rows, g.r.div_ceil(rows))
}

/// `range` in pieces of `step`, the last one shorter.
fn pieces(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |start| start..(start + step).min(end))
}

impl<T: Real> Conv2d for Cpu<T> {
    fn conv2d_fprop(&self, g: &ConvShape, x: &Buf<T>, affine: Affine<'_, Buf<T>>, y: &mut Buf<T>) -> Result<()> {
        if let Some(gemm) = Gemm::of(g) {
            return pointwise::cpu::fprop(self, &gemm, x, affine, y);
        }
        let Affine { w, bias, relu } = affine;
        let taps = g.taps();
        let strip = strip_pixels(taps);
        let scratch = self.scratch(strip * taps)?;
        let weights = self.transposed(w, g.k, taps)?;
        let weights = Mat::new(&weights, taps, g.k);
        self.run(|| {
            y.par_chunks_mut(strip * g.k).enumerate().for_each(|(i, y)| {
                let pixels = y.len() / g.k;
                let first = i * strip;
                let mut cols = scratch.get();
                im2col::gather(g, x, first..first + pixels, 0..g.r, &mut cols);
                MatMut::new(y, pixels, g.k).product(Write::Overwrite, Mat::new(&cols, pixels, taps), weights);
                epilogue::bias_relu(y, bias.map(|b| &**b), g.k, relu);
            });
        });
        Ok(())
    }

    fn conv2d_dgrad(&self, g: &ConvShape, dy: &Buf<T>, w: &Buf<T>, dx: &mut Grad<Buf<T>>) -> Result<()> {
        if let Some(gemm) = Gemm::of(g) {
            return pointwise::cpu::dgrad(self, &gemm, dy, w, dx);
        }
        let mask = dx.take_mask();
        let (filter_rows, _) = filter_groups(g);
        let row = g.s * g.c;
        let strip = strip_pixels(filter_rows * row);
        let scratch = self.scratch(strip * filter_rows * row)?;
        // Windows overlap within an image, so one task adds up a whole image.
        let (image, pixels, write) = (g.h * g.w * g.c, g.p * g.q, dx.write);
        let one = ConvShape { n: 1, ..*g };
        self.run(|| {
            dx.buf.par_chunks_mut(image).enumerate().for_each(|(n, dx)| {
                if write == Write::Overwrite {
                    dx.fill(T::zero());
                }
                let mut cols = scratch.get();
                for strip in pieces(0..pixels, strip) {
                    let dy = &dy[(n * pixels + strip.start) * g.k..(n * pixels + strip.end) * g.k];
                    let dy = Mat::new(dy, strip.len(), g.k);
                    for filter in pieces(0..g.r, filter_rows) {
                        let width = filter.len() * row;
                        let weights = Mat::strided(&w[filter.start * row..], g.k, width, g.taps());
                        MatMut::new(&mut cols, strip.len(), width).product(Write::Overwrite, dy, weights);
                        im2col::scatter_add(&one, &cols, strip.clone(), filter, dx);
                    }
                }
                if let Some(x) = &mask {
                    epilogue::mask(dx, &x[n * image..(n + 1) * image]);
                }
            });
        });
        Ok(())
    }

    fn conv2d_wgrad(&self, g: &ConvShape, x: &Buf<T>, dy: &Buf<T>, wanted: Wanted<'_, Buf<T>>) -> Result<()> {
        if let Some(gemm) = Gemm::of(g) {
            return pointwise::cpu::wgrad(self, &gemm, x, dy, wanted);
        }
        let Wanted { dw, db } = wanted;
        // A task takes one part of the batch's pixels and one group of filter rows. Its block holds the group's columns
        // of dw, then db. Blocks are added up in the order of the parts, so the bits do not depend on threads.
        let (filter_rows, groups) = filter_groups(g);
        let row = g.s * g.c;
        let width = filter_rows * row;
        let parts = Parts::new(g.pixels(), g.k * g.taps());
        let block = g.k * width + g.k;
        let mut blocks = self.alloc_numbers(parts.count * groups * block)?;
        let strip = strip_pixels(width);
        let scratch = self.scratch(strip * width)?;
        self.run(|| {
            blocks.par_chunks_mut(block).enumerate().for_each(|(task, block)| {
                let (part, group) = (task / groups, task % groups);
                let filter = group * filter_rows..((group + 1) * filter_rows).min(g.r);
                let width = filter.len() * row;
                let (block_dw, block_db) = block.split_at_mut(block.len() - g.k);
                block_db.fill(T::zero());
                let mut write = Write::Overwrite;
                let mut cols = scratch.get();
                for strip in pieces(parts.range(part), strip) {
                    let dy = &dy[strip.start * g.k..strip.end * g.k];
                    im2col::gather(g, x, strip.clone(), filter.clone(), &mut cols);
                    let cols = Mat::new(&cols, strip.len(), width);
                    MatMut::new(block_dw, g.k, width).product(write, Mat::new(dy, strip.len(), g.k).t(), cols);
                    if group == 0 {
                        epilogue::add_rows(block_db, dy);
                    }
                    write = Write::Accumulate;
                }
            });
            if let Some(dw) = dw {
                let write = dw.write;
                dw.buf.par_chunks_mut(row).enumerate().for_each(|(i, dw)| {
                    let (k, r) = (i / g.r, i % g.r);
                    let (group, r) = (r / filter_rows, r % filter_rows);
                    let width = (g.r - group * filter_rows).min(filter_rows) * row;
                    let start = group * block + k * width + r * row;
                    parts.reduce(&blocks, groups * block, start, write, dw);
                });
            }
        });
        if let Some(db) = db {
            parts.reduce(&blocks, groups * block, block - g.k, db.write, &mut db.buf);
        }
        Ok(())
    }
}

//! Flatten on the CPU: the transpose of each image from `[H·W, C]` to `[C, H·W]`, and back for dgrad.

use rayon::prelude::*;

use super::Flatten;
use crate::device::Grad;
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::{Result, Shape};

impl<T: Real> Flatten for Cpu<T> {
    fn flatten_fprop(&self, shape: Shape, x: &Buf<T>, y: &mut Buf<T>) -> Result<()> {
        let (c, pixels) = (shape.c(), shape.h() * shape.w());
        self.run(|| {
            y.par_chunks_mut(c * pixels).zip(x.par_chunks(c * pixels)).for_each(|(y, x)| {
                for (i, y) in y.iter_mut().enumerate() {
                    *y = x[i % pixels * c + i / pixels];
                }
            });
        });
        Ok(())
    }

    fn flatten_dgrad(&self, shape: Shape, dy: &Buf<T>, dx: &mut Grad<Buf<T>>) -> Result<()> {
        let (c, pixels, write) = (shape.c(), shape.h() * shape.w(), dx.write);
        self.run(|| {
            dx.buf.par_chunks_mut(c * pixels).zip(dy.par_chunks(c * pixels)).for_each(|(dx, dy)| {
                for (i, dx) in dx.iter_mut().enumerate() {
                    *dx = write.onto(*dx, dy[i % c * pixels + i / c]);
                }
            });
        });
        Ok(())
    }
}

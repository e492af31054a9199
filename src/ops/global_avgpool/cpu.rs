//! Global average pooling on the CPU.

use rayon::prelude::*;

use super::GlobalAvgPool;
use crate::device::Grad;
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu, epilogue};
use crate::{Result, Shape};

fn inverse_pixels<T: Real>(shape: Shape) -> T {
    T::from_f64(1.0 / (shape.h() * shape.w()) as f64)
}

impl<T: Real> GlobalAvgPool for Cpu<T> {
    fn global_avgpool_fprop(&self, shape: Shape, x: &Buf<T>, y: &mut Buf<T>) -> Result<()> {
        let (c, scale) = (shape.c(), inverse_pixels::<T>(shape));
        self.run(|| {
            y.par_chunks_mut(c).zip(x.par_chunks(shape.h() * shape.w() * c)).for_each(|(y, x)| {
                y.fill(T::zero());
                epilogue::add_rows(y, x);
                y.iter_mut().for_each(|y| *y *= scale);
            });
        });
        Ok(())
    }

    fn global_avgpool_dgrad(&self, shape: Shape, dy: &Buf<T>, dx: &mut Grad<Buf<T>>) -> Result<()> {
        let mask = dx.take_mask();
        let (c, scale, write) = (shape.c(), inverse_pixels::<T>(shape), dx.write);
        let image = shape.h() * shape.w() * c;
        self.run(|| {
            dx.buf.par_chunks_mut(image).zip(dy.par_chunks(c)).enumerate().for_each(|(n, (dx, dy))| {
                for dx in dx.chunks_exact_mut(c) {
                    for (dx, &dy) in dx.iter_mut().zip(dy) {
                        *dx = write.onto(*dx, dy * scale);
                    }
                }
                if let Some(x) = &mask {
                    epilogue::mask(dx, &x[n * image..(n + 1) * image]);
                }
            });
        });
        Ok(())
    }
}

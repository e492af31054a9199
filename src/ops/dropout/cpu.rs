//! Dropout on the CPU.

use rayon::prelude::*;

use super::{Dropout, Mask};
use crate::Result;
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::device::{Grad, Write};

/// Elements of a task: a multiple of four, because one Philox counter yields four words.
const PIECE: usize = 1 << 14;

impl<T: Real> Cpu<T> {
    fn apply(&self, mask: &Mask, src: &[T], write: Write, dst: &mut [T]) {
        let scale = T::from_f64(mask.scale);
        self.run(|| {
            dst.par_chunks_mut(PIECE).zip(src.par_chunks(PIECE)).enumerate().for_each(|(piece, (dst, src))| {
                for (block, (dst, src)) in dst.chunks_mut(4).zip(src.chunks(4)).enumerate() {
                    let words = mask.stream.block((piece * PIECE / 4 + block) as u32);
                    for ((dst, &src), word) in dst.iter_mut().zip(src).zip(words) {
                        let kept = if word < mask.threshold { T::zero() } else { src * scale };
                        *dst = write.onto(*dst, kept);
                    }
                }
            });
        });
    }
}

impl<T: Real> Dropout for Cpu<T> {
    fn dropout_fprop(&self, mask: &Mask, x: &Buf<T>, y: &mut Buf<T>) -> Result<()> {
        self.apply(mask, x, Write::Overwrite, y);
        Ok(())
    }

    fn dropout_dgrad(&self, mask: &Mask, dy: &Buf<T>, dx: &mut Grad<Buf<T>>) -> Result<()> {
        self.apply(mask, dy, dx.write, &mut dx.buf);
        Ok(())
    }
}

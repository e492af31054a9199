//! ReLU on the CPU.

use super::Relu;
use crate::Result;
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::ops::{Grad, Write};

impl<T: Real> Relu for Cpu<T> {
    fn relu_fprop(&self, x: &Buf<T>, y: &mut Buf<T>) -> Result<()> {
        self.zip(y, x, |y, x| *y = if x < T::zero() { T::zero() } else { x });
        Ok(())
    }

    fn relu_dgrad(&self, y: &Buf<T>, dy: &Buf<T>, dx: &mut Grad<Buf<T>>) -> Result<()> {
        match dx.write {
            // What is there is masked already, and masking twice does no harm.
            Write::Accumulate => self.zip(&mut dx.buf, dy, |dx, dy| *dx += dy),
            Write::Overwrite => dx.buf.copy_from_slice(dy),
        }
        self.relu_mask(y, &mut dx.buf)
    }

    fn relu_mask(&self, y: &Buf<T>, dy: &mut Buf<T>) -> Result<()> {
        self.zip(dy, y, |dy, y| *dy = if y > T::zero() { *dy } else { T::zero() });
        Ok(())
    }
}

//! ReLU on the CPU.

use super::Relu;
use crate::Result;
use crate::device::cpu::{Buf, Cpu};
use crate::device::{Device, Grad, Real, Write};

impl<T: Real> Relu for Cpu<T> {
    fn relu_fprop(&self, x: &Buf<T>, y: &mut Buf<T>) -> Result<()> {
        self.zip(y, x, |y, x| *y = if x < T::zero() { T::zero() } else { x });
        Ok(())
    }

    fn relu_dgrad(&self, y: &Buf<T>, dy: &Buf<T>, dx: &mut Grad<Buf<T>>) -> Result<()> {
        if dx.write == Write::Overwrite {
            dx.buf.copy_from_slice(dy);
            return self.relu_mask(y, &mut dx.buf);
        }
        // `y` masks only this op's addend: earlier contributions to the input's gradient stay where `y` is zero.
        self.zip_pairs(&mut dx.buf, y, dy, |dx, y, dy| *dx += if y > T::zero() { dy } else { T::zero() });
        Ok(())
    }
}

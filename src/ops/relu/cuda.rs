//! ReLU on a GPU: launches of `kernels/relu.cu`.

use super::Relu;
use crate::Result;
use crate::device::Buffer;
use crate::device::Grad;
use crate::device::cuda::{Args, Buf, Cuda, Geometry};

impl Relu for Cuda {
    fn relu_fprop(&self, x: &Buf, y: &mut Buf) -> Result<()> {
        let (x, len) = (self.operand(x)?, x.len());
        let args = Args::new().output(y).input(&x).int(len);
        self.launch("relu", "relu_fprop", Geometry::linear(len.div_ceil(self.vector())), args)
    }

    fn relu_dgrad(&self, y: &Buf, dy: &Buf, dx: &mut Grad<Buf>) -> Result<()> {
        let len = y.len();
        let (y, dy, dx) = (self.operand(y)?, self.operand(dy)?, self.result(dx)?);
        let accumulate = dx.accumulate();
        let args = Args::new().destination(&dx).input(&y).input(&dy).int(len).flag(accumulate);
        self.launch("relu", "relu_dgrad", Geometry::linear(len.div_ceil(self.vector())), args)?;
        dx.finish()
    }
}

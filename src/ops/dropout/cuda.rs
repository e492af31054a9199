//! Dropout on a GPU: launches of `kernels/dropout.cu`.

use super::{Dropout, Mask};
use crate::Result;
use crate::device::Buffer;
use crate::device::Grad;
use crate::device::cuda::{Args, Buf, Cuda, Geometry, Set};

impl Cuda {
    /// The arguments after the tensors, in both directions: the random stream, threshold, scale and length.
    fn dropout_args<'a>(&'a self, args: Args, mask: &Mask, len: usize) -> Result<(Args, Set<'a>)> {
        let ([low, high], [step, epoch, purpose]) = mask.stream.words();
        let position = self.position(epoch, step)?;
        let args = args.address(position.address).value([low, high, purpose]);
        Ok((args.value(mask.threshold).float(mask.scale as f32).int(len), position))
    }
}

impl Dropout for Cuda {
    fn dropout_fprop(&self, mask: &Mask, x: &Buf, y: &mut Buf) -> Result<()> {
        let (x, len) = (self.operand(x)?, x.len());
        let (args, _position) = self.dropout_args(Args::new().output(y).input(&x), mask, len)?;
        self.launch("dropout", "dropout_fprop", Geometry::linear(len.div_ceil(self.vector())), args)
    }

    fn dropout_dgrad(&self, mask: &Mask, dy: &Buf, dx: &mut Grad<Buf>) -> Result<()> {
        let len = dy.len();
        let (dy, dx) = (self.operand(dy)?, self.result(dx)?);
        let accumulate = dx.accumulate();
        let (args, position) = self.dropout_args(Args::new().destination(&dx).input(&dy), mask, len)?;
        let geometry = Geometry::linear(len.div_ceil(self.vector()));
        self.launch("dropout", "dropout_dgrad", geometry, args.flag(accumulate))?;
        drop(position);
        dx.finish()
    }
}

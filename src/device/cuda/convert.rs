//! Between a precision's storage type and fp32, on the device. Activations are stored in the one, parameters in the other,
//! and kernels expect each where it usually is; what is otherwise goes through a temporary.

use std::ops::Deref;

use super::launch::{Args, Geometry};
use super::{Buf, Cuda, Storage};
use crate::Result;
use crate::device::{Buffer, Device, Role};
use crate::ops::{Grad, Write};

/// A kernel's input in the storage type that it expects.
pub(crate) enum Operand<'a> {
    AsItIs(&'a Buf),
    Cast(Buf),
}

impl Deref for Operand<'_> {
    type Target = Buf;

    fn deref(&self) -> &Buf {
        match self {
            Operand::AsItIs(buf) => buf,
            Operand::Cast(buf) => buf,
        }
    }
}

/// A kernel's output in the storage type that it writes.
pub(crate) struct Destination<'a> {
    cuda: Cuda,
    grad: &'a mut Grad<Buf>,
    /// What the kernel writes instead, to be cast.
    temporary: Option<Buf>,
}

impl Destination<'_> {
    /// What the kernel is to write to.
    pub(crate) fn buf(&mut self) -> &mut Buf {
        self.temporary.as_mut().unwrap_or(&mut self.grad.buf)
    }

    /// Whether the kernel is to add.
    pub(crate) fn accumulate(&self) -> bool {
        self.temporary.is_none() && self.grad.write == Write::Accumulate
    }

    /// After the kernel's launch: brings the result to where it belongs.
    pub(crate) fn finish(self) -> Result<()> {
        match self.temporary {
            Some(temporary) => self.cuda.cast(&temporary, &mut self.grad.buf, self.grad.write),
            None => Ok(()),
        }
    }
}

impl Cuda {
    /// Activations that kernels move in one access, of 16 bytes.
    pub(crate) fn vector(&self) -> usize {
        16 / self.storage(Role::Activation).width()
    }

    /// Whether `buf` is stored as activations are.
    pub(crate) fn is_activation(&self, buf: &Buf) -> bool {
        buf.storage == self.storage(Role::Activation)
    }

    /// `buf` as an activation is stored: itself, or the copy that a parameter has of its own, or a cast one.
    pub(crate) fn operand<'a>(&self, buf: &'a Buf) -> Result<Operand<'a>> {
        self.stored(buf, Role::Activation)
    }

    /// `buf` in fp32: itself, or a cast one.
    pub(crate) fn operand_f32<'a>(&self, buf: &'a Buf) -> Result<Operand<'a>> {
        self.stored(buf, Role::Parameter)
    }

    fn stored<'a>(&self, buf: &'a Buf, role: Role) -> Result<Operand<'a>> {
        if buf.storage == self.storage(role) {
            return Ok(Operand::AsItIs(buf));
        }
        if let (Role::Activation, Some(copy)) = (role, &buf.copy) {
            return Ok(Operand::AsItIs(copy));
        }
        let mut cast = self.alloc(role, buf.len())?;
        self.cast(buf, &mut cast, Write::Overwrite)?;
        Ok(Operand::Cast(cast))
    }

    /// Where a kernel writes a gradient as activations are stored.
    pub(crate) fn result<'a>(&self, grad: &'a mut Grad<Buf>) -> Result<Destination<'a>> {
        self.destination(grad, Role::Activation)
    }

    /// Where a kernel writes a gradient in fp32.
    pub(crate) fn result_f32<'a>(&self, grad: &'a mut Grad<Buf>) -> Result<Destination<'a>> {
        self.destination(grad, Role::Parameter)
    }

    fn destination<'a>(&self, grad: &'a mut Grad<Buf>, role: Role) -> Result<Destination<'a>> {
        let fits = grad.buf.storage == self.storage(role);
        let temporary = if fits { None } else { Some(self.alloc(role, grad.buf.len())?) };
        Ok(Destination { cuda: self.clone(), grad, temporary })
    }

    /// `to` becomes `from`, or has it added, rounded to how `to` is stored.
    pub(super) fn cast(&self, from: &Buf, to: &mut Buf, write: Write) -> Result<()> {
        let kernel = match (from.storage, to.storage) {
            (Storage::F32, Storage::Bf16) => "cast_to_storage",
            (Storage::Bf16, Storage::F32) => "cast_to_float",
            _ => unreachable!("a cast is between two types"),
        };
        let (len, accumulate) = (from.len(), write == Write::Accumulate);
        let args = Args::new().output(to).input(from).int(len).flag(accumulate);
        self.launch("cast", kernel, Geometry::linear(len.div_ceil(self.vector())), args)
    }
}

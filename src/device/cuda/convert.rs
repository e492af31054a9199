//! Conversion between a precision's storage type and fp32, on the device. Activations have the storage type, parameters
//! fp32, and each argument of a kernel expects one of the two. An argument of the other type goes through a temporary.

use std::marker::PhantomData;

use cudarc::driver::sys::CUdeviceptr;

use super::buf::Storage;
use super::launch::{Args, Geometry};
use super::parts::Parts;
use super::{Buf, Cuda};
use crate::Result;
use crate::device::{Buffer, Device, Role};
use crate::device::{Grad, Write};

/// A kernel's input in the type that the kernel expects. The numbers stay at the address until this is dropped.
pub(crate) struct Operand<'a> {
    address: CUdeviceptr,
    _cast: Option<Buf>,
    _as_it_is: PhantomData<&'a Buf>,
}

impl Operand<'_> {
    pub(crate) fn address(&self) -> CUdeviceptr {
        self.address
    }
}

/// The mask of a gradient: a ReLU's output, as values or as signs.
pub(crate) enum MaskedBy<'a> {
    Nothing,
    Values(Operand<'a>),
    /// Their address, valid as long as the buffer.
    Signs(CUdeviceptr, PhantomData<&'a Buf>),
}

impl MaskedBy<'_> {
    /// The addresses of the values and of the signs; 0 for none.
    pub(super) fn addresses(&self) -> [CUdeviceptr; 2] {
        match self {
            MaskedBy::Nothing => [0, 0],
            MaskedBy::Values(values) => [values.address(), 0],
            MaskedBy::Signs(signs, _) => [0, *signs],
        }
    }
}

/// A gradient as a kernel's output, in the type that the kernel writes.
pub(crate) struct Destination<'a> {
    cuda: Cuda,
    grad: &'a mut Grad<Buf>,
    address: CUdeviceptr,
    way: Way,
}

/// The way from the kernel's output to the gradient.
enum Way {
    /// The kernel writes the gradient itself.
    Direct,
    /// The kernel writes a temporary, which is cast.
    Cast(Buf),
    /// The kernel leaves parts, which are summed at once or later.
    Parts(Parts),
}

impl Destination<'_> {
    /// The address that the kernel writes to.
    pub(crate) fn address(&self) -> CUdeviceptr {
        self.address
    }

    /// Whether the kernel adds to the old value.
    pub(crate) fn accumulate(&self) -> bool {
        matches!(self.way, Way::Direct) && self.grad.write == Write::Accumulate
    }

    /// After the kernel's launch: casts the result or hands the parts to the gradient.
    pub(crate) fn finish(self) -> Result<()> {
        let Grad { buf, write, .. } = self.grad;
        match self.way {
            Way::Direct => Ok(()),
            Way::Cast(result) => self.cuda.cast(&result, buf, *write),
            Way::Parts(parts) => self.cuda.leave_in(parts, buf, *write),
        }
    }
}

impl Args {
    /// A kernel's input.
    pub(crate) fn input(self, operand: &Operand<'_>) -> Self {
        self.address(operand.address())
    }

    /// An input, or null.
    pub(crate) fn optional(self, operand: Option<&Operand<'_>>) -> Self {
        self.address(operand.map_or(0, Operand::address))
    }

    /// What masks a gradient: the kernels' `MaskedBy`.
    pub(crate) fn masked_by(self, mask: &MaskedBy<'_>) -> Self {
        self.value(mask.addresses())
    }

    /// A gradient to be overwritten or added to.
    pub(crate) fn destination(self, to: &Destination<'_>) -> Self {
        self.address(to.address())
    }
}

impl Cuda {
    /// Activations in an access of 16 bytes.
    pub(crate) fn vector(&self) -> usize {
        16 / self.storage(Role::Activation).width()
    }

    /// Whether `buf` has the type of activations.
    pub(crate) fn is_activation(&self, buf: &Buf) -> bool {
        buf.storage() == self.storage(Role::Activation)
    }

    /// `buf` in the type of activations: itself, a parameter's copy, or a cast temporary.
    pub(crate) fn operand<'a>(&self, buf: &'a Buf) -> Result<Operand<'a>> {
        self.stored(buf, Role::Activation)
    }

    /// `buf` in fp32: itself, or a cast temporary.
    pub(crate) fn operand_f32<'a>(&self, buf: &'a Buf) -> Result<Operand<'a>> {
        self.stored(buf, Role::Parameter)
    }

    fn stored<'a>(&self, buf: &'a Buf, role: Role) -> Result<Operand<'a>> {
        let copy = if role == Role::Activation { buf.copy() } else { None };
        let fitting = [Some(buf), copy].into_iter().flatten().find(|buf| buf.storage() == self.storage(role));
        if let Some(buf) = fitting {
            return Ok(Operand { address: self.settled(buf)?, _cast: None, _as_it_is: PhantomData });
        }
        let mut cast = self.alloc(role, buf.len())?;
        self.cast(buf, &mut cast, Write::Overwrite)?;
        Ok(Operand { address: self.settled(&cast)?, _cast: Some(cast), _as_it_is: PhantomData })
    }

    /// `mask` for a kernel that masks a gradient: its signs where it has them, else its values.
    pub(crate) fn masked_by<'a>(&self, mask: Option<&'a Buf>) -> Result<MaskedBy<'a>> {
        Ok(match mask {
            None => MaskedBy::Nothing,
            Some(mask) if mask.signs() != 0 => MaskedBy::Signs(mask.signs(), PhantomData),
            Some(mask) => MaskedBy::Values(self.operand(mask)?),
        })
    }

    /// The destination of a kernel that writes a gradient in the type of activations.
    pub(crate) fn result<'a>(&self, grad: &'a mut Grad<Buf>) -> Result<Destination<'a>> {
        self.destination(grad, Role::Activation)
    }

    /// The destination of a kernel that writes a gradient in fp32.
    pub(crate) fn result_f32<'a>(&self, grad: &'a mut Grad<Buf>) -> Result<Destination<'a>> {
        self.destination(grad, Role::Parameter)
    }

    /// The destination of a kernel that leaves a gradient in `parts`.
    pub(crate) fn result_in<'a>(&self, grad: &'a mut Grad<Buf>, parts: Parts) -> Destination<'a> {
        Destination { cuda: self.clone(), grad, address: parts.address(), way: Way::Parts(parts) }
    }

    fn destination<'a>(&self, grad: &'a mut Grad<Buf>, role: Role) -> Result<Destination<'a>> {
        let (address, way) = if grad.buf.storage() == self.storage(role) {
            (self.written(&mut grad.buf, grad.write)?, Way::Direct)
        } else {
            let mut result = self.alloc(role, grad.buf.len())?;
            (result.overwritten(), Way::Cast(result))
        };
        Ok(Destination { cuda: self.clone(), grad, address, way })
    }

    /// `to` becomes `from`, or has it added, rounded to the type of `to`.
    pub(super) fn cast(&self, from: &Buf, to: &mut Buf, write: Write) -> Result<()> {
        let kernel = match (from.storage(), to.storage()) {
            (Storage::F32, Storage::Tf32 | Storage::Bf16) => "cast_to_storage",
            (Storage::Tf32 | Storage::Bf16, Storage::F32) => "cast_to_float",
            _ => unreachable!("a cast is between two types"),
        };
        let (len, accumulate) = (from.len(), write == Write::Accumulate);
        let (from, to) = (self.settled(from)?, self.written(to, write)?);
        let args = Args::new().address(to).address(from).int(len).flag(accumulate);
        self.launch("cast", kernel, Geometry::linear(len.div_ceil(self.vector())), args)
    }
}

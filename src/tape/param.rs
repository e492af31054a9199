//! Trainable tensors.

use std::sync::Arc;

use super::unique;
use crate::device::{Device, Role};
use crate::{Error, Result, Shape};

/// Identifies a parameter, uniquely in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(u64);

/// A trainable tensor of a network.
pub struct Param<B: Device> {
    pub(super) id: ParamId,
    pub(super) shape: Shape,
    pub(super) data: Arc<B::Buf>,
    /// The parameter's learning rate is the optimiser's rate times this factor, which is zero or positive, and finite;
    /// 1 by default.
    pub rate_multiplier: B::Scalar,
    /// The parameter's weight decay is the optimiser's times this factor, which is zero or positive, and finite; 1 by default.
    pub decay_multiplier: B::Scalar,
}

impl<B: Device> Param<B> {
    /// A parameter with the given values, in memory order (weights KRSC).
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of values is not the shape's.
    pub fn new(backend: &B, shape: Shape, values: &[B::Scalar]) -> Result<Self> {
        require_values(shape, values)?;
        let (id, data) = (ParamId(unique()), Arc::new(backend.upload(Role::Parameter, values)?));
        let one = num_traits::One::one();
        Ok(Param { id, shape, data, rate_multiplier: one, decay_multiplier: one })
    }

    pub(crate) fn id(&self) -> ParamId {
        self.id
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The values, in memory order (weights KRSC).
    pub fn data(&self) -> &B::Buf {
        &self.data
    }

    /// Replaces the values in place; they are in memory order.
    ///
    /// # Errors
    /// As [`Param::new`]; [`Error::ParameterInUse`] while a variable of some tape shares the data.
    pub fn set(&mut self, backend: &B, values: &[B::Scalar]) -> Result<()> {
        require_values(self.shape, values)?;
        let in_use = || Error::ParameterInUse { op: "parameter", name: format!("of shape {}", self.shape) };
        backend.write(Arc::get_mut(&mut self.data).ok_or_else(in_use)?, values)
    }

    /// The values, for an update in place; `None` while a variable of some tape shares them.
    pub(crate) fn data_mut(&mut self) -> Option<&mut B::Buf> {
        Arc::get_mut(&mut self.data)
    }
}

fn require_values<S>(shape: Shape, values: &[S]) -> Result<()> {
    if values.len() == shape.len() {
        return Ok(());
    }
    Err(Error::shape("parameter", format!("{} values for a {shape}", values.len())))
}

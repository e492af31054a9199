//! An optimiser's state tensors: one for each parameter, kept from update to update.

use std::collections::HashMap;

use crate::Backend;
use crate::device::Role;
use crate::tape::{Param, ParamId};
use crate::{Error, Result};

/// One state tensor for each parameter, of its shape, such as the velocities. A tensor never moves, because recorded
/// updates contain its address.
pub(super) struct Kept<B: Backend> {
    tensors: HashMap<ParamId, B::Buf>,
}

impl<B: Backend> Kept<B> {
    pub(super) fn new() -> Self {
        Kept { tensors: HashMap::new() }
    }

    /// The missing tensors, filled with zeros, for [`Kept::add`]: an update first makes all that it needs, so that one which
    /// fails leaves nothing behind.
    pub(super) fn missing(&self, backend: &B, params: &[(String, &mut Param<B>)]) -> Result<Vec<(ParamId, B::Buf)>> {
        let absent = params.iter().filter(|(_, param)| !self.tensors.contains_key(&param.id()));
        let zeros = absent.map(|(_, param)| {
            let mut zeros = backend.alloc_lasting(Role::Parameter, param.shape().len())?;
            backend.fill(&mut zeros, num_traits::Zero::zero())?;
            Ok((param.id(), zeros))
        });
        zeros.collect()
    }

    pub(super) fn add(&mut self, tensors: Vec<(ParamId, B::Buf)>) {
        self.tensors.extend(tensors);
    }

    /// Mutable references to all tensors at once, by parameter.
    pub(super) fn lend(&mut self) -> HashMap<ParamId, &mut B::Buf> {
        self.tensors.iter_mut().map(|(&id, tensor)| (id, tensor)).collect()
    }

    /// A parameter's tensor; `None` before the first update.
    pub(super) fn get(&self, param: &Param<B>) -> Option<&B::Buf> {
        self.tensors.get(&param.id())
    }

    /// Sets a parameter's tensor to `values`, in memory order: in place, if it exists.
    ///
    /// # Errors
    /// [`Error::Shape`] that names `optimizer` and tensor `name`, if the number of values is not the parameter's.
    pub(super) fn set(
        &mut self,
        backend: &B,
        param: &Param<B>,
        values: &[B::Scalar],
        [optimizer, name]: [&'static str; 2],
    ) -> Result<()> {
        if values.len() != param.shape().len() {
            return Err(Error::shape(optimizer, format!("{} values of {name} for a {}", values.len(), param.shape())));
        }
        if let Some(tensor) = self.tensors.get_mut(&param.id()) {
            return backend.write(tensor, values);
        }
        self.tensors.insert(param.id(), backend.upload(Role::Parameter, values)?);
        Ok(())
    }
}

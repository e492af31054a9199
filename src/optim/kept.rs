//! Tensors that an optimiser keeps from update to update, one for each parameter.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::Backend;
use crate::device::Role;
use crate::tape::{Param, ParamId};
use crate::{Error, Result};

/// One tensor for each parameter, of its shape, such as the velocities. A tensor stays where it is once it is there:
/// recorded updates name its address.
pub(super) struct Kept<B: Backend> {
    tensors: HashMap<ParamId, B::Buf>,
}

impl<B: Backend> Kept<B> {
    pub(super) fn new() -> Self {
        Kept { tensors: HashMap::new() }
    }

    /// Sees to it that each parameter has one: zeros, where there was none.
    pub(super) fn begin(&mut self, backend: &B, params: &[(String, &mut Param<B>)]) -> Result<()> {
        for (_, param) in params {
            if let Entry::Vacant(absent) = self.tensors.entry(param.id()) {
                let mut zeros = backend.alloc(Role::Parameter, param.shape().len())?;
                backend.fill(&mut zeros, num_traits::Zero::zero())?;
                absent.insert(zeros);
            }
        }
        Ok(())
    }

    /// All of them at once, each to be lent out once.
    pub(super) fn lend(&mut self) -> HashMap<ParamId, &mut B::Buf> {
        self.tensors.iter_mut().map(|(&id, tensor)| (id, tensor)).collect()
    }

    pub(super) fn get(&self, param: &Param<B>) -> Option<&B::Buf> {
        self.tensors.get(&param.id())
    }

    /// # Errors
    /// [`Error::Shape`] that names `optimizer` and tensor `name`, if there are more or fewer values than the parameter has.
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

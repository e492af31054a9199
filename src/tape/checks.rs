//! The checks of a tape: every value is looked at as it is computed, and the first that is not finite is named.

use std::collections::HashMap;

use crate::device::{Device, Real, Role};
use crate::error::{NotFinite, Place};
use crate::{Result, Shape};

/// What a checked tape knows of its ops.
#[derive(Default)]
pub(super) struct Checks {
    /// The layers that are running; `None` outside of a plan.
    pub(super) layer: Option<String>,
    /// The op of each value, with its layers, by slot.
    origins: HashMap<usize, (&'static str, Option<String>)>,
    /// A parameter that is not finite. The next op reports it, since taking a parameter cannot fail.
    pending: Option<NotFinite>,
}

/// A gradient that a backward half has written.
pub(super) struct Written {
    pub(super) id: usize,
    pub(super) shape: Shape,
    pub(super) role: Role,
}

impl Checks {
    pub(super) fn input<B: Device>(&self, backend: &B, shape: Shape, data: &B::Buf) -> Result<()> {
        require_finite(backend, data, || Place::Input { shape: shape.to_string() })
    }

    pub(super) fn parameter<B: Device>(&mut self, backend: &B, shape: Shape, data: &B::Buf) {
        let place = || Place::Parameter { shape: shape.to_string(), layer: self.layer.clone() };
        // A download that fails here fails in the next op as well.
        let found = find(backend, data, place).ok().flatten();
        self.pending = self.pending.take().or(found);
    }

    /// Value `id` is about to be computed by `op`.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite) for a parameter that was taken since the last op.
    pub(super) fn made(&mut self, id: usize, op: &'static str) -> Result<()> {
        self.origins.insert(id, (op, self.layer.clone()));
        self.pending.take().map_or(Ok(()), |found| Err(found.into()))
    }

    pub(super) fn output<B: Device>(&self, backend: &B, id: usize, data: &B::Buf) -> Result<()> {
        let (op, layer) = self.origin(id);
        require_finite(backend, data, || Place::Forward { op, layer })
    }

    /// Looks at the gradients that the backward half of value `id` has written.
    pub(super) fn gradients<B: Device>(
        &self,
        backend: &B,
        id: usize,
        slots: &[Option<B::Buf>],
        written: Option<Vec<Written>>,
    ) -> Result<()> {
        for Written { id: of, shape, role } in written.into_iter().flatten() {
            let Some(gradient) = &slots[of] else { continue };
            let (op, layer) = self.origin(id);
            let of = match role {
                Role::Parameter => format!("parameter {shape}"),
                Role::Activation => format!("input {shape}"),
            };
            require_finite(backend, gradient, || Place::Backward { op, layer, of })?;
        }
        Ok(())
    }

    fn origin(&self, id: usize) -> (&'static str, Option<String>) {
        self.origins.get(&id).cloned().unwrap_or_default()
    }
}

fn find<B: Device>(backend: &B, buf: &B::Buf, place: impl FnOnce() -> Place) -> Result<Option<NotFinite>> {
    let (mut nan, mut infinite) = (0, 0);
    let values = backend.download(buf)?;
    for value in &values {
        nan += usize::from(value.to_f64().is_nan());
        infinite += usize::from(value.to_f64().is_infinite());
    }
    Ok((nan + infinite > 0).then(|| NotFinite { place: place(), nan, infinite, len: values.len() }))
}

fn require_finite<B: Device>(backend: &B, buf: &B::Buf, place: impl FnOnce() -> Place) -> Result<()> {
    find(backend, buf, place)?.map_or(Ok(()), |found| Err(found.into()))
}

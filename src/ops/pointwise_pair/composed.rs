//! The pair as its two convolutions, and with a mean as the pair and the average, with what is between them in memory.

use super::{PairShape, Params, PointwisePair, Wanted};
use crate::Result;
use crate::device::Role;
use crate::ops::pointwise::{Pointwise, PointwiseShape};
use crate::ops::{Grad, Write};

fn hidden<B: Pointwise>(backend: &B, shape: &PairShape, x: &B::Buf, params: &Params<'_, B::Buf, 2>) -> Result<B::Buf> {
    let mut hidden = backend.alloc(Role::Activation, shape.m * shape.k2)?;
    backend.pointwise_fprop(&shape.second(), x, params.w[0], Some(params.b[0]), true, &mut hidden)?;
    Ok(hidden)
}

pub(super) fn fprop<B: PointwisePair>(
    backend: &B,
    shape: &PairShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf, 2>,
    relu: bool,
    y: &mut B::Buf,
) -> Result<()> {
    if let Some(images) = shape.averaged() {
        let whole = whole(backend, shape, x, params, relu)?;
        return backend.global_avgpool_fprop(images, &whole, y);
    }
    let hidden = hidden(backend, shape, x, params)?;
    backend.pointwise_fprop(&shape.third(), &hidden, params.w[1], Some(params.b[1]), relu, y)
}

/// What a mean is wanted of.
fn whole<B: PointwisePair>(
    backend: &B,
    shape: &PairShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf, 2>,
    relu: bool,
) -> Result<B::Buf> {
    let mut whole = backend.alloc(Role::Activation, shape.m * shape.k3)?;
    backend.pointwise_pair_fprop(&PairShape { mean: None, ..*shape }, x, params, relu, &mut whole)?;
    Ok(whole)
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward<B: PointwisePair>(
    backend: &B,
    shape: &PairShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf, 2>,
    dy: &B::Buf,
    relu: bool,
    mask: bool,
    wanted: Wanted<'_, B::Buf, 2>,
) -> Result<()> {
    if let Some(images) = shape.averaged() {
        let whole = if relu { Some(whole(backend, shape, x, params, relu)?) } else { None };
        let mut dy_whole = Grad::new(backend.alloc(Role::Activation, images.len())?, Write::Overwrite);
        backend.global_avgpool_dgrad(images, dy, whole.as_ref(), &mut dy_whole)?;
        drop(whole);
        let shape = PairShape { mean: None, ..*shape };
        return backend.pointwise_pair_backward(&shape, x, params, &dy_whole.buf, relu, mask, wanted);
    }
    let hidden = hidden(backend, shape, x, params)?;
    let Wanted { dx, dw: [dw2, dw3], db: [db2, db3] } = wanted;
    wgrad(backend, &shape.third(), &hidden, dy, dw3, db3)?;
    let mut dz = Grad::new(backend.alloc(Role::Activation, shape.m * shape.k2)?, Write::Overwrite);
    backend.pointwise_dgrad(&shape.third(), dy, params.w[1], Some(&hidden), &mut dz)?;
    drop(hidden);
    wgrad(backend, &shape.second(), x, &dz.buf, dw2, db2)?;
    match dx {
        Some(dx) => backend.pointwise_dgrad(&shape.second(), &dz.buf, params.w[0], mask.then_some(x), dx),
        None => Ok(()),
    }
}

fn wgrad<B: Pointwise>(
    backend: &B,
    shape: &PointwiseShape,
    x: &B::Buf,
    dy: &B::Buf,
    dw: Option<&mut Grad<B::Buf>>,
    db: Option<&mut Grad<B::Buf>>,
) -> Result<()> {
    if dw.is_some() || db.is_some() { backend.pointwise_wgrad(shape, x, dy, dw, db) } else { Ok(()) }
}

//! The block as its first convolution, the pair of 1×1 convolutions and its pool, with what is between them in memory.

use super::{MlpConvShape, Params, Wanted};
use crate::device::Role;
use crate::ops::conv2d::Conv2d;
use crate::ops::maxpool::MaxPool;
use crate::ops::pointwise::{Pointwise, PointwiseShape};
use crate::ops::pointwise_pair::PointwisePair;
use crate::ops::{Grad, Write};
use crate::shape::PoolShape;
use crate::{Error, Result};

/// The first convolution's output.
fn a1<B: Conv2d + Pointwise>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf, 3>,
) -> Result<B::Buf> {
    let PointwiseShape { m, c: k, .. } = shape.second();
    let mut a1 = backend.alloc(Role::Activation, m * k)?;
    let (w, bias) = (params.w[0], Some(params.b[0]));
    if shape.conv.is_pointwise() {
        backend.pointwise_fprop(&PointwiseShape { m, c: shape.conv.c, k }, x, w, bias, true, &mut a1)?;
    } else {
        backend.conv2d_fprop(&shape.conv, x, w, bias, true, &mut a1)?;
    }
    Ok(a1)
}

/// The second and the third convolution's parameters.
fn others<'a, Buf>(params: &Params<'a, Buf, 3>) -> Params<'a, Buf, 2> {
    let Params { w: [_, w2, w3], b: [_, b2, b3] } = *params;
    Params { w: [w2, w3], b: [b2, b3] }
}

pub(super) fn fprop<B: Conv2d + PointwisePair>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf, 3>,
    relu: bool,
    y: &mut B::Buf,
    index: Option<&mut B::Bytes>,
) -> Result<()> {
    let a1 = a1(backend, shape, x, params)?;
    let Some(pool) = &shape.pool else {
        return backend.pointwise_pair_fprop(&shape.pair(), &a1, &others(params), relu, y);
    };
    let mut a2 = backend.alloc(Role::Activation, shape.conv.pixels() * shape.k2)?;
    backend.pointwise_fprop(&shape.second(), &a1, params.w[1], Some(params.b[1]), true, &mut a2)?;
    drop(a1);
    backend.pointwise_maxpool_fprop(&shape.third(), pool, &a2, params.w[2], Some(params.b[2]), relu, y, index)
}

/// The gradient of the third convolution's output, from that of the pool's.
pub(super) fn unpool<B: MaxPool>(
    backend: &B,
    pool: &PoolShape,
    dy: &B::Buf,
    index: Option<&B::Bytes>,
) -> Result<B::Buf> {
    let missing = || Error::shape("mlpconv", "the gradient of a pool needs the positions of its maxima".to_owned());
    let mut dx = Grad::new(backend.alloc(Role::Activation, pool.input().len())?, Write::Overwrite);
    backend.maxpool_dgrad(pool, dy, index.ok_or_else(missing)?, &mut dx)?;
    Ok(dx.buf)
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward<B: Conv2d + PointwisePair>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf, 3>,
    dy: &B::Buf,
    index: Option<&B::Bytes>,
    mask: Option<&B::Buf>,
    wanted: Wanted<'_, B::Buf, 3>,
) -> Result<()> {
    let unpooled = shape.pool.as_ref().map(|pool| unpool(backend, pool, dy, index)).transpose()?;
    let dy = unpooled.as_ref().unwrap_or(dy);
    let Wanted { dx, dw: [dw1, dw2, dw3], db: [db1, db2, db3] } = wanted;
    let a1 = a1(backend, shape, x, params)?;
    let mut da1 = Grad::new(backend.alloc(Role::Activation, shape.second().m * shape.second().c)?, Write::Overwrite);
    let wanted = Wanted { dx: Some(&mut da1), dw: [dw2, dw3], db: [db2, db3] };
    backend.pointwise_pair_backward(&shape.pair(), &a1, &others(params), dy, false, true, wanted)?;
    drop(a1);
    first(backend, shape, x, params, &da1.buf, mask, dx, dw1, db1)
}

/// The first convolution's gradients, from that of its output.
#[allow(clippy::too_many_arguments)]
pub(super) fn first<B: Conv2d>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf, 3>,
    dy: &B::Buf,
    mask: Option<&B::Buf>,
    dx: Option<&mut Grad<B::Buf>>,
    dw: Option<&mut Grad<B::Buf>>,
    db: Option<&mut Grad<B::Buf>>,
) -> Result<()> {
    if dw.is_some() || db.is_some() {
        backend.conv2d_wgrad(&shape.conv, x, dy, dw, db)?;
    }
    match dx {
        Some(dx) => backend.conv2d_dgrad(&shape.conv, dy, params.w[0], mask, dx),
        None => Ok(()),
    }
}

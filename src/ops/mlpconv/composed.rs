//! The block as its three convolutions and its pool, with what is between them in memory.

use super::{MlpConvShape, Params, Wanted};
use crate::device::Role;
use crate::ops::conv2d::Conv2d;
use crate::ops::maxpool::MaxPool;
use crate::ops::pointwise::{Pointwise, PointwiseShape};
use crate::ops::{Grad, Write};
use crate::shape::PoolShape;
use crate::{Error, Result};

/// The first two convolutions' outputs.
fn hidden<B: Conv2d + Pointwise>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf>,
) -> Result<(B::Buf, B::Buf)> {
    let PointwiseShape { m, c, k } = shape.second();
    let mut a1 = backend.alloc(Role::Activation, m * c)?;
    if shape.conv.is_pointwise() {
        let first = PointwiseShape { m, c: shape.conv.c, k: c };
        backend.pointwise_fprop(&first, x, params.w[0], Some(params.b[0]), true, &mut a1)?;
    } else {
        backend.conv2d_fprop(&shape.conv, x, params.w[0], Some(params.b[0]), true, &mut a1)?;
    }
    let mut a2 = backend.alloc(Role::Activation, m * k)?;
    backend.pointwise_fprop(&shape.second(), &a1, params.w[1], Some(params.b[1]), true, &mut a2)?;
    Ok((a1, a2))
}

pub(super) fn fprop<B: Conv2d + Pointwise>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf>,
    relu: bool,
    y: &mut B::Buf,
    index: Option<&mut B::Bytes>,
) -> Result<()> {
    let (_, a2) = hidden(backend, shape, x, params)?;
    let (third, w, bias) = (shape.third(), params.w[2], Some(params.b[2]));
    match &shape.pool {
        Some(pool) => backend.pointwise_maxpool_fprop(&third, pool, &a2, w, bias, relu, y, index),
        None => backend.pointwise_fprop(&third, &a2, w, bias, relu, y),
    }
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
pub(super) fn backward<B: Conv2d + Pointwise>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf>,
    dy: &B::Buf,
    index: Option<&B::Bytes>,
    mask: Option<&B::Buf>,
    wanted: Wanted<'_, B::Buf>,
) -> Result<()> {
    let unpooled = shape.pool.as_ref().map(|pool| unpool(backend, pool, dy, index)).transpose()?;
    let dy = unpooled.as_ref().unwrap_or(dy);
    let (a1, a2) = hidden(backend, shape, x, params)?;
    let [dw1, dw2, dw3] = wanted.dw;
    let [db1, db2, db3] = wanted.db;
    let da2 = pointwise(backend, &shape.third(), &a2, params.w[2], dy, dw3, db3)?;
    drop(a2);
    let da1 = pointwise(backend, &shape.second(), &a1, params.w[1], &da2, dw2, db2)?;
    first(backend, shape, x, params, &da1, mask, wanted.dx, dw1, db1)
}

/// A 1×1 convolution's gradients: those of its parameters, and that of its rectified input.
fn pointwise<B: Pointwise>(
    backend: &B,
    shape: &PointwiseShape,
    input: &B::Buf,
    w: &B::Buf,
    dy: &B::Buf,
    dw: Option<&mut Grad<B::Buf>>,
    db: Option<&mut Grad<B::Buf>>,
) -> Result<B::Buf> {
    if dw.is_some() || db.is_some() {
        backend.pointwise_wgrad(shape, input, dy, dw, db)?;
    }
    let mut dx = Grad::new(backend.alloc(Role::Activation, shape.m * shape.c)?, Write::Overwrite);
    backend.pointwise_dgrad(shape, dy, w, Some(input), &mut dx)?;
    Ok(dx.buf)
}

/// The first convolution's gradients, from that of its output.
#[allow(clippy::too_many_arguments)]
pub(super) fn first<B: Conv2d>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: &Params<'_, B::Buf>,
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

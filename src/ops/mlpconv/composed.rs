//! The block composed of other ops: the first convolution, the pair of 1×1 convolutions, and the pool. The values
//! between them are stored in memory.

use std::sync::Arc;

use super::{ChainWanted, MlpConv, MlpConvShape, Params};
use crate::device::{Grad, Role, Write};
use crate::ops::conv2d::{self, Conv2d};
use crate::ops::maxpool::MaxPool;
use crate::shape::PoolShape;
use crate::{Error, Result};

/// The first convolution's output after its ReLU.
fn a1<B: Conv2d>(backend: &B, shape: &MlpConvShape, x: &B::Buf, params: Params<'_, B::Buf, 3>) -> Result<B::Buf> {
    let mut a1 = backend.alloc(Role::Activation, shape.conv.output().len())?;
    backend.conv2d_fprop(&shape.conv, x, params.layer(0), &mut a1)?;
    Ok(a1)
}

/// The parameters of the second and third convolution.
fn others<'a, Buf>(params: Params<'a, Buf, 3>) -> Params<'a, Buf, 2> {
    let Params { w: [_, w2, w3], b: [_, b2, b3], relu } = params;
    Params { w: [w2, w3], b: [b2, b3], relu }
}

pub(super) fn fprop<B: MlpConv>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: Params<'_, B::Buf, 3>,
    y: &mut B::Buf,
    index: Option<&mut B::Bytes>,
) -> Result<()> {
    let a1 = a1(backend, shape, x, params)?;
    // The same kernels with a pool as without one, and as in the backward pass, which computes the pair again.
    let pair = |y: &mut B::Buf| backend.pointwise_pair_fprop(&shape.pair(), &a1, others(params), y);
    let Some(pool) = &shape.pool else { return pair(y) };
    let mut whole = backend.alloc(Role::Activation, shape.unpooled().len())?;
    pair(&mut whole)?;
    backend.maxpool_fprop(pool, &whole, y, index)
}

/// dgrad of the pool: the gradient of the third convolution's output, from that of the pool's output.
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

pub(super) fn backward<B: MlpConv>(
    backend: &B,
    shape: &MlpConvShape,
    x: &B::Buf,
    params: Params<'_, B::Buf, 3>,
    dy: &B::Buf,
    index: Option<&B::Bytes>,
    wanted: ChainWanted<'_, B::Buf, 3>,
) -> Result<()> {
    let unpooled = shape.pool.as_ref().map(|pool| unpool(backend, pool, dy, index)).transpose()?;
    let dy = unpooled.as_ref().unwrap_or(dy);
    let ChainWanted { dx, layers: [wanted, second, third] } = wanted;
    let a1 = Arc::new(a1(backend, shape, x, params)?);
    let da1 = Grad::new(backend.alloc(Role::Activation, shape.conv.output().len())?, Write::Overwrite);
    let mut da1 = da1.masked_by(a1.clone());
    let pair = ChainWanted { dx: Some(&mut da1), layers: [second, third] };
    backend.pointwise_pair_backward(&shape.pair(), &a1, others(params), dy, pair)?;
    drop(a1);
    let da1 = da1.finish(backend)?;
    conv2d::gradients(backend, &shape.conv, x, params.w[0], &da1, dx, wanted)
}

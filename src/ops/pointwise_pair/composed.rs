//! The pair composed of other ops: its two convolutions, or with a mean the pair without a mean and the global average
//! pool. The values between them are stored in memory.

use std::sync::Arc;

use super::{ChainWanted, PairShape, Params, PointwisePair};
use crate::Result;
use crate::device::{Grad, Role, Write};
use crate::ops::conv2d::{self, Conv2d};

/// The first convolution's output, `[m, k2]`.
fn hidden<B: Conv2d>(backend: &B, shape: &PairShape, x: &B::Buf, params: Params<'_, B::Buf, 2>) -> Result<B::Buf> {
    let mut hidden = backend.alloc(Role::Activation, shape.m * shape.k2)?;
    backend.conv2d_fprop(&shape.second(), x, params.layer(0), &mut hidden)?;
    Ok(hidden)
}

pub(super) fn fprop<B: PointwisePair>(
    backend: &B,
    shape: &PairShape,
    x: &B::Buf,
    params: Params<'_, B::Buf, 2>,
    y: &mut B::Buf,
) -> Result<()> {
    if let Some(images) = shape.averaged() {
        let whole = whole(backend, shape, x, params)?;
        return backend.global_avgpool_fprop(images, &whole, y);
    }
    let hidden = hidden(backend, shape, x, params)?;
    backend.conv2d_fprop(&shape.third(), &hidden, params.layer(1), y)
}

/// The pair's output before the mean, `[m, k3]`.
fn whole<B: PointwisePair>(
    backend: &B,
    shape: &PairShape,
    x: &B::Buf,
    params: Params<'_, B::Buf, 2>,
) -> Result<B::Buf> {
    let mut whole = backend.alloc(Role::Activation, shape.m * shape.k3)?;
    backend.pointwise_pair_fprop(&PairShape { mean: None, ..*shape }, x, params, &mut whole)?;
    Ok(whole)
}

pub(super) fn backward<B: PointwisePair>(
    backend: &B,
    shape: &PairShape,
    x: &B::Buf,
    params: Params<'_, B::Buf, 2>,
    dy: &B::Buf,
    wanted: ChainWanted<'_, B::Buf, 2>,
) -> Result<()> {
    if let Some(images) = shape.averaged() {
        let mut dy_whole = Grad::new(backend.alloc(Role::Activation, images.len())?, Write::Overwrite);
        if params.relu {
            dy_whole = dy_whole.masked_by(whole(backend, shape, x, params)?.into());
        }
        backend.global_avgpool_dgrad(images, dy, &mut dy_whole)?;
        let (shape, dy_whole) = (PairShape { mean: None, ..*shape }, dy_whole.finish(backend)?);
        return backend.pointwise_pair_backward(&shape, x, params, &dy_whole, wanted);
    }
    let hidden = Arc::new(hidden(backend, shape, x, params)?);
    let ChainWanted { dx, layers: [second, third] } = wanted;
    let dz = Grad::new(backend.alloc(Role::Activation, shape.m * shape.k2)?, Write::Overwrite);
    let mut dz = dz.masked_by(hidden.clone());
    conv2d::gradients(backend, &shape.third(), &hidden, params.w[1], dy, Some(&mut dz), third)?;
    drop(hidden);
    let dz = dz.finish(backend)?;
    conv2d::gradients(backend, &shape.second(), x, params.w[0], &dz, dx, second)
}

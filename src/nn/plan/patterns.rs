//! The table of patterns of layers that fused ops cover, and the choice of a step from it.

use super::{Kernel, Kind, PassedOver, Planned, Step};
use crate::ops::fusion::{Fusion, Verdict};
use crate::ops::mlpconv::MlpConvShape;
use crate::ops::pointwise_pair::PairShape;
use crate::shape::{ConvShape, PoolShape};
use crate::tape::ParamId;
use crate::{Result, Shape};

/// A pattern's requirement of one layer.
#[derive(Clone, Copy)]
enum Link {
    /// A convolution that ends in a ReLU.
    ConvRelu,
    /// A 1×1 convolution that ends in a ReLU.
    PointwiseRelu,
    /// A 1×1 convolution, with a ReLU or without.
    Pointwise,
    MaxPool,
    GlobalAvgPool,
}

/// Consecutive layers that a fused op covers.
struct Pattern {
    name: &'static str,
    links: &'static [Link],
}

/// All patterns, the longest first.
const PATTERNS: [Pattern; 5] = {
    use Link::*;
    [
        Pattern { name: "mlpconv + maxpool", links: &[ConvRelu, PointwiseRelu, Pointwise, MaxPool] },
        Pattern { name: "mlpconv", links: &[ConvRelu, PointwiseRelu, Pointwise] },
        Pattern { name: "1x1 pair + mean", links: &[PointwiseRelu, Pointwise, GlobalAvgPool] },
        Pattern { name: "1x1 pair", links: &[PointwiseRelu, Pointwise] },
        Pattern { name: "1x1 + maxpool", links: &[Pointwise, MaxPool] },
    ]
};

/// The step that begins at layer `first`, whose input has shape `x`.
pub(super) fn step(layers: &[Planned], first: usize, x: Shape, fuses: &dyn Fn(&Fusion) -> Verdict) -> Result<Step> {
    let mut passed_over = Vec::new();
    for &Pattern { name, links } in &PATTERNS {
        let Some(run) = layers.get(first..first + links.len()) else { continue };
        let extents = extents(run, x)?;
        if !links.iter().zip(run).zip(&extents).all(|((link, layer), extents)| link.fits(layer, extents)) {
            continue;
        }
        let verdict = if shares_parameters(run) {
            Err("two of the layers share their parameters".into())
        } else {
            let fusion = fusion(links, &extents);
            fuses(&fusion).map(|()| fusion)
        };
        match verdict {
            Ok(fusion) => {
                return Ok(Step { kernel: fusion.into(), layers: first..first + links.len(), passed_over });
            }
            Err(why) => passed_over.push(PassedOver { pattern: name, why }),
        }
    }
    let layer = &layers[first];
    let kernel = match (&layer.kind, &extents(&layers[first..=first], x)?[0]) {
        (_, Extents::Conv(shape)) => Kernel::Conv2d(*shape),
        (_, Extents::Pool(shape)) => Kernel::MaxPool(*shape),
        (Kind::GlobalAvgPool, _) => Kernel::GlobalAvgPool,
        (Kind::Relu, _) => Kernel::Relu,
        (Kind::Dropout(probability), _) => Kernel::Dropout(*probability),
        (Kind::Flatten, _) => Kernel::Flatten,
        (Kind::Conv2d { .. } | Kind::MaxPool { .. } | Kind::Custom(_), _) => Kernel::Custom,
    };
    Ok(Step { kernel, layers: first..first + 1, passed_over })
}

/// The extents of a layer's op.
#[derive(Clone, Copy)]
enum Extents {
    Conv(ConvShape),
    Pool(PoolShape),
    /// The input's shape, for an op without extents of its own.
    Input(Shape),
}

/// The extents of consecutive layers; the first has an input of shape `x`.
fn extents(run: &[Planned], mut x: Shape) -> Result<Vec<Extents>> {
    run.iter()
        .map(|layer| {
            let extents = match layer.kind {
                Kind::MaxPool { window, stride } => Extents::Pool(PoolShape::new("maxpool", x, window, stride)?),
                _ => layer.conv(x)?.map_or(Extents::Input(x), Extents::Conv),
            };
            x = layer.live;
            Ok(extents)
        })
        .collect()
}

impl Link {
    /// Whether a layer meets the requirement.
    fn fits(self, layer: &Planned, extents: &Extents) -> bool {
        let rectified = matches!(layer.kind, Kind::Conv2d { relu: true, .. });
        match (self, extents) {
            (Link::ConvRelu, Extents::Conv(_)) => rectified,
            (Link::PointwiseRelu, Extents::Conv(shape)) => shape.is_gemm() && rectified,
            (Link::Pointwise, Extents::Conv(shape)) => shape.is_gemm(),
            (Link::MaxPool, Extents::Pool(_)) => true,
            (Link::GlobalAvgPool, Extents::Input(_)) => layer.kind == Kind::GlobalAvgPool,
            _ => false,
        }
    }
}

/// Whether two layers have a parameter in common. A fused op writes all gradients at the same time, so it cannot have
/// one parameter twice.
fn shares_parameters(run: &[Planned]) -> bool {
    let ids = |layer: &Planned| match layer.kind {
        Kind::Conv2d { params, .. } => params.to_vec(),
        _ => Vec::new(),
    };
    let ids: Vec<ParamId> = run.iter().flat_map(ids).collect();
    (1..ids.len()).any(|i| ids[..i].contains(&ids[i]))
}

/// The fusion of layers with these extents, which fit `links`.
fn fusion(links: &[Link], extents: &[Extents]) -> Fusion {
    use Extents::{Conv, Input, Pool};
    match (links, extents) {
        ([Link::ConvRelu, ..], [Conv(conv), Conv(second), Conv(third), rest @ ..]) => {
            let pool = rest.iter().find_map(|extents| if let Pool(pool) = extents { Some(*pool) } else { None });
            Fusion::MlpConv(MlpConvShape { conv: *conv, k2: second.k, k3: third.k, pool })
        }
        ([Link::PointwiseRelu, ..], [Conv(second), Conv(third), rest @ ..]) => {
            let mean = rest.iter().find_map(|extents| if let Input(x) = extents { Some(x.h() * x.w()) } else { None });
            Fusion::PointwisePair(PairShape { m: second.pixels(), c: second.c, k2: second.k, k3: third.k, mean })
        }
        ([Link::Pointwise, ..], [Conv(conv), Pool(pool)]) => Fusion::PointwiseMaxPool(*conv, *pool),
        _ => unreachable!("the table has no other pattern"),
    }
}

impl From<Fusion> for Kernel {
    fn from(fusion: Fusion) -> Self {
        match fusion {
            Fusion::MlpConv(shape) => Kernel::MlpConv(shape),
            Fusion::PointwisePair(shape) => Kernel::PointwisePair(shape),
            Fusion::PointwiseMaxPool(conv, pool) => Kernel::PointwiseMaxPool(conv, pool),
        }
    }
}

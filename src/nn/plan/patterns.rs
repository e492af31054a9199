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
    /// The op for the extents of layers that fit the links.
    fusion: fn(&[Extents]) -> Option<Fusion>,
}

/// All patterns, the longest first.
const PATTERNS: [Pattern; 5] = {
    use Extents::{Conv, Input, Pool};
    use Link::*;
    [
        Pattern {
            name: "mlpconv + maxpool",
            links: &[ConvRelu, PointwiseRelu, Pointwise, MaxPool],
            fusion: |extents| match *extents {
                [Conv(conv, _), Conv(second, _), Conv(third, relu), Pool(pool)] => {
                    let shape = MlpConvShape { conv, k2: second.k, k3: third.k, pool: Some(pool) };
                    Some(Fusion::MlpConv { shape, relu })
                }
                _ => None,
            },
        },
        Pattern {
            name: "mlpconv",
            links: &[ConvRelu, PointwiseRelu, Pointwise],
            fusion: |extents| match *extents {
                [Conv(conv, _), Conv(second, _), Conv(third, relu)] => {
                    let shape = MlpConvShape { conv, k2: second.k, k3: third.k, pool: None };
                    Some(Fusion::MlpConv { shape, relu })
                }
                _ => None,
            },
        },
        Pattern {
            name: "1x1 pair + mean",
            links: &[PointwiseRelu, Pointwise, GlobalAvgPool],
            fusion: |extents| match *extents {
                [Conv(second, _), Conv(third, _), Input(x)] => Some(pair(second, third, Some(x.h() * x.w()))),
                _ => None,
            },
        },
        Pattern {
            name: "1x1 pair",
            links: &[PointwiseRelu, Pointwise],
            fusion: |extents| match *extents {
                [Conv(second, _), Conv(third, _)] => Some(pair(second, third, None)),
                _ => None,
            },
        },
        Pattern {
            name: "1x1 + maxpool",
            links: &[Pointwise, MaxPool],
            fusion: |extents| match *extents {
                [Conv(conv, _), Pool(pool)] => Some(Fusion::PointwiseMaxPool(conv, pool)),
                _ => None,
            },
        },
    ]
};

fn pair(second: ConvShape, third: ConvShape, mean: Option<usize>) -> Fusion {
    Fusion::PointwisePair(PairShape { m: second.pixels(), c: second.c, k2: second.k, k3: third.k, mean })
}

/// The step that begins at layer `first`, whose input has shape `x`.
pub(super) fn step(layers: &[Planned], first: usize, x: Shape, fuses: &dyn Fn(&Fusion) -> Verdict) -> Result<Step> {
    let mut passed_over = Vec::new();
    for &Pattern { name, links, fusion } in &PATTERNS {
        let Some(run) = layers.get(first..first + links.len()) else { continue };
        let extents = extents(run, x)?;
        if !links.iter().zip(run).zip(&extents).all(|((link, layer), extents)| link.fits(layer, extents)) {
            continue;
        }
        let Some(fusion) = fusion(&extents) else { continue };
        let verdict = match shares_parameters(run) {
            true => Err("two of the layers share their parameters".into()),
            false => fuses(&fusion),
        };
        match verdict {
            Ok(()) => return Ok(Step { kernel: fusion.into(), layers: first..first + links.len(), passed_over }),
            Err(why) => passed_over.push(PassedOver { pattern: name, why }),
        }
    }
    let layer = &layers[first];
    let kernel = match (&layer.kind, &extents(&layers[first..=first], x)?[0]) {
        (_, Extents::Conv(shape, _)) => Kernel::Conv2d(*shape),
        (_, Extents::Pool(shape)) => Kernel::MaxPool(*shape),
        (Kind::GlobalAvgPool, _) => Kernel::GlobalAvgPool,
        (Kind::Relu, _) => Kernel::Relu,
        (Kind::Dropout(probability), _) => Kernel::Dropout(*probability),
        (Kind::Flatten, _) => Kernel::Flatten,
        (_, Extents::Input(_)) => Kernel::Custom,
    };
    Ok(Step { kernel, layers: first..first + 1, passed_over })
}

/// The extents of a layer's op.
#[derive(Clone, Copy)]
enum Extents {
    /// A convolution, and whether a ReLU follows in its epilogue.
    Conv(ConvShape, bool),
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
                Kind::Conv2d { relu, .. } => Extents::Conv(layer.conv(x)?, relu),
                _ => Extents::Input(x),
            };
            x = layer.live;
            Ok(extents)
        })
        .collect()
}

impl Link {
    /// Whether a layer meets the requirement.
    fn fits(self, layer: &Planned, extents: &Extents) -> bool {
        match (self, extents) {
            (Link::ConvRelu, Extents::Conv(_, relu)) => *relu,
            (Link::PointwiseRelu, Extents::Conv(shape, relu)) => shape.is_gemm() && *relu,
            (Link::Pointwise, Extents::Conv(shape, _)) => shape.is_gemm(),
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

impl From<Fusion> for Kernel {
    fn from(fusion: Fusion) -> Self {
        match fusion {
            Fusion::MlpConv { shape, .. } => Kernel::MlpConv(shape),
            Fusion::PointwisePair(shape) => Kernel::PointwisePair(shape),
            Fusion::PointwiseMaxPool(conv, pool) => Kernel::PointwiseMaxPool(conv, pool),
        }
    }
}

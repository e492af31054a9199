//! The table of patterns of layers that fused ops cover, and the choice of a step from it.

use super::{Kernel, Kind, PassedOver, Planned, Step};
use crate::ops::fusion::{Fusion, Verdict};
use crate::ops::mlpconv::MlpConvShape;
use crate::ops::pointwise_pair::PairShape;
use crate::shape::{ConvShape, PoolShape};
use crate::tape::ParamId;
use crate::{Result, Shape};

/// A layer as patterns see it, with its extents.
#[derive(Clone, Copy)]
enum Seen {
    /// A convolution that is no GEMM as it stands, and whether a ReLU follows in its epilogue.
    Conv(ConvShape, bool),
    /// A 1×1 convolution, and whether a ReLU follows in its epilogue.
    Pointwise(ConvShape, bool),
    MaxPool(PoolShape),
    /// A global average of images of this shape.
    GlobalAvgPool(Shape),
    /// A layer of another kind: no pattern has it.
    Other,
}

/// Consecutive layers that a fused op covers.
struct Pattern {
    name: &'static str,
    /// The number of layers.
    len: usize,
    /// The op for such layers; `None` for others.
    fusion: fn(&[Seen]) -> Option<Fusion>,
}

/// All patterns, the longest first.
const PATTERNS: [Pattern; 5] = {
    use Seen::*;
    [
        Pattern {
            name: "mlpconv + maxpool",
            len: 4,
            fusion: |layers| match *layers {
                [
                    Conv(conv, true) | Pointwise(conv, true),
                    Pointwise(second, true),
                    Pointwise(third, relu),
                    MaxPool(pool),
                ] => Some(mlpconv(conv, [second, third], Some(pool), relu)),
                _ => None,
            },
        },
        Pattern {
            name: "mlpconv",
            len: 3,
            fusion: |layers| match *layers {
                [Conv(conv, true) | Pointwise(conv, true), Pointwise(second, true), Pointwise(third, relu)] => {
                    Some(mlpconv(conv, [second, third], None, relu))
                }
                _ => None,
            },
        },
        Pattern {
            name: "1x1 pair + mean",
            len: 3,
            fusion: |layers| match *layers {
                [Pointwise(second, true), Pointwise(third, _), GlobalAvgPool(x)] => {
                    Some(pair(second, third, Some(x.h().saturating_mul(x.w()))))
                }
                _ => None,
            },
        },
        Pattern {
            name: "1x1 pair",
            len: 2,
            fusion: |layers| match *layers {
                [Pointwise(second, true), Pointwise(third, _)] => Some(pair(second, third, None)),
                _ => None,
            },
        },
        Pattern {
            name: "1x1 + maxpool",
            len: 2,
            fusion: |layers| match *layers {
                [Pointwise(conv, _), MaxPool(pool)] => Some(Fusion::PointwiseMaxPool(conv, pool)),
                _ => None,
            },
        },
    ]
};

fn mlpconv(conv: ConvShape, [second, third]: [ConvShape; 2], pool: Option<PoolShape>, relu: bool) -> Fusion {
    Fusion::MlpConv { shape: MlpConvShape { conv, k2: second.k, k3: third.k, pool }, relu }
}

fn pair(second: ConvShape, third: ConvShape, mean: Option<usize>) -> Fusion {
    Fusion::PointwisePair(PairShape { m: second.pixels(), c: second.c, k2: second.k, k3: third.k, mean })
}

/// The step that begins at layer `first`, whose input has shape `x`.
pub(super) fn step(layers: &[Planned], first: usize, x: Shape, fuses: &dyn Fn(&Fusion) -> Verdict) -> Result<Step> {
    let mut passed_over = Vec::new();
    for &Pattern { name, len, fusion } in &PATTERNS {
        let Some(run) = layers.get(first..first + len) else { continue };
        let Some(fusion) = fusion(&seen(run, x)?) else { continue };
        let verdict = match shares_parameters(run) {
            true => Err("two of the layers share their parameters".into()),
            false => fuses(&fusion),
        };
        match verdict {
            Ok(()) => return Ok(Step { kernel: fusion.into(), layers: first..first + len, passed_over }),
            Err(why) => passed_over.push(PassedOver { pattern: name, why }),
        }
    }
    Ok(Step { kernel: alone(&layers[first], x)?, layers: first..first + 1, passed_over })
}

/// Consecutive layers as patterns see them; the first has an input of shape `x`.
fn seen(run: &[Planned], mut x: Shape) -> Result<Vec<Seen>> {
    let mut all = Vec::with_capacity(run.len());
    for layer in run {
        let relu = matches!(layer.kind, Kind::Conv2d { relu: true, .. });
        all.push(match alone(layer, x)? {
            Kernel::Conv2d(shape) if shape.is_gemm() => Seen::Pointwise(shape, relu),
            Kernel::Conv2d(shape) => Seen::Conv(shape, relu),
            Kernel::MaxPool(shape) => Seen::MaxPool(shape),
            Kernel::GlobalAvgPool => Seen::GlobalAvgPool(x),
            _ => Seen::Other,
        });
        x = layer.live;
    }
    Ok(all)
}

/// The op of a layer that is not fused, on an input of shape `x`.
fn alone(layer: &Planned, x: Shape) -> Result<Kernel> {
    Ok(match layer.kind {
        Kind::Conv2d { weight, window, .. } => {
            let whole = ConvShape::new("conv2d", x, weight, window)?;
            Kernel::Conv2d(ConvShape { p: layer.live.h(), q: layer.live.w(), ..whole })
        }
        Kind::MaxPool { window, stride } => Kernel::MaxPool(PoolShape::new("maxpool", x, window, stride)?),
        Kind::GlobalAvgPool => Kernel::GlobalAvgPool,
        Kind::Relu => Kernel::Relu,
        Kind::Dropout(probability) => Kernel::Dropout(probability),
        Kind::Flatten => Kernel::Flatten,
        Kind::Custom(_) => Kernel::Custom,
    })
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

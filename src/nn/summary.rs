//! The summary of a network: parameters, multiply-adds and memory of each layer, computed from shapes alone, for layers
//! that run one by one with all pixels. A custom layer's parameters are those
//! within its name, its multiply-adds what [`Custom::macs`](super::Custom::macs) says; what it keeps is not counted.

use super::plan::{Kind, Planned, shapes};
use super::{Module, Op, layers};
use crate::{Backend, Precision, Result, Shape};

/// One layer of a [`Summary`].
#[derive(Clone, Debug)]
pub struct LayerSummary {
    /// The layer's name, the prefix of its parameters' names.
    pub path: String,
    /// The layer's op with its settings, to print.
    pub name: String,
    pub input: Shape,
    pub output: Shape,
    /// The number of parameters, bias included.
    pub params: usize,
    /// Multiply-adds of the forward pass, for the whole batch. Adding the bias is not counted.
    pub macs: usize,
    /// Whether the backward pass reads the input again, so that it is kept.
    pub keeps_input: bool,
    /// Bytes kept for the backward pass besides the input: the positions of a pool's maxima. Not counted: a value that
    /// is kept only as the mask of a ReLU's gradient (by a global average pool or a separate ReLU).
    pub kept_bytes: usize,
    /// Whether the backward pass computes the gradient of the layer's input: a layer before this one has parameters.
    pub dgrad: bool,
}

impl LayerSummary {
    /// The summary of a layer, all pixels computed.
    fn new(layer: &Planned) -> Self {
        let (path, input, output) = (layer.path.clone(), layer.input, layer.output);
        let plain = |name: String| {
            let (params, macs, keeps_input, kept_bytes) = (0, 0, false, 0);
            LayerSummary { path, name, input, output, params, macs, keeps_input, kept_bytes, dgrad: true }
        };
        match &layer.kind {
            Kind::Conv2d { weight, window, relu, .. } => {
                let mut name = format!("Conv2d {}x{}", weight.h(), weight.w());
                for (what, value, usual) in [("/", window.stride, 1), (" pad ", window.pad, 0)] {
                    if value != usual {
                        name += &format!("{what}{value}");
                    }
                }
                if *relu {
                    name += " + ReLU";
                }
                let pixels = output.n().saturating_mul(output.h()).saturating_mul(output.w());
                let (params, macs) = (weight.len() + weight.n(), pixels.saturating_mul(weight.len()));
                LayerSummary { params, macs, keeps_input: true, ..plain(name) }
            }
            // A pool keeps the position of each maximum in one byte.
            Kind::MaxPool { window, stride } => {
                LayerSummary { kept_bytes: output.len(), ..plain(format!("MaxPool {window}x{window}/{stride}")) }
            }
            Kind::GlobalAvgPool => plain("GlobalAvgPool".into()),
            Kind::Relu => plain("ReLU".into()),
            Kind::Dropout(probability) => plain(format!("Dropout {probability}")),
            Kind::Flatten => plain("Flatten".into()),
            Kind::Custom(name) => plain(name.clone()),
        }
    }

    /// Multiply-adds of a training step: fprop, wgrad and, if `dgrad` is set, dgrad.
    pub fn training_macs(&self) -> usize {
        self.macs.saturating_mul(if self.dgrad { 3 } else { 2 })
    }

    /// Bytes kept for the backward pass, with activations of `width` bytes an element.
    pub fn kept(&self, width: usize) -> usize {
        self.kept_bytes.saturating_add(if self.keeps_input { self.input.len().saturating_mul(width) } else { 0 })
    }
}

/// The summary of a network for one input shape.
#[derive(Clone, Debug)]
pub struct Summary {
    /// `[N, C, H, W]`.
    pub input: Shape,
    pub layers: Vec<LayerSummary>,
}

impl Summary {
    /// The summary of `net` for an input of shape `input`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a layer cannot take its input.
    pub fn new<B: Backend>(net: &(impl Module<B> + ?Sized), input: Shape) -> Result<Self> {
        let (listed, params) = (layers(net), net.params());
        let mut layers: Vec<LayerSummary> = shapes(&listed, input)?.iter().map(LayerSummary::new).collect();
        for (summary, layer) in layers.iter_mut().zip(&listed) {
            if let Op::Custom(custom) = layer.op {
                let own = |name: &str| name.strip_prefix(&*layer.path).is_some_and(|rest| rest.starts_with('.'));
                let own = params.iter().filter(|(name, _)| layer.path.is_empty() || own(name));
                summary.params = own.map(|(_, param)| param.shape().len()).sum();
                summary.macs = custom.macs(summary.input);
            }
        }
        let mut learning = false;
        for layer in &mut layers {
            layer.dgrad = learning;
            learning |= layer.params > 0;
        }
        Ok(Summary { input, layers })
    }

    /// The number of parameters.
    pub fn params(&self) -> usize {
        sum(self.layers.iter().map(|layer| layer.params))
    }

    /// Multiply-adds of a forward pass.
    pub fn forward_macs(&self) -> usize {
        sum(self.layers.iter().map(|layer| layer.macs))
    }

    /// Multiply-adds of a training step.
    pub fn training_macs(&self) -> usize {
        sum(self.layers.iter().map(LayerSummary::training_macs))
    }

    /// Bytes that the forward pass keeps for the backward pass, with activations of `width` bytes an element.
    pub fn kept_bytes(&self, width: usize) -> usize {
        sum(self.layers.iter().map(|layer| layer.kept(width)))
    }

    /// Peak bytes of a training step at a precision, without a device's working memory. The sum of:
    ///
    /// * in fp32, the parameters, their gradients, and `state` tensors of the optimiser for each parameter (as many as
    ///   [`Optimizer::tensor_names`](crate::optim::Optimizer::tensor_names) gives);
    /// * a copy of the parameters as activations are stored, except in fp32;
    /// * the maximum over layers of the gradients of the layer's input and output, and all that this layer and those
    ///   before it keep for the backward pass.
    pub fn training_bytes(&self, precision: Precision, state: usize) -> usize {
        let width = precision.activation_width();
        let mut kept: usize = 0;
        let mut peak = 0;
        for layer in &self.layers {
            kept = kept.saturating_add(layer.kept(width));
            let dx = if layer.dgrad { layer.input.len() } else { 0 };
            let gradients = dx.saturating_add(layer.output.len()).saturating_mul(width);
            peak = peak.max(kept.saturating_add(gradients));
        }
        let bytes = state.saturating_add(1).saturating_mul(4).saturating_add(parameter_bytes(precision));
        self.params().saturating_mul(bytes).saturating_add(peak)
    }

    /// Peak bytes of inference at a precision: the parameters, their copies except in fp32, and the largest sum of a layer's
    /// input and output.
    pub fn inference_bytes(&self, precision: Precision) -> usize {
        let pair = |layer: &LayerSummary| layer.input.len().saturating_add(layer.output.len());
        let largest = self.layers.iter().map(pair).max().unwrap_or(0);
        let activations = largest.saturating_mul(precision.activation_width());
        self.params().saturating_mul(parameter_bytes(precision)).saturating_add(activations)
    }
}

/// Bytes of a parameter: fp32, and the copy that is multiplied at other precisions.
fn parameter_bytes(precision: Precision) -> usize {
    let copy = if precision == Precision::Fp32 { 0 } else { precision.activation_width() };
    size_of::<f32>() + copy
}

/// A saturating sum: what no machine has is told as `usize::MAX`.
fn sum(numbers: impl Iterator<Item = usize>) -> usize {
    numbers.fold(0, usize::saturating_add)
}

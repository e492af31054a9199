//! What a network costs: shapes, parameters, multiply-adds and memory, from shapes alone.

use super::plan::{Kind, Planned};
use super::{Module, Plan, layers};
use crate::{Backend, Result, Shape};

/// One layer of a [`Summary`].
#[derive(Clone, Debug)]
pub struct LayerSummary {
    /// The layer's name, as in the names of its parameters.
    pub path: String,
    pub name: String,
    pub input: Shape,
    pub output: Shape,
    pub params: usize,
    /// Multiply-adds of the forward pass, for the whole batch. A bias counts for none.
    pub macs: usize,
    /// Whether the backward pass reads the input again.
    pub keeps_input: bool,
    /// Bytes that the backward pass needs besides the input.
    pub kept_bytes: usize,
    /// Whether the backward pass goes on below this layer: there are parameters to learn there.
    pub dgrad: bool,
}

impl LayerSummary {
    /// Of a layer all of whose pixels are computed.
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
            // The position of each maximum, in one byte.
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

    /// Multiply-adds of a training step: fprop, wgrad and, where it goes on below, dgrad.
    pub fn training_macs(&self) -> usize {
        self.macs.saturating_mul(if self.dgrad { 3 } else { 2 })
    }

    /// Bytes kept for the backward pass, with numbers of `width` bytes.
    pub fn kept(&self, width: usize) -> usize {
        self.kept_bytes.saturating_add(if self.keeps_input { self.input.len().saturating_mul(width) } else { 0 })
    }
}

/// What a network costs at one batch size.
#[derive(Clone, Debug)]
pub struct Summary {
    pub input: Shape,
    pub layers: Vec<LayerSummary>,
}

impl Summary {
    /// # Errors
    /// Where the network cannot run on such an input.
    pub fn new<B: Backend>(net: &impl Module<B>, input: Shape) -> Result<Self> {
        let plan = Plan::new(&layers(net), input, &|_| Err("a summary counts layers".into()))?;
        let mut layers: Vec<LayerSummary> = plan.layers.iter().map(LayerSummary::new).collect();
        let mut learning = false;
        for layer in &mut layers {
            layer.dgrad = learning;
            learning |= layer.params > 0;
        }
        Ok(Summary { input, layers })
    }

    pub fn params(&self) -> usize {
        self.layers.iter().map(|layer| layer.params).sum()
    }

    /// Multiply-adds of a forward pass.
    pub fn forward_macs(&self) -> usize {
        self.layers.iter().map(|layer| layer.macs).sum()
    }

    /// Multiply-adds of a training step.
    pub fn training_macs(&self) -> usize {
        self.layers.iter().map(LayerSummary::training_macs).sum()
    }

    /// Bytes that the forward pass leaves for the backward pass.
    pub fn kept_bytes(&self, width: usize) -> usize {
        self.layers.iter().map(|layer| layer.kept(width)).sum()
    }

    /// Peak bytes of a training step, without a device's working memory: parameters, their gradients and the `state` tensors
    /// that the optimiser keeps for each ([`Optimizer::tensor_names`](crate::optim::Optimizer::tensor_names)) in fp32, the
    /// parameters once more where activations are narrower, and, with activations of
    /// `width` bytes, the worst moment of the backward pass, when a layer's two activation gradients meet
    /// what that layer and those before it have kept.
    pub fn training_bytes(&self, width: usize, state: usize) -> usize {
        let copy = if width < 4 { width } else { 0 };
        let mut kept: usize = 0;
        let mut peak = 0;
        for layer in &self.layers {
            kept = kept.saturating_add(layer.kept(width));
            let dx = if layer.dgrad { layer.input.len() } else { 0 };
            let gradients = dx.saturating_add(layer.output.len()).saturating_mul(width);
            peak = peak.max(kept.saturating_add(gradients));
        }
        (self.params() * ((2 + state) * 4 + copy)).saturating_add(peak)
    }

    /// Peak bytes of inference: parameters, and the largest input and output of a layer.
    pub fn inference_bytes(&self, width: usize) -> usize {
        let pair = |layer: &LayerSummary| layer.input.len() + layer.output.len();
        (self.params() + self.layers.iter().map(pair).max().unwrap_or(0)) * width
    }
}

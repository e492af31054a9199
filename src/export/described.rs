//! A network as a file describes it: known layers alone, each with the shape of its output.

use super::meta::{Facts, Meta};
use crate::nn::plan::{Pixels, Plan};
use crate::nn::{self, Layer, Module, Op};
use crate::{Backend, Error, Result, Shape};

/// A network's layers with their shapes, for one image.
pub(super) struct Described<'a, B: Backend> {
    pub(super) layers: Vec<Layer<'a, B>>,
    pub(super) input: Shape,
    /// The output of each layer, which ONNX states for readers that do not infer shapes.
    #[cfg(feature = "onnx")]
    pub(super) outputs: Vec<Shape>,
    pub(super) facts: Facts,
}

impl<'a, B: Backend> Described<'a, B> {
    /// The network `net` for images of the shape of `input`, whatever their number. `format` names the file in errors.
    ///
    /// # Errors
    /// [`Error::CustomLayer`]; [`Error::Shape`] where a layer cannot take its input; as [`Meta::facts`].
    pub(super) fn new(
        net: &'a (impl Module<B> + ?Sized),
        input: Shape,
        meta: &Meta,
        format: &'static str,
    ) -> Result<Self> {
        let layers = nn::layers(net);
        for Layer { path, op } in &layers {
            if let Op::Custom(custom) = op {
                return Err(Error::CustomLayer { layer: path.clone(), name: custom.name(), format });
            }
        }
        let input = input.with_batch(1);
        input.require_image("export")?;
        let plan = Plan::with(&layers, input, Pixels::All, &|_| Err("each layer is written by itself".into()))?;
        let outputs: Vec<Shape> = plan.layers().iter().map(|layer| layer.output).collect();
        for (layer, output) in layers.iter().zip(&outputs) {
            match layer.op {
                Op::Conv2d { bias, .. } if bias.shape() != Shape::vector(output.c()) => {
                    let problem = format!("the bias of layer {} is {}, not [{}]", layer.path, bias.shape(), output.c());
                    return Err(Error::shape("export", problem));
                }
                Op::Dropout(probability) if !(0.0..1.0).contains(&probability) => {
                    return Err(Error::config("dropout", format!("probability {probability} is not in [0, 1)")));
                }
                _ => {}
            }
        }
        let facts = meta.facts(input, outputs.last().copied().unwrap_or(input))?;
        Ok(Described {
            layers,
            input,
            #[cfg(feature = "onnx")]
            outputs,
            facts,
        })
    }

    /// The shape of the network's output.
    #[cfg(feature = "onnx")]
    pub(super) fn output(&self) -> Shape {
        self.outputs.last().copied().unwrap_or(self.input)
    }
}

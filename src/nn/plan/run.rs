//! Runs a plan on a tape.

use std::ops::Range;

use super::{Kernel, Plan, Planned, Step};
use crate::nn::{Layer, Op};
use crate::ops::{Affine, Params};
use crate::tape::{Param, Tape, Var};
use crate::{Backend, Error, Result};

impl Plan {
    /// Runs the plan's steps with the parameters of `layers`, which have to be those that it was made of.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input of another shape than the plan's, for other layers ([`Plan::fits`]), or where a custom
    /// layer gives another shape than it has stated.
    pub fn run<B: Backend>(&self, layers: &[Layer<'_, B>], tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        self.run_telling(layers, tape, x, &mut |_, _| Ok(()))
    }

    /// [`Plan::run`], which hands each step's output to `on_output`, with the last layer of the step.
    ///
    /// # Errors
    /// As [`Plan::run`], and the errors of `on_output`.
    pub(in crate::nn) fn run_telling<B: Backend>(
        &self,
        layers: &[Layer<'_, B>],
        tape: &mut Tape<B>,
        mut x: Var<B>,
        on_output: &mut dyn FnMut(&Planned, &Var<B>) -> Result<()>,
    ) -> Result<Var<B>> {
        if x.shape() != self.input {
            return Err(Error::shape("plan", format!("an input of shape {}, planned for {}", x.shape(), self.input)));
        }
        if !self.fits(layers) {
            let problem = "these layers are not those of the plan, or their weights have other shapes; plan anew";
            return Err(Error::shape("plan", problem));
        }
        for step in &self.steps {
            tape.enter(Some(&|| self.names(&step.layers)));
            x = step.run(&layers[step.layers.clone()], tape, x)?;
            let last = &self.layers[step.layers.end - 1];
            if x.shape() != last.live {
                let problem = format!("layer {} gave {}, and stated {}", last.path, x.shape(), last.live);
                return Err(Error::shape("plan", problem));
            }
            on_output(last, &x)?;
        }
        tape.enter(None);
        Ok(x)
    }

    /// The names of the layers that a step covers.
    fn names(&self, layers: &Range<usize>) -> String {
        let [first, last] = [layers.start, layers.end - 1].map(|layer| &self.layers[layer].path);
        if first == last { first.clone() } else { format!("{first} to {last}") }
    }
}

/// The parameters of a convolution, as variables of a tape.
struct Conv<B: Backend> {
    w: Var<B>,
    bias: Var<B>,
    relu: bool,
}

impl<B: Backend> Conv<B> {
    fn affine(&self) -> Affine<'_, Var<B>> {
        Affine { w: &self.w, bias: Some(&self.bias), relu: self.relu }
    }
}

impl Step {
    fn run<B: Backend>(&self, layers: &[Layer<'_, B>], tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        let mut var = |param: &Param<B>| tape.param(param);
        let conv = |layer: &Layer<'_, B>| match layer.op {
            Op::Conv2d { weight, bias, relu, .. } => Some(Conv { w: var(weight), bias: var(bias), relu }),
            _ => None,
        };
        let convs: Vec<Conv<B>> = layers.iter().filter_map(conv).collect();
        match (&self.kernel, &convs[..], &layers[0].op) {
            (Kernel::Conv2d(shape), [conv], _) => tape.conv2d_of(shape, &x, conv.affine()),
            (Kernel::MaxPool(pool), ..) => tape.maxpool(&x, pool.window, pool.stride),
            (Kernel::GlobalAvgPool, ..) => tape.global_avgpool(&x),
            (Kernel::Relu, ..) => tape.relu(&x),
            (Kernel::Dropout(probability), ..) => tape.dropout(&x, *probability),
            (Kernel::Flatten, ..) => tape.flatten(&x),
            (Kernel::MlpConv(shape), [a, b, c], _) => tape.mlpconv_of(*shape, x, chain([a, b, c])),
            (Kernel::PointwisePair(shape), [a, b], _) => tape.pointwise_pair(x, chain([a, b]), shape.mean.is_some()),
            (Kernel::PointwiseMaxPool(_, pool), [conv], _) => {
                tape.pointwise_maxpool(&x, conv.affine(), pool.window, pool.stride)
            }
            (Kernel::Custom, _, Op::Custom(custom)) => custom.forward(tape, x),
            (kernel, ..) => Err(Error::shape("plan", format!("{} does not run these layers", kernel.name()))),
        }
    }
}

/// The parameters of convolutions as a fused op takes them: each but the last ends in a ReLU.
fn chain<B: Backend, const N: usize>(convs: [&Conv<B>; N]) -> Params<'_, Var<B>, N> {
    Params { w: convs.map(|conv| &conv.w), b: convs.map(|conv| &conv.bias), relu: convs[N - 1].relu }
}

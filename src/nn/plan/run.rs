//! Runs a plan on a tape.

use super::{Kernel, Plan, Step};
use crate::nn::{Conv2d, Layer, Op};
use crate::ops::{Affine, Params};
use crate::tape::{Tape, Var};
use crate::{Backend, Error, Result};

impl Plan {
    /// Runs the plan's steps on `x`, with the parameters of `layers`: the layers that the plan was made of.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input of another shape than the plan's, another number of layers, or a custom layer that
    /// is not where the plan has it; otherwise as the ops.
    pub fn run<B: Backend>(&self, layers: &[Layer<'_, B>], tape: &mut Tape<B>, mut x: Var<B>) -> Result<Var<B>> {
        if x.shape() != self.input {
            return Err(Error::shape("plan", format!("an input of shape {}, planned for {}", x.shape(), self.input)));
        }
        if layers.len() != self.layers.len() {
            return Err(Error::shape("plan", format!("{} layers, planned for {}", layers.len(), self.layers.len())));
        }
        for step in &self.steps {
            x = step.run(&layers[step.layers.clone()], tape, x)?;
        }
        Ok(x)
    }
}

impl Step {
    fn run<B: Backend>(&self, layers: &[Layer<'_, B>], tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        let convs: Vec<&Conv2d<B>> =
            layers.iter().filter_map(|layer| if let Op::Conv2d(conv) = layer.op { Some(conv) } else { None }).collect();
        let vars: Vec<[Var<B>; 2]> = convs.iter().map(|conv| conv.vars(tape)).collect();
        let affine = |i: usize| Affine { w: &vars[i][0], bias: Some(&vars[i][1]), relu: convs[i].relu() };
        match (&self.kernel, &layers[0].op) {
            (Kernel::Conv2d(shape), _) => tape.conv2d_of(shape, &x, affine(0)),
            (Kernel::MaxPool(pool), _) => tape.maxpool(&x, pool.window, pool.stride),
            (Kernel::GlobalAvgPool, _) => tape.global_avgpool(&x),
            (Kernel::Relu, _) => tape.relu(&x),
            (Kernel::Dropout(probability), _) => tape.dropout(&x, *probability),
            (Kernel::Flatten, _) => tape.flatten(&x),
            (Kernel::MlpConv(shape), _) => tape.mlpconv_of(*shape, x, chain(&vars, &convs)),
            (Kernel::PointwisePair(shape), _) => tape.pointwise_pair(x, chain(&vars, &convs), shape.mean.is_some()),
            (Kernel::PointwiseMaxPool(_, pool), _) => tape.pointwise_maxpool(&x, affine(0), pool.window, pool.stride),
            (Kernel::Custom, Op::Custom(custom)) => custom.forward(tape, x),
            (Kernel::Custom, _) => Err(Error::shape("plan", "these layers are not those of the plan")),
        }
    }
}

/// The parameters of `N` convolutions as a fused op takes them: each but the last ends in a ReLU.
fn chain<'a, B: Backend, const N: usize>(vars: &'a [[Var<B>; 2]], convs: &[&Conv2d<B>]) -> Params<'a, Var<B>, N> {
    Params {
        w: std::array::from_fn(|i| &vars[i][0]),
        b: std::array::from_fn(|i| &vars[i][1]),
        relu: convs[N - 1].relu(),
    }
}

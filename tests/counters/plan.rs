//! The bytes that a training step of the book's network has to move by its plan: every kernel reads and writes each of
//! its tensors once.
//!
//! The plan is the engine's own ([`mlpconv::nn::Plan`]), for an H200 in bf16:
//!
//! * Bias, ReLU and mask are in the kernel that computes a tensor, forward and backward.
//! * A max pool is in the kernel before it.
//! * The first block is one kernel each way. It does not store the tensors between its layers, and recomputes them
//!   backward. So is the end of the network: the last two layers and the average.
//! * Pixels that no pool reads are left out.
//!
//! Two things are counted as fewer bytes than the engine moves: the backward pass of a pool is part of the kernels that
//! read the gradient, and sums over pixels are written once, and read once by the update.

use mlpconv::device::cuda::Limits;
use mlpconv::nn::plan::Kernel;
use mlpconv::nn::{Nin, Plan, layers};
use mlpconv::shape::{ConvShape, PoolShape};
use mlpconv::{Cpu, Precision, Shape};

/// The bytes of a training step in three parts, and the bytes of some of its tensors.
#[derive(Default)]
pub struct Bytes {
    pub forward: usize,
    pub backward: usize,
    pub update: usize,
    /// The size of the weights' and biases' gradients.
    pub gradients: usize,
    /// The size of the values that mask gradients.
    pub masks: usize,
    /// The size of the gradient that the first of the first block's two backward kernels leaves for the second.
    pub between: usize,
    /// The size of the gradient of x that the last two layers' backward kernel writes.
    pub before_pair: usize,
}

impl Bytes {
    pub fn total(&self) -> usize {
        self.forward + self.backward + self.update
    }

    /// All bytes if signs mask the gradients instead of values. In bf16 signs are a sixteenth of the size, and are
    /// written once and read once.
    pub fn with_signs(&self) -> usize {
        self.total() - self.masks + self.masks / 8
    }

    /// The bytes of a step of `n` images at a precision. Except in fp32 parameters have a copy as activations are stored.
    pub fn of(n: usize, precision: Precision) -> Self {
        let (plan, width) = (plan(n), precision.activation_width());
        let activation = |shape: Shape| shape.len() * width;
        // A pool's output or its gradient, with one byte an element for the maximum's position.
        let pooled = |pool: &PoolShape| pool.output().len() * (width + 1);
        // The gather: images, labels and indices, and the network's input.
        let mut bytes = Bytes { forward: n * (28 * 28 + 1 + 4) + activation(plan.input()), ..Bytes::default() };
        let mut parameters = 0;
        for (i, step) in plan.steps().iter().enumerate() {
            let mut layer = |conv: &ConvShape| {
                parameters += conv.weight().len() + conv.k;
                Layer {
                    factors: conv.weight().len() * width + 4 * conv.k,
                    gradients: 4 * (conv.weight().len() + conv.k),
                }
            };
            match &step.kernel {
                Kernel::Conv2d(conv) | Kernel::PointwiseMaxPool(conv, _) => {
                    let x = activation(conv.input());
                    let y = match &step.kernel {
                        Kernel::PointwiseMaxPool(_, pool) => pooled(pool),
                        _ => activation(conv.output()),
                    };
                    let Layer { factors, gradients } = layer(conv);
                    bytes.forward += x + factors + y;
                    // dgrad, with the input as the mask of its gradient; wgrad.
                    bytes.backward += y + conv.weight().len() * width + 2 * x;
                    bytes.masks += x;
                    bytes.backward += y + x + gradients;
                }
                Kernel::MlpConv(block) => {
                    assert_eq!(i, 0, "the gradient of a block's input is not counted");
                    let layers = [block.conv, block.second(), block.third()].map(|conv| layer(&conv));
                    let (x, y) = (
                        activation(block.conv.input()),
                        block.pool.as_ref().map_or_else(|| activation(block.output()), pooled),
                    );
                    let each_way = x + layers.iter().map(|layer| layer.factors).sum::<usize>() + y;
                    // The gradient of the first convolution's output goes from one kernel to the other.
                    bytes.between = activation(block.conv.output());
                    bytes.forward += each_way;
                    bytes.backward += each_way + layers.iter().map(|layer| layer.gradients).sum::<usize>();
                    bytes.backward += 2 * bytes.between + x;
                }
                Kernel::PointwisePair(pair) => {
                    let layers = [pair.second(), pair.third()].map(|conv| layer(&conv));
                    let y = pair.averaged().map_or(pair.third().output(), |images| images.pooled());
                    let x = activation(pair.second().input());
                    let each_way = x + layers.iter().map(|layer| layer.factors).sum::<usize>() + activation(y);
                    bytes.before_pair = x;
                    bytes.forward += each_way;
                    bytes.backward += each_way + x + layers.iter().map(|layer| layer.gradients).sum::<usize>();
                }
                Kernel::Dropout(_) => {
                    let x = activation(plan.input_of(step.layers.start));
                    bytes.forward += 2 * x;
                    bytes.backward += 2 * x;
                }
                // After an average, flattening is a view.
                Kernel::Flatten => {}
                other => panic!("{other:?} is not counted"),
            }
        }
        // The loss reads the logits and writes their gradient.
        bytes.forward += 2 * activation(plan.layers().last().expect("layers").output);
        bytes.gradients = 4 * parameters;
        let copies = if precision == Precision::Fp32 { 0 } else { parameters * width };
        bytes.update = 3 * bytes.gradients + copies;
        bytes
    }
}

/// The bytes of a convolution's parameters as a kernel reads them, and of their gradients.
struct Layer {
    factors: usize,
    gradients: usize,
}

/// The network's plan for `n` images.
fn plan(n: usize) -> Plan {
    let net = Nin::d2l(&Cpu::<f32>::new(), 0).expect("the book's network");
    let h200 = Limits::h200(Precision::Bf16);
    Plan::new(&layers(&net), Shape::image(n, 1, 224, 224), &|fusion| fusion.suits(&h200)).expect("images that fit")
}

#[test]
fn the_plan_has_the_networks_parameters_and_bytes() {
    use Precision::{Bf16, Fp32, Tf32};
    assert_eq!(Bytes::of(1, Fp32).gradients, 4 * 1_992_166);
    // By hand, from the network's table of layers.
    for (n, precision, total) in [
        (1, Fp32, 65_614_605),
        (1, Tf32, 73_583_269),
        (1, Bf16, 52_869_041),
        (2, Fp32, 83_424_946),
        (8, Bf16, 116_150_140),
        (128, Bf16, 1_200_968_980),
    ] {
        assert_eq!(Bytes::of(n, precision).total(), total, "{n} images, {precision}");
    }
}

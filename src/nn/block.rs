//! The mlpconv block, the module that a network in network is made of.

use super::{Conv2d, Layer, Module, join, within};
use crate::Backend;
use crate::tape::Param;

/// The mlpconv block: a convolution and two 1×1 convolutions, a ReLU after each (after the last unless
/// [`NinBlock::with_linear_output`] removes it). It is a small perceptron that slides over the image.
///
/// Its convolutions are named 0, 2 and 4, as in a PyTorch `Sequential` that numbers the ReLUs too.
pub struct NinBlock<B: Backend> {
    convs: [Conv2d<B>; 3],
}

const NAMES: [&str; 3] = ["0", "2", "4"];

impl<B: Backend> NinBlock<B> {
    pub(super) fn new(conv: Conv2d<B>, first: Conv2d<B>, second: Conv2d<B>) -> Self {
        NinBlock { convs: [conv.with_relu(), first.with_relu(), second.with_relu()] }
    }

    /// Removes the ReLU after the last 1×1 convolution.
    ///
    /// Before the global average of a classifier that ReLU can kill a class: once its logit is zero for every image, it
    /// gets no gradient any more.
    pub fn with_linear_output(mut self) -> Self {
        self.convs[2].set_relu(false);
        self
    }
}

impl<B: Backend> Module<B> for NinBlock<B> {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        for (conv, name) in self.convs.iter().zip(NAMES) {
            conv.layers(&join(path, name), layers);
        }
    }

    fn params(&self) -> Vec<(String, &Param<B>)> {
        self.convs.iter().zip(NAMES).flat_map(|(conv, name)| within(name, conv.params())).collect()
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        self.convs.iter_mut().zip(NAMES).flat_map(|(conv, name)| within(name, conv.params_mut())).collect()
    }
}

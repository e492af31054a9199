//! The mlpconv block, the module that a network in network is made of.

use super::{Conv2d, Layer, Module, join, within};
use crate::Backend;
use crate::tape::Param;

/// The mlpconv block: a convolution and 1×1 convolutions, two in the paper, a ReLU after each (after the last unless
/// [`NinBlock::with_linear_output`] removes it). It is a small perceptron that slides over the image.
///
/// Its convolutions are named 0, 2 and 4, as in a PyTorch `Sequential` that numbers the ReLUs too.
pub struct NinBlock<B: Backend> {
    /// At least one.
    convs: Vec<Conv2d<B>>,
}

/// The name of the convolution at position `index` of a block.
fn name(index: usize) -> String {
    (2 * index).to_string()
}

impl<B: Backend> NinBlock<B> {
    pub(super) fn new(convs: Vec<Conv2d<B>>) -> Self {
        NinBlock { convs: convs.into_iter().map(Conv2d::with_relu).collect() }
    }

    /// Removes the ReLU after the last convolution.
    ///
    /// Before the global average of a classifier that ReLU can kill a class: once its logit is zero for every image, it
    /// gets no gradient any more.
    pub fn with_linear_output(mut self) -> Self {
        if let Some(last) = self.convs.last_mut() {
            last.set_relu(false);
        }
        self
    }
}

impl<B: Backend> Module<B> for NinBlock<B> {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        for (i, conv) in self.convs.iter().enumerate() {
            conv.layers(&join(path, &name(i)), layers);
        }
    }

    fn params(&self) -> Vec<(String, &Param<B>)> {
        self.convs.iter().enumerate().flat_map(|(i, conv)| within(&name(i), conv.params())).collect()
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        self.convs.iter_mut().enumerate().flat_map(|(i, conv)| within(&name(i), conv.params_mut())).collect()
    }
}

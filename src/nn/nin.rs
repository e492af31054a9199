//! Network in Network: the preset networks.

use super::{Builder, Dropout, Flatten, GlobalAvgPool, Init, Layer, MaxPool, Module, NinBlock, Sequential};
use crate::tape::{Param, Tape, Var};
use crate::{Backend, Result};

/// A NiN: one of the preset networks.
pub struct Nin<B: Backend> {
    layers: Sequential<B>,
}

/// Default channels: grey images, as in the MNIST family.
const GREY: usize = 1;
/// Default classes, as in the MNIST family and CIFAR-10.
const CLASSES: usize = 10;

/// Channels of the first three blocks in d2l.
const D2L_WIDTHS: [usize; 3] = [96, 256, 384];

/// The max pool of every preset.
const POOL: MaxPool = MaxPool { window: 3, stride: 2 };

impl<B: Backend> Nin<B> {
    /// d2l's NiN for 1×224×224 images and ten classes: 1,992,166 parameters, Xavier weights, PyTorch's biases.
    ///
    /// Source: <https://d2l.ai/chapter_convolutional-modern/nin.html>.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if the device has too little free memory.
    pub fn d2l(backend: &B, seed: u64) -> Result<Self> {
        Self::d2l_for(backend, seed, GREY, CLASSES)
    }

    /// [`Nin::d2l`] for images of `channels` channels and for `classes` classes.
    ///
    /// # Errors
    /// As [`Nin::d2l`]; [`Error::Shape`](crate::Error::Shape) for no channels or no classes.
    pub fn d2l_for(backend: &B, seed: u64, channels: usize, classes: usize) -> Result<Self> {
        Self::d2l_topology(Self::d2l_builder(backend, seed), channels, D2L_WIDTHS, classes, 0.5)
    }

    /// The initial values of today's chapter: its rule for weights, and PyTorch's for biases, which the chapter leaves as they are.
    fn d2l_builder(backend: &B, seed: u64) -> Builder<B> {
        Builder::new(backend, Init::Xavier, seed).with_bias(Init::FanIn)
    }

    /// d2l's NiN as the book's first edition begins it, on MXNet's Gluon: [`Nin::d2l`] with zero biases. The weights of a seed
    /// are the same: Gluon's `init.Xavier()` and PyTorch's `xavier_uniform_` are one rule, [`Init::Xavier`].
    ///
    /// # Errors
    /// As [`Nin::d2l`].
    pub fn d2l_gluon(backend: &B, seed: u64) -> Result<Self> {
        Self::d2l_gluon_for(backend, seed, GREY, CLASSES)
    }

    /// [`Nin::d2l_gluon`] for images of `channels` channels and for `classes` classes.
    ///
    /// # Errors
    /// As [`Nin::d2l_for`].
    pub fn d2l_gluon_for(backend: &B, seed: u64, channels: usize, classes: usize) -> Result<Self> {
        Self::d2l_topology(Builder::new(backend, Init::Xavier, seed), channels, D2L_WIDTHS, classes, 0.5)
    }

    /// d2l's NiN with He weights, zero biases, and no ReLU before the global average, which can kill classes (see
    /// [`NinBlock::with_linear_output`]).
    ///
    /// # Errors
    /// As [`Nin::d2l`].
    pub fn stable(backend: &B, seed: u64) -> Result<Self> {
        Self::stable_for(backend, seed, GREY, CLASSES)
    }

    /// [`Nin::stable`] for images of `channels` channels and for `classes` classes.
    ///
    /// # Errors
    /// As [`Nin::d2l_for`].
    pub fn stable_for(backend: &B, seed: u64, channels: usize, classes: usize) -> Result<Self> {
        let build = Builder::new(backend, Init::He, seed);
        Self::d2l_blocks(build, channels, D2L_WIDTHS, classes, 0.5, NinBlock::with_linear_output)
    }

    /// [`Nin::d2l`] with `widths` channels in its first three blocks, and `dropout` as the probability of dropout (0.5
    /// in d2l).
    ///
    /// # Errors
    /// As [`Nin::d2l_for`].
    pub fn d2l_with_channels(backend: &B, seed: u64, widths: [usize; 3], dropout: f64) -> Result<Self> {
        Self::d2l_topology(Self::d2l_builder(backend, seed), GREY, widths, CLASSES, dropout)
    }

    fn d2l_topology(
        build: Builder<B>,
        channels: usize,
        widths: [usize; 3],
        classes: usize,
        dropout: f64,
    ) -> Result<Self> {
        Self::d2l_blocks(build, channels, widths, classes, dropout, |last| last)
    }

    /// d2l's blocks and pools, the last block as `finish` leaves it.
    fn d2l_blocks(
        mut build: Builder<B>,
        channels: usize,
        [a, b, c]: [usize; 3],
        classes: usize,
        dropout: f64,
        finish: fn(NinBlock<B>) -> NinBlock<B>,
    ) -> Result<Self> {
        let layers = Sequential::new()
            .push(build.nin_block(channels, a, 11, 4, 0)?)
            .push(POOL)
            .push(build.nin_block(a, b, 5, 1, 2)?)
            .push(POOL)
            .push(build.nin_block(b, c, 3, 1, 1)?)
            .push(POOL)
            .push(Dropout(dropout))
            .push(finish(build.nin_block(c, classes, 3, 1, 1)?))
            .push(GlobalAvgPool)
            .push(Flatten);
        Ok(Nin { layers })
    }

    /// A NiN for Fashion-MNIST's 1×28×28 images that trains in minutes on two CPU cores. It has d2l's four blocks with
    /// smaller filters and fewer channels, and He weights. There is no ReLU before the global average, because it can
    /// kill classes (see [`NinBlock::with_linear_output`]).
    ///
    /// # Errors
    /// As [`Nin::d2l`].
    pub fn small(backend: &B, seed: u64) -> Result<Self> {
        Self::small_for(backend, seed, GREY, CLASSES)
    }

    /// [`Nin::small`] for images of `channels` channels and for `classes` classes.
    ///
    /// # Errors
    /// As [`Nin::d2l_for`].
    pub fn small_for(backend: &B, seed: u64, channels: usize, classes: usize) -> Result<Self> {
        Self::narrow_topology(backend, seed, channels, classes, [2, 5], 0.5)
    }

    /// d2l's four blocks at half its width or less, for images of 28×28: `stride` is that of the first filter, which is 5×5, and
    /// `second` the side of the second block's; `dropout` is the probability of dropout.
    fn narrow_topology(
        backend: &B,
        seed: u64,
        channels: usize,
        classes: usize,
        [stride, second]: [usize; 2],
        dropout: f64,
    ) -> Result<Self> {
        let mut build = Builder::new(backend, Init::He, seed);
        let layers = Sequential::new()
            .push(build.nin_block(channels, 48, 5, stride, 2)?)
            .push(POOL)
            .push(build.nin_block(48, 96, second, 1, second / 2)?)
            .push(POOL)
            .push(build.nin_block(96, 192, 3, 1, 1)?)
            .push(Dropout(dropout))
            .push(build.nin_block(192, classes, 3, 1, 1)?.with_linear_output())
            .push(GlobalAvgPool)
            .push(Flatten);
        Ok(Nin { layers })
    }

    /// A NiN for Fashion-MNIST's 1×28×28 images that keeps more pixels than [`Nin::small`], whose third block has 2×2 of them: the
    /// blocks' sides are 28, 13 and 6 pixels here. It has d2l's four blocks, He weights, dropout of 0.3, and no ReLU before the global
    /// average.
    ///
    /// # Errors
    /// As [`Nin::d2l`].
    pub fn tuned(backend: &B, seed: u64) -> Result<Self> {
        Self::tuned_for(backend, seed, GREY, CLASSES)
    }

    /// [`Nin::tuned`] for images of `channels` channels and for `classes` classes.
    ///
    /// # Errors
    /// As [`Nin::d2l_for`].
    pub fn tuned_for(backend: &B, seed: u64, channels: usize, classes: usize) -> Result<Self> {
        Self::narrow_topology(backend, seed, channels, classes, [1, 3], 0.3)
    }

    /// The paper's network for CIFAR-10's 3×32×32 images: 966,986 parameters.
    ///
    /// Source: Lin, Chen, Yan, "Network in Network", 2013, <https://arxiv.org/abs/1312.4400>. It has three blocks of
    /// three convolutions: a 5×5 filter with 192, 160 and 96 channels; a 5×5 filter with 192 channels in all three; and
    /// a 3×3 filter with 192 and 192 channels and one for each class. A max pool and dropout follow the first two
    /// blocks, the global average follows the last. Pools round down here, so the blocks' sides are 32, 15 and 7
    /// pixels.
    ///
    /// Two differences from the paper: He weights, which keep the size of signals through eight ReLUs in a row, and no
    /// ReLU before the global average, because it can kill classes (see [`NinBlock::with_linear_output`]).
    ///
    /// # Errors
    /// As [`Nin::d2l`].
    pub fn cifar(backend: &B, seed: u64) -> Result<Self> {
        Self::cifar_for(backend, seed, 3, CLASSES)
    }

    /// [`Nin::cifar`] for images of `channels` channels and for `classes` classes.
    ///
    /// # Errors
    /// As [`Nin::d2l_for`].
    pub fn cifar_for(backend: &B, seed: u64, channels: usize, classes: usize) -> Result<Self> {
        Self::cifar_with_dropout(backend, seed, channels, classes, 0.5)
    }

    /// [`Nin::cifar_for`] with `dropout` as the probability of dropout (0.5 in the preset).
    ///
    /// # Errors
    /// As [`Nin::d2l_for`].
    pub fn cifar_with_dropout(backend: &B, seed: u64, channels: usize, classes: usize, dropout: f64) -> Result<Self> {
        let mut build = Builder::new(backend, Init::He, seed);
        let layers = Sequential::new()
            .push(build.nin_block(channels, [192, 160, 96], 5, 1, 2)?)
            .push(POOL)
            .push(Dropout(dropout))
            .push(build.nin_block(96, 192, 5, 1, 2)?)
            .push(POOL)
            .push(Dropout(dropout))
            .push(build.nin_block(192, [192, 192, classes], 3, 1, 1)?.with_linear_output())
            .push(GlobalAvgPool)
            .push(Flatten);
        Ok(Nin { layers })
    }

    /// The layers, in order.
    pub fn layers(&self) -> &Sequential<B> {
        &self.layers
    }
}

impl<B: Backend> Module<B> for Nin<B> {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        self.layers.layers(path, layers);
    }

    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        self.layers.forward(tape, x)
    }

    fn params(&self) -> Vec<(String, &Param<B>)> {
        self.layers.params()
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        self.layers.params_mut()
    }
}

impl<B: Backend> From<Nin<B>> for Sequential<B> {
    fn from(net: Nin<B>) -> Self {
        net.layers
    }
}

//! NiN of the presets' shapes, with what the exercises vary.

use mlpconv::nn::{Builder, Dropout, Flatten, GlobalAvgPool, Init, MaxPool, Sequential, Summary};
use mlpconv::train::Preset;
use mlpconv::{Backend, Result, Shape};

use super::super::{grouped, metric};

/// The max pool of every preset.
const POOL: MaxPool = MaxPool { window: 3, stride: 2 };
const CLASSES: usize = 10;

/// The preset that an exercise varies: the book's with `--full`, or else the small one.
pub fn preset(full: bool) -> Preset {
    if full { Preset::D2l } else { Preset::Small }
}

/// What an exercise varies of a preset's network, [`Preset::D2l`] or [`Preset::Small`].
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub preset: Preset,
    /// The channels of the first three blocks are divided by this.
    pub narrower: usize,
    /// 1×1 convolutions in each block.
    pub pointwise: usize,
    /// Whether the last block ends without a ReLU.
    pub linear_output: bool,
    /// The rules for weights and biases.
    pub init: [Init; 2],
}

impl Variant {
    /// The preset's network itself.
    pub fn of(preset: Preset) -> Self {
        let (linear_output, init) = match preset {
            Preset::D2l => (false, [Init::Xavier, Init::FanIn]),
            _ => (true, [Init::He, Init::Zeros]),
        };
        Variant { preset, narrower: 1, pointwise: 2, linear_output, init }
    }

    /// The network, with initial values drawn from `seed`.
    ///
    /// # Errors
    /// As [`Preset::net`].
    pub fn net<B: Backend>(&self, backend: &B, seed: u64) -> Result<Sequential<B>> {
        let [weight, bias] = self.init;
        let mut build = Builder::new(backend, weight, seed).with_bias(bias);
        let mut block = |inputs: usize, outputs: usize, [filter, stride, pad]: [usize; 3]| {
            build.nin_block(inputs, vec![outputs; 1 + self.pointwise], filter, stride, pad)
        };
        let widths = if self.preset == Preset::D2l { [96, 256, 384] } else { [48, 96, 192] };
        let [a, b, c] = widths.map(|width| width / self.narrower);
        let net = match self.preset {
            Preset::D2l => Sequential::new()
                .push(block(1, a, [11, 4, 0])?)
                .push(POOL)
                .push(block(a, b, [5, 1, 2])?)
                .push(POOL)
                .push(block(b, c, [3, 1, 1])?)
                .push(POOL),
            _ => Sequential::new()
                .push(block(1, a, [5, 2, 2])?)
                .push(POOL)
                .push(block(a, b, [5, 1, 2])?)
                .push(POOL)
                .push(block(b, c, [3, 1, 1])?),
        };
        let last = block(c, CLASSES, [3, 1, 1])?;
        let last = if self.linear_output { last.with_linear_output() } else { last };
        Ok(net.push(Dropout(0.5)).push(last).push(GlobalAvgPool).push(Flatten))
    }
}

/// What a network costs for one grey image.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub params: usize,
    /// Multiply-adds of inference.
    pub macs: usize,
    /// Multiply-adds of a training step.
    pub training_macs: usize,
}

impl Cost {
    /// # Errors
    /// As [`Summary::new`].
    pub fn of<B: Backend>(net: &Sequential<B>, size: usize) -> Result<Self> {
        let summary = Summary::new(net, Shape::image(1, 1, size, size))?;
        let (params, macs) = (summary.params(), summary.forward_macs());
        Ok(Cost { params, macs, training_macs: summary.training_macs() })
    }

    /// Parameters and multiply-adds, for readers.
    pub fn cells(&self) -> [String; 2] {
        [grouped(self.params), metric(self.macs)]
    }
}

#[cfg(test)]
mod tests {
    use mlpconv::nn::{Module as _, predict};
    use mlpconv::{Cpu, Shape};

    use super::*;

    #[test]
    fn the_variant_that_varies_nothing_is_the_preset() {
        let backend = Cpu::<f32>::new();
        for preset in [Preset::D2l, Preset::Small] {
            let (net, own) = (preset.net(&backend, 7).unwrap(), Variant::of(preset).net(&backend, 7).unwrap());
            let size = preset.config().resize;
            let (images, shape) = (vec![0.5; size * size], Shape::image(1, 1, size, size));
            let logits = predict(&backend, &net, &images, shape).unwrap();
            assert_eq!(predict(&backend, &own, &images, shape).unwrap(), logits, "{preset}");
            assert_eq!(own.params().len(), net.params().len());
        }
    }
}

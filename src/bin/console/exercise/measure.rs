//! Time and memory of a part of a network by itself: predicted from its shapes, and measured on a device that holds nothing
//! else.

use std::time::Instant;

use mlpconv::device::Role;
use mlpconv::nn::{Module as _, Sequential, Summary};
use mlpconv::{Backend, Cpu, Mode, Result, Shape, Tape};

use super::super::device::{DeviceArgs, choose, on_device};

/// Timed runs of a pass, of which the median is told; one more before them warms up.
pub const RUNS: usize = 5;

/// A part of a network, to be made on any backend.
pub trait Part {
    /// # Errors
    /// As [`Builder::conv2d`](mlpconv::nn::Builder::conv2d).
    fn make<B: Backend>(&self, backend: &B) -> Result<Sequential<B>>;
}

/// A part with the batch that it runs on.
pub struct Trial<P> {
    pub part: P,
    /// `[N, C, H, W]`.
    pub input: Shape,
    /// Whether the backward pass computes the gradient of the input, as it does behind other layers that learn.
    pub dgrad: bool,
}

/// A pass: inference, or forward and backward.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    pub seconds: f64,
    /// Peak bytes by [`Summary`], without a device's working memory.
    pub predicted: usize,
    /// Peak bytes of the device's buffers.
    pub measured: usize,
}

impl Pass {
    /// Bytes measured beyond those predicted; 0 if there are none.
    pub fn working(&self) -> usize {
        self.measured.saturating_sub(self.predicted)
    }
}

/// The passes of a part.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    pub inference: Pass,
    /// Forward and backward, without an update.
    pub training: Pass,
}

impl<P: Part> Trial<P> {
    /// What the part costs by its shapes.
    ///
    /// # Errors
    /// As [`Summary::new`].
    pub fn summary(&self) -> Result<Summary> {
        let mut summary = Summary::new(&self.part.make(&Cpu::<f32>::new())?, self.input)?;
        for layer in &mut summary.layers {
            layer.dgrad |= self.dgrad;
        }
        Ok(summary)
    }

    /// Predicts and measures both passes. Each runs on a fresh device: a device's peak never falls, and blocks that are used again
    /// may be larger than what is asked for.
    ///
    /// # Errors
    /// As the device.
    pub fn passes(&self, device: &DeviceArgs) -> Result<Passes> {
        let summary = self.summary()?;
        let output = summary.layers.last().map_or(0, |layer| layer.output.len());
        let fresh = || choose(device, None);
        let precision = fresh()?.precision;
        let measure = |training| {
            let device = fresh()?;
            on_device!(&device.backend, backend => self.measure(backend, training))
        };
        let (seconds, measured) = measure(false)?;
        let inference = Pass { seconds, predicted: summary.inference_bytes(precision), measured };
        let (seconds, measured) = measure(true)?;
        // The backward pass begins with the output still there: a layer behind this one would keep it as its input.
        let predicted = summary.training_bytes(precision, 0) + output * precision.activation_width();
        Ok(Passes { inference, training: Pass { seconds, predicted, measured } })
    }

    /// Median seconds, and the peak of the first run.
    fn measure<B: Backend<Scalar = f32>>(&self, backend: &B, training: bool) -> Result<(f64, usize)> {
        let part = self.part.make(backend)?;
        let images: Vec<f32> = (0..self.input.len()).map(|i| (i % 251) as f32 / 251.0).collect();
        let mut peak = None;
        let seconds = median(|| {
            let x = backend.upload(Role::Activation, &images)?;
            backend.synchronize()?;
            let began = Instant::now();
            if training {
                self.train(backend, &part, x)?;
            } else {
                let mut tape = Tape::new(backend, Mode::Inference);
                let x = tape.constant(x, self.input)?;
                part.forward(&mut tape, x)?;
            }
            backend.synchronize()?;
            let seconds = began.elapsed().as_secs_f64();
            peak.get_or_insert(backend.memory().peak);
            Ok(seconds)
        })?;
        Ok((seconds, peak.unwrap_or_default()))
    }

    fn train<B: Backend<Scalar = f32>>(&self, backend: &B, part: &Sequential<B>, x: B::Buf) -> Result<()> {
        let mut tape = Tape::new(backend, Mode::Training { seed: 0, epoch: 0, step: 0 });
        let x = match self.dgrad {
            true => tape.variable(x, self.input, Role::Activation)?,
            false => tape.constant(x, self.input)?,
        };
        let y = part.forward(&mut tape, x)?;
        let mut gradient = backend.alloc(Role::Activation, y.shape().len())?;
        backend.fill(&mut gradient, 1.0)?;
        tape.backward_from(&y, gradient).map(drop)
    }
}

/// The median of [`RUNS`] runs, each of which tells its seconds, after one to warm up.
///
/// # Errors
/// Those of `run`.
pub fn median(mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    run()?;
    let mut seconds = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[RUNS / 2])
}

/// A time of a pass, for readers: `1.23 ms`.
pub fn milliseconds(seconds: f64) -> String {
    match seconds * 1e3 {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use mlpconv::nn::{Builder, Init};

    use super::*;

    struct Pair;

    impl Part for Pair {
        fn make<B: Backend>(&self, backend: &B) -> Result<Sequential<B>> {
            let mut build = Builder::new(backend, Init::He, 0);
            Ok(Sequential::new().push(build.nin_block(6, [10, 4], 3, 1, 1)?))
        }
    }

    #[test]
    fn memory_is_what_a_hand_count_gives() {
        let trial = Trial { part: Pair, input: Shape::image(2, 6, 5, 5), dgrad: true };
        let device = DeviceArgs { device: Some("cpu".into()), precision: None, threads: Some(1) };
        let Passes { inference, training } = trial.passes(&device).unwrap();
        // Elements: parameters, input, the value between the layers, and output.
        let (params, x, h, y) = (6 * 9 * 10 + 10 + 10 * 4 + 4, 2 * 6 * 25, 2 * 10 * 25, 2 * 4 * 25);
        assert_eq!(inference.predicted, 4 * (params + x + h));
        assert_eq!(training.predicted, 4 * (2 * params + y + (x + h + h + y).max(x + x + h)));
        for pass in [inference, training] {
            // At least parameters and gradients are there; a strip of im2col is at most 512 KiB.
            assert!(pass.measured >= 4 * params && pass.working() <= 1 << 20, "{pass:?}");
        }
        assert!(training.measured >= training.predicted, "{training:?}");
    }

    #[test]
    fn the_median_leaves_out_the_first_run() {
        let mut runs = [9.0, 5.0, 1.0, 2.0, 4.0, 3.0].into_iter();
        assert_eq!(median(|| Ok(runs.next().unwrap())).unwrap(), 3.0);
    }
}

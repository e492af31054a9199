//! LSUV: initial values that a batch of images has scaled.

use super::plan::{Pixels, Plan};
use super::{Module, Op, layers, params_mut};
use crate::device::{Real, Role};
use crate::tape::{Mode, Tape};
use crate::{Backend, Error, Result, Shape};

/// A variance this close to 1 is one.
const TOLERANCE: f64 = 0.01;
/// The most scalings of a layer. Without a bias one is enough.
const TRIES: usize = 10;

/// Layer-sequential unit-variance initialisation: layer after layer, the weights of each convolution are scaled so that its
/// outputs for `images`, before its ReLU, have variance 1. Biases stay as they are, and so do convolutions whose outputs are
/// all alike. `images` are of shape `shape` `[N, C, H, W]`, in NHWC memory order.
///
/// Source: Mishkin, Matas, "All you need is a good init", ICLR 2016, <https://arxiv.org/abs/1511.06422>. It begins with
/// orthonormal weights; here they are what the network has.
///
/// # Errors
/// [`Error::Shape`] for shapes or lengths that do not fit the network; [`Error::ParameterInUse`] while a variable of some tape
/// shares a parameter's data; the errors of the device.
pub fn lsuv<B: Backend, M: Module<B> + ?Sized>(
    backend: &B,
    net: &mut M,
    images: &[B::Scalar],
    shape: Shape,
) -> Result<()> {
    for layer in 0..layers(net).len() {
        for _ in 0..TRIES {
            let Some((weight, variance)) = variance(backend, net, layer, images, shape)? else { break };
            if !(variance > 0.0 && variance.is_finite()) || (variance - 1.0).abs() < TOLERANCE {
                break;
            }
            let scale = variance.sqrt().recip();
            let Some((_, param)) = params_mut(net)?.into_iter().nth(weight) else { break };
            let scaled: Vec<B::Scalar> =
                backend.download(param.data())?.into_iter().map(|w| Real::from_f64(w.to_f64() * scale)).collect();
            param.set(backend, &scaled)?;
        }
    }
    Ok(())
}

/// The number of layer `last`'s weights among the network's parameters, and the variance of its outputs before its ReLU; `None`
/// if it is no convolution.
fn variance<B: Backend, M: Module<B> + ?Sized>(
    backend: &B,
    net: &M,
    last: usize,
    images: &[B::Scalar],
    shape: Shape,
) -> Result<Option<(usize, f64)>> {
    let mut layers = layers(net);
    layers.truncate(last + 1);
    let Some(Op::Conv2d { weight, relu, .. }) = layers.last_mut().map(|layer| &mut layer.op) else { return Ok(None) };
    *relu = false;
    let id = weight.id();
    let unlisted = || Error::config("network", "a convolution's weights are not among its modules' parameters");
    let place = net.params().iter().position(|(_, param)| param.id() == id).ok_or_else(unlisted)?;
    let plan = Plan::with(&layers, shape, Pixels::All, &|_| Err("the last layer's output is read".into()))?;
    let mut tape = Tape::new(backend, Mode::Inference);
    let x = tape.constant(backend.upload(Role::Activation, images)?, shape)?;
    let outputs = backend.download(plan.run(&layers, &mut tape, x)?.data())?;
    let count = outputs.len().max(1) as f64;
    let mean = outputs.iter().map(|y| y.to_f64()).sum::<f64>() / count;
    let squares = outputs.iter().map(|y| (y.to_f64() - mean).powi(2)).sum::<f64>();
    Ok(Some((place, squares / count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Nin;
    use crate::{Cpu, Device};

    #[test]
    fn every_convolution_has_unit_variance_before_its_relu() {
        let backend = Cpu::<f32>::new();
        let shape = Shape::image(8, 1, 28, 28);
        let images: Vec<f32> = (0..shape.len()).map(|i| (i * i % 251) as f32 / 251.0).collect();
        // Biases of one net are zero, those of the other are not.
        for mut net in [Nin::small(&backend, 3).unwrap(), Nin::d2l_with_channels(&backend, 3, [8, 8, 8], 0.5).unwrap()]
        {
            let small = layers(&net).len() == layers(&Nin::small(&backend, 0).unwrap()).len();
            let shape = if small { shape } else { Shape::image(2, 1, 67, 67) };
            let images: Vec<f32> =
                if small { images.clone() } else { images.iter().cycle().take(shape.len()).copied().collect() };
            let before = (0..layers(&net).len()).filter_map(|i| variance(&backend, &net, i, &images, shape).unwrap());
            assert!(before.map(|(_, variance)| variance).any(|variance| (variance - 1.0).abs() > 0.3));
            lsuv(&backend, &mut net, &images, shape).unwrap();
            let mut convolutions = 0;
            for i in 0..layers(&net).len() {
                let Some((_, variance)) = variance(&backend, &net, i, &images, shape).unwrap() else { continue };
                assert!((variance - 1.0).abs() < 0.02, "layer {i}: {variance}");
                convolutions += 1;
            }
            assert_eq!(convolutions, 12);
        }
    }

    #[test]
    fn images_without_contrast_change_nothing_and_break_nothing() {
        let backend = Cpu::<f32>::new();
        let mut net = Nin::small(&backend, 3).unwrap();
        let before: Vec<_> = net.params().iter().map(|(_, param)| backend.download(param.data()).unwrap()).collect();
        let shape = Shape::image(2, 1, 28, 28);
        lsuv(&backend, &mut net, &vec![0.0; shape.len()], shape).unwrap();
        let after: Vec<_> = net.params().iter().map(|(_, param)| backend.download(param.data()).unwrap()).collect();
        assert_eq!(before, after);
        assert!(lsuv(&backend, &mut net, &[0.0; 3], shape).is_err());
    }
}

//! The outputs of a network's inner layers.

use super::plan::{Pixels, Plan};
use super::{Module, layers};
use crate::device::Role;
use crate::tape::{Mode, Tape};
use crate::{Backend, Error, Result, Shape};

/// The output of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<S> {
    /// `[N, C, H, W]`; of a flat layer `[N, K]`.
    pub shape: Shape,
    /// The values in NHWC memory order.
    pub values: Vec<S>,
}

/// The outputs of the layers named in `paths` ([`Layer::path`](super::Layer::path)), in that order, for a batch without
/// dropout. Every layer runs as an op of its own on all pixels, so they are there to read where [`predict`](super::predict)
/// fuses them; the last layer's output is the logits, within the rounding of a fused op.
///
/// A convolution's ReLU is part of its layer. `images` are of shape `shape` `[N, C, H, W]`, in NHWC memory order.
///
/// # Errors
/// [`Error::Config`] for a name that no layer has; [`Error::Shape`] for shapes or lengths that do not fit the network; the
/// errors of the device.
pub fn outputs<B: Backend, M: Module<B> + ?Sized>(
    backend: &B,
    net: &M,
    images: &[B::Scalar],
    shape: Shape,
    paths: &[&str],
) -> Result<Vec<Output<B::Scalar>>> {
    let layers = layers(net);
    if let Some(path) = paths.iter().find(|path| !layers.iter().any(|layer| layer.path == **path)) {
        let names: Vec<&str> = layers.iter().map(|layer| &*layer.path).collect();
        return Err(Error::config("layer", format!("there is none named {path:?}; there are {}", names.join(", "))));
    }
    let plan = Plan::with(&layers, shape, Pixels::All, &|_| Err("every layer's output is read".into()))?;
    let mut tape = Tape::new(backend, Mode::Inference);
    let x = tape.constant(backend.upload(Role::Activation, images)?, shape)?;
    let mut found: Vec<Option<Output<B::Scalar>>> = vec![None; paths.len()];
    plan.run_telling(&layers, &mut tape, x, &mut |layer, output| {
        for (found, _) in found.iter_mut().zip(paths).filter(|(_, path)| layer.path == **path) {
            *found = Some(Output { shape: output.shape(), values: backend.download(output.data())? });
        }
        Ok(())
    })?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::nn::{Nin, predict};

    #[test]
    fn the_last_output_is_the_prediction() {
        let backend = Cpu::<f32>::new();
        let net = Nin::small(&backend, 3).unwrap();
        let shape = Shape::image(2, 1, 28, 28);
        let images: Vec<f32> = (0..shape.len()).map(|i| (i % 97) as f32 / 97.0).collect();
        let paths: Vec<String> = layers(&net).iter().map(|layer| layer.path.clone()).collect();
        let last = paths.last().unwrap();
        let found = outputs(&backend, &net, &images, shape, &[last, &paths[0], last]).unwrap();
        let logits = predict(&backend, &net, &images, shape).unwrap();
        for output in [&found[0], &found[2]] {
            assert_eq!(output.shape.dims(), [2, 10]);
            assert!(output.values.iter().zip(&logits).all(|(a, b)| (a - b).abs() < 1e-5), "{output:?}, {logits:?}");
        }
        assert_eq!(found[1].shape, Shape::image(2, 48, 14, 14), "all pixels, those that the pool does not read too");
        assert_eq!(found[1].values.len(), found[1].shape.len());

        let refused = outputs(&backend, &net, &images, shape, &["9.9"]).unwrap_err().to_string();
        assert!(refused.starts_with("layer: there is none named \"9.9\"; there are 0.0, 0.1, 0.2, 1,"), "{refused}");
    }

    /// NiN's argument for the global average: the mean of a class's map is the class's logit.
    #[test]
    fn the_mean_of_a_map_of_the_last_block_is_the_logit() {
        let backend = Cpu::<f32>::new();
        let net = Nin::cifar(&backend, 3).unwrap();
        let shape = Shape::image(1, 3, 32, 32);
        let images: Vec<f32> = (0..shape.len()).map(|i| (i % 89) as f32 / 89.0).collect();
        let found = outputs(&backend, &net, &images, shape, &["6.2"]).unwrap();
        let (maps, pixels) = (&found[0], found[0].shape.h() * found[0].shape.w());
        let logits = predict(&backend, &net, &images, shape).unwrap();
        for (class, logit) in logits.iter().enumerate() {
            let mean = maps.values.iter().skip(class).step_by(10).sum::<f32>() / pixels as f32;
            assert!((mean - logit).abs() < 1e-4, "class {class}: {mean}, {logit}");
        }
    }
}

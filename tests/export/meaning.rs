//! ONNX files mean what the engine computes: the graph in the file's bytes, run by plain loops, gives the engine's
//! logits.

use mlpconv::nn;

use super::graph::{Array, logits};
use super::*;

/// The largest difference, relative to the largest logit: float32 sums of a few thousand products, in up to twelve layers.
const TOLERANCE: f64 = 1e-5;
/// The least standard deviation of a logit over the images, relative to the largest. Files whose weights were lost or whose
/// pixels were read in another order would still give logits that hardly vary.
const SPREAD: f64 = 1e-2;

/// Numbers between -1 and 1 without a pattern, others for each seed.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let word = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x7f4a_7c15));
    let mixed = |word: u32| (word ^ (word >> 15)).wrapping_mul(0x85eb_ca6b);
    (0..count).map(|i| mixed(word(i)) as i32 as f32 / 2f32.powi(31)).collect()
}

/// `[N, H, W, C]` as `[N, C, H, W]`.
fn planes(values: &[f32], [n, c, h, w]: [usize; 4]) -> Vec<f64> {
    let pixels = h * w;
    let at = |i: usize| {
        let (image, channel, pixel) = (i / (c * pixels), i / pixels % c, i % pixels);
        f64::from(values[(image * pixels + pixel) * c + channel])
    };
    (0..n * c * pixels).map(at).collect()
}

/// Holds the file of `net` to what the engine computes of images of shape `input`.
fn agrees(what: &str, net: &impl Module<Cpu<f32>>, input: Shape) {
    let backend = Cpu::<f32>::new();
    let file = export::onnx(&backend, net, input, &Meta::default()).unwrap();
    let (mut images, dims) = (noise(0, input.len()), [input.n(), input.c(), input.h(), input.w()]);
    // Each of another contrast, so that their means differ too.
    for (contrast, image) in (1..).zip(images.chunks_mut(input.len() / input.n())) {
        image.iter_mut().for_each(|value| *value *= contrast as f32);
    }
    let theirs = logits(&file, Array { dims: dims.to_vec(), values: planes(&images, dims) });
    let ours = nn::predict(&backend, net, &images, input).unwrap();
    let ours = match theirs.dims[..] {
        [n, c, h, w] => planes(&ours, [n, c, h, w]),
        _ => ours.iter().copied().map(f64::from).collect(),
    };
    assert_eq!(ours.len(), theirs.values.len(), "{what}");
    let largest = ours.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let differences = ours.iter().zip(&theirs.values).map(|(ours, theirs)| (ours - theirs).abs());
    let difference = differences.fold(0.0, f64::max);
    assert!(difference <= TOLERANCE * largest, "{what}: {difference} of {largest}");

    let (n, width) = (input.n(), ours.len() / input.n());
    let deviation = |class: usize| {
        let values = || (0..n).map(|image| ours[image * width + class]);
        let mean = values().sum::<f64>() / n as f64;
        (values().map(|value| (value - mean).powi(2)).sum::<f64>() / n as f64).sqrt()
    };
    let spread = (0..width).map(deviation).sum::<f64>() / width as f64;
    assert!(spread >= SPREAD * largest, "{what}: {spread} of {largest}");
}

/// A network builder whose biases are not zero.
fn builder() -> Builder<Cpu<f32>> {
    Builder::new(&Cpu::new(), Init::He, 3).with_bias(Init::FanIn)
}

/// A convolution of `k` filters, `r` pixels high and `s` wide, which `Builder` does not make.
fn oblong([k, c, r, s]: [usize; 4], window: Window) -> Conv2d<Cpu<f32>> {
    let (backend, shape) = (Cpu::new(), Shape::weight(k, c, r, s));
    let weight = Param::new(&backend, shape, &noise(1, shape.len())).unwrap();
    Conv2d::new(weight, Param::new(&backend, Shape::vector(k), &noise(2, k)).unwrap(), window)
}

/// A convolution that runs twice with the same parameters.
struct Twice(Conv2d<Cpu<f32>>);

impl Module<Cpu<f32>> for Twice {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, Cpu<f32>>>) {
        self.0.layers(path, layers);
        self.0.layers(path, layers);
    }

    fn params(&self) -> Vec<(String, &Param<Cpu<f32>>)> {
        self.0.params()
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<Cpu<f32>>)> {
        self.0.params_mut()
    }
}

#[test]
fn a_files_graph_computes_the_engines_logits() {
    let nets = Sequential::<Cpu<f32>>::new;
    let mut build = builder();
    agrees("every kind of layer", &coloured(&Cpu::new()), IMAGES);
    let wide_pads = nets().push(build.conv2d(3, 5, 2, 3, 4).unwrap()).push(Flatten);
    agrees("pads wider than the filter, a stride longer than it", &wide_pads, Shape::image(5, 3, 7, 5));
    let oblongs = nets()
        .push(oblong([4, 3, 1, 5], Window { stride: 2, pad: 1 }).with_relu())
        .push(oblong([5, 4, 3, 2], Window::default()))
        .push(GlobalAvgPool)
        .push(Flatten);
    agrees("filters that are not square", &oblongs, Shape::image(4, 3, 11, 13));
    for (window, stride) in [(3, 2), (2, 3), (4, 1), (1, 2), (5, 5)] {
        let pools = nets()
            .push(build.conv2d(3, 7, 3, 1, 1).unwrap())
            .push(MaxPool { window, stride })
            .push(build.conv2d(7, 3, 1, 1, 0).unwrap())
            .push(Flatten);
        agrees(&format!("a pool of {window} at {stride}, with rows left over"), &pools, Shape::image(3, 3, 10, 8));
    }
    let bare = nets().push(Relu).push(build.conv2d(3, 4, 3, 1, 0).unwrap()).push(Dropout(0.5)).push(Relu);
    agrees("no pool and no flattening", &bare, Shape::image(4, 3, 6, 5));
    agrees("one pixel", &nets().push(build.nin_block(3, 5, 3, 1, 1).unwrap()).push(Flatten), Shape::image(6, 3, 1, 1));
    let twice = nets().push(Twice(build.conv2d(3, 3, 3, 1, 1).unwrap())).push(GlobalAvgPool).push(Flatten);
    agrees("shared parameters", &twice, Shape::image(4, 3, 5, 7));
    agrees("dropout alone", &nets().push(Dropout(0.5)), Shape::image(3, 3, 2, 2));
}

/// The network with He's weights, and biases that are not zero. The logits of fresh weights of `d2l` hardly vary.
fn drawn(mut net: Nin<Cpu<f32>>) -> Nin<Cpu<f32>> {
    for (seed, (_, param)) in (1..).zip(net.params_mut()) {
        let bound = match param.shape().dims() {
            [_, fan_in @ ..] if !fan_in.is_empty() => (6.0 / fan_in.iter().product::<usize>() as f32).sqrt(),
            _ => 0.1,
        };
        let values: Vec<f32> = noise(seed, param.shape().len()).iter().map(|value| bound * value).collect();
        param.set(&Cpu::new(), &values).unwrap();
    }
    net
}

#[test]
fn a_presets_graph_computes_the_engines_logits() {
    let backend = Cpu::<f32>::new();
    agrees("small", &drawn(Nin::small(&backend, 1).unwrap()), Shape::image(3, 1, 28, 28));
    agrees("tuned", &drawn(Nin::tuned(&backend, 1).unwrap()), Shape::image(3, 1, 28, 28));
    agrees("cifar", &drawn(Nin::cifar(&backend, 1).unwrap()), Shape::image(2, 3, 32, 32));
    let narrow = Nin::d2l_with_channels(&backend, 1, [12, 20, 28], 0.5).unwrap();
    agrees("d2l, narrow", &drawn(narrow), Shape::image(2, 1, 224, 224));
}

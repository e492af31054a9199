//! Exporting a network of one's own, for colour images: `export FOLDER` makes the folder, with the network as ONNX and as a
//! PyTorch module, its weights, and some images with the logits that the engine computes of them.
//!
//! `tests/export/check.py` holds other engines to these logits.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use mlpconv::data::Normalization;
use mlpconv::export::{self, Meta, Output, together};
use mlpconv::nn::{self, Builder, Conv2d, Init, Layer, Module, NinBlock, Op};
use mlpconv::weights::{self, write_whole};
use mlpconv::{Cpu, Param, Shape};
use safetensors::{Dtype, tensor::TensorView};

/// A convolution, a block, and what a NiN ends in.
struct Net {
    stem: Conv2d<Cpu<f32>>,
    block: NinBlock<Cpu<f32>>,
}

impl Module<Cpu<f32>> for Net {
    /// The network is a whole, so `path` is empty.
    fn layers<'a>(&'a self, _: &str, layers: &mut Vec<Layer<'a, Cpu<f32>>>) {
        self.stem.layers("stem", layers);
        layers.push(Layer::new("relu", "", Op::Relu));
        layers.push(Layer::new("pool", "", Op::MaxPool { window: 3, stride: 2 }));
        self.block.layers("block", layers);
        layers.push(Layer::new("mean", "", Op::GlobalAvgPool));
        layers.push(Layer::new("flatten", "", Op::Flatten));
    }

    fn params(&self) -> Vec<(String, &Param<Cpu<f32>>)> {
        within("stem", self.stem.params()).chain(within("block", self.block.params())).collect()
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<Cpu<f32>>)> {
        within("stem", self.stem.params_mut()).chain(within("block", self.block.params_mut())).collect()
    }
}

/// The parameters of a module, under their names in the network.
fn within<P>(module: &str, params: Vec<(String, P)>) -> impl Iterator<Item = (String, P)> {
    params.into_iter().map(move |(name, param)| (format!("{module}.{name}"), param))
}

/// Images, channels, height and width.
const DIMS: [usize; 4] = [9, 3, 33, 29];
const CLASSES: [&str; 4] = ["north", "east", "south", "west"];

/// A pixel of image `n` in channel `c`: waves, of another length in each image and shifted in each channel.
fn wave(n: usize, c: usize, y: usize, x: usize) -> f32 {
    ((x + 2 * y) as f32 / (n + 1) as f32 + c as f32).sin()
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os().nth(1).map(PathBuf::from).ok_or("usage: export FOLDER")?;
    let backend = &Cpu::<f32>::new();
    let mut build = Builder::new(backend, Init::He, 1).with_bias(Init::FanIn);
    let [n, c, h, w] = DIMS;
    let stem = build.conv2d(c, 12, 5, 2, 1)?;
    let net = &Net { stem, block: build.nin_block(12, [20, CLASSES.len()], 3, 1, 1)?.with_linear_output() };

    let images = Shape::image(n, c, h, w);
    let classes = CLASSES.map(str::to_owned).to_vec();
    let normalization = Normalization::new(vec![0.5, 0.25, 0.125], vec![0.5, 1.0, 2.0])?;
    let meta = Meta { preset: None, classes, normalization };
    let (onnx, module) = (export::onnx(backend, net, images, &meta)?, export::torch_py(net, images, &meta)?);
    fs::create_dir(&folder)?;
    together(vec![
        Output::file(folder.join("net.onnx"), |path| write_whole(path, &onnx)),
        Output::file(folder.join("net.py"), |path| write_whole(path, module.as_bytes())),
        Output::file(folder.join("net.safetensors"), |path| weights::save(backend, net, path)),
    ])?;

    // The engine reads images pixel by pixel, NHWC; files have them channel by channel, NCHW.
    let pixels: Vec<f32> =
        (0..images.len()).map(|i| wave(i / (c * h * w), i % c, i / (c * w) % h, i / c % w)).collect();
    let planes: Vec<f32> =
        (0..images.len()).map(|i| wave(i / (c * h * w), i / (h * w) % c, i / w % h, i % w)).collect();
    let logits = nn::predict(backend, net, &pixels, images)?;
    let x = TensorView::new(Dtype::F32, images.dims().to_vec(), bytemuck::cast_slice(&planes))?;
    let logits = TensorView::new(Dtype::F32, vec![n, CLASSES.len()], bytemuck::cast_slice(&logits))?;
    fs::write(folder.join("logits.safetensors"), safetensors::serialize([("x", x), ("logits", logits)], None)?)?;
    Ok(())
}

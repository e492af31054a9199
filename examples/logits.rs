//! Computes logits for `tests/pytorch/check_weights.py` and `tests/export/check.py`: `logits PRESET WEIGHTS IMAGES OUT
//! [BATCH]` reads tensor `x` [N, 1, H, W] from the safetensors file IMAGES, computes so many images at once, or all, and
//! writes tensor `logits` [N, 10] to OUT.

use std::error::Error;
use std::{env, fs};

use mlpconv::train::{Preset, Trainer};
use mlpconv::{Cpu, Shape, weights};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [preset, weights_file, images, out, batch @ ..] = &args[..] else {
        return Err("usage: logits PRESET WEIGHTS IMAGES OUT [BATCH]".into());
    };
    let preset: Preset = preset.parse()?;
    let backend = Cpu::<f32>::new();
    let mut net = preset.net(&backend, 0)?;
    weights::load(&backend, &mut net, weights_file)?;
    let trainer = Trainer::new(&backend, net, preset.config().optimizer(&backend), 0)?;

    let bytes = fs::read(images)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let x = file.tensor("x")?;
    let (Dtype::F32, &[n, 1, h, w]) = (x.dtype(), x.shape()) else {
        return Err(format!("x is {:?} {:?}, not F32 [N, 1, H, W]", x.dtype(), x.shape()).into());
    };
    // One channel: NCHW, as PyTorch has it, and NHWC are the same bytes.
    let pixels: Vec<f32> = bytemuck::pod_collect_to_vec(x.data());
    let batch = batch.first().map_or(Ok(n), |batch| batch.parse())?;
    let mut logits = Vec::new();
    for images in pixels.chunks(batch * h * w) {
        logits.extend(trainer.predict(images, Shape::image(images.len() / (h * w), 1, h, w))?);
    }
    let view = TensorView::new(Dtype::F32, vec![n, logits.len() / n], bytemuck::cast_slice(&logits))?;
    fs::write(out, safetensors::serialize([("logits", view)], None)?)?;
    Ok(())
}

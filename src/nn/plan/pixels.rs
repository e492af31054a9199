//! The choice of computed pixels: backward over the layers for the rows and columns that later layers read, then
//! forward for the part that each layer can leave out.

use super::{Kind, Planned};
use crate::Result;
use crate::shape::{ConvShape, PoolShape};

/// Crops the layers' live outputs to the rows and columns that later layers read.
///
/// Cropping, by layer:
///
/// * A convolution with a larger filter than 1×1, a stride or padding crops its own output, and reads all of its input.
/// * A 1×1 convolution is never cropped by itself, because it would have to copy the cropped part of its input first.
///   It and a ReLU read the pixels that are read of their output, and compute all pixels of their (cropped) input.
/// * A pool in floor mode reads the pixels that its windows cover.
/// * Other layers read all of their input. Dropout does, because its mask depends on the elements' positions.
pub(super) fn crop(layers: &mut [Planned]) -> Result<()> {
    let mut read = Vec::with_capacity(layers.len());
    let mut next: Option<[usize; 2]> = None;
    for layer in layers.iter().rev() {
        let whole = [layer.output.h(), layer.output.w()];
        let of_output = next.unwrap_or(whole);
        read.push(of_output);
        next = match layer.kind {
            Kind::Conv2d { weight, window, .. }
                if ConvShape::new("conv2d", layer.input, weight, window)?.is_pointwise() =>
            {
                Some(of_output)
            }
            Kind::Relu => Some(of_output),
            Kind::MaxPool { window, stride } => {
                let reach = PoolShape::new("maxpool", layer.input, window, stride)?.read();
                Some([reach.h(), reach.w()])
            }
            _ => None,
        };
    }
    let Some(first) = layers.first() else { return Ok(()) };
    let mut x = first.input;
    for (layer, [h, w]) in layers.iter_mut().zip(read.into_iter().rev()) {
        layer.live = match layer.kind {
            Kind::Conv2d { weight, window, .. } => {
                let shape = ConvShape::new("conv2d", x, weight, window)?;
                if shape.is_pointwise() { shape.output() } else { shape.cropped(h, w).output() }
            }
            Kind::Relu => x,
            _ => layer.output,
        };
        x = layer.live;
    }
    Ok(())
}

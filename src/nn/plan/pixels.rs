//! Which pixels are computed: backward over the layers for the rows and columns that are read, forward for what each layer
//! can leave out of them.

use super::{Kind, Planned};
use crate::Result;
use crate::shape::{ConvShape, PoolShape};

/// Crops the layers' live outputs to the rows and columns that later layers read.
///
/// A convolution leaves out the end of its output where its filter is no mere 1×1, which would first have to copy the part of
/// its input that is read; 1×1 convolutions and ReLUs pass on what is read of them. A pool in floor mode reads as far as its
/// last window reaches. All other layers read all of their input: a convolution's filter, an average, a custom layer, and
/// dropout, whose mask goes by the places of the elements.
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

//! The convolutions of the book's network, and their launches.

use std::sync::Arc;

use mlpconv::device::cuda::Buf;
use mlpconv::device::{Grad, Role, Write};
use mlpconv::ops::conv2d::Conv2d;
use mlpconv::ops::pointwise_maxpool::PointwiseMaxPool;
use mlpconv::ops::{Affine, Wanted};
use mlpconv::shape::{ConvShape, PoolShape, Window};
use mlpconv::{Cuda, Device, Shape};

pub struct Layer {
    pub name: &'static str,
    pub shape: ConvShape,
}

impl Layer {
    /// The passes that training runs, in the order of their launches: nobody wants the gradient of the images, whose blocks have
    /// 16 channels. A layer before a pool is launched without it, too.
    pub fn passes(&self) -> &'static [&'static str] {
        match self.shape {
            ConvShape { c: 16, .. } => &["fprop", "wgrad"],
            ConvShape { r: 1, q: 25 | 11, .. } => &["fprop", "maxpool_fprop", "dgrad", "wgrad"],
            _ => &["fprop", "dgrad", "wgrad"],
        }
    }

    /// The pool of the network's blocks.
    pub fn pool(&self) -> PoolShape {
        PoolShape::new("maxpool", self.shape.output(), 3, 2).expect("every image has a window")
    }

    /// Launches the passes with bias and ReLU, with a mask (of values: training has its signs), with both gradients. Reads dw at the end, so that its
    /// parts are added up here, and not by the update.
    pub fn run(&self, gpu: &Cuda) -> mlpconv::Result<()> {
        let g = &self.shape;
        let upload = |role: Role, len: usize| gpu.upload(role, &vec![0.5; len]);
        let (x, dy) = (upload(Role::Activation, g.input().len())?, upload(Role::Activation, g.output().len())?);
        let (w, bias) = (upload(Role::Parameter, g.weight().len())?, upload(Role::Parameter, g.k)?);
        let mut y = gpu.alloc(Role::Activation, g.output().len())?;
        let grad = |role: Role, len: usize| -> mlpconv::Result<Grad<Buf>> {
            Ok(Grad::new(gpu.alloc(role, len)?, Write::Overwrite))
        };
        let mut dx = grad(Role::Activation, g.input().len())?;
        let (mut dw, mut db) = (grad(Role::Parameter, g.weight().len())?, grad(Role::Parameter, g.k)?);
        let (x, affine) = (Arc::new(x), Affine { w: &w, bias: Some(&bias), relu: true });
        for &pass in self.passes() {
            match pass {
                "fprop" => gpu.conv2d_fprop(g, &x, affine, &mut y)?,
                "maxpool_fprop" => {
                    let pool = self.pool();
                    let mut y = gpu.alloc(Role::Activation, pool.output().len())?;
                    let mut index = gpu.alloc_bytes(pool.output().len())?;
                    gpu.pointwise_maxpool_fprop(g, &pool, &x, affine, &mut y, Some(&mut index))?;
                }
                "dgrad" => {
                    dx.set_mask(x.clone());
                    gpu.conv2d_dgrad(g, &dy, &w, &mut dx)?;
                }
                _ => gpu.conv2d_wgrad(g, &x, &dy, Wanted { dw: Some(&mut dw), db: Some(&mut db) })?,
            }
        }
        gpu.download(&dw.buf).map(drop)
    }
}

fn layer(name: &'static str, batch: usize, [c, k, filter, stride, pad, size, out]: [usize; 7]) -> Layer {
    let (x, w) = (Shape::image(batch, c, size, size), Shape::weight(k, c, filter, filter));
    let whole = ConvShape::new("counters", x, w, Window { stride, pad }).expect("the layers below fit");
    Layer { name, shape: whole.cropped(out, out) }
}

/// Every convolution of different extents at 224×224, as its GEMM is launched, without the pixels that no pool reads, with as many images as fill
/// a tile of pixels.
pub fn layers() -> [Layer; 8] {
    [
        // 1→96, 11×11 at stride 4, as the backend runs it: in blocks of 4×4 pixels.
        layer("16→96, 3×3", 1, [16, 96, 3, 1, 0, 55, 53]),
        layer("96→96, 1×1", 1, [96, 96, 1, 1, 0, 53, 53]),
        layer("96→256, 5×5", 1, [96, 256, 5, 1, 2, 26, 25]),
        layer("256→256, 1×1", 1, [256, 256, 1, 1, 0, 25, 25]),
        layer("256→384, 3×3", 2, [256, 384, 3, 1, 1, 12, 11]),
        layer("384→384, 1×1", 2, [384, 384, 1, 1, 0, 11, 11]),
        layer("384→10, 3×3", 6, [384, 10, 3, 1, 1, 5, 5]),
        layer("10→10, 1×1", 6, [10, 10, 1, 1, 0, 5, 5]),
    ]
}

//! The block with its pool as one op has the bits of the block and the pool one after the other.

use mlpconv::Backend;
use mlpconv::device::{Buffer, Grad, Role, Write};
use mlpconv::ops::mlpconv::MlpConvShape;
use mlpconv::ops::{ChainWanted, Params, Wanted};

use super::{Block, NAMES, ROLES};
use crate::arithmetic::Arithmetic;
use crate::{case, draw};

on_every_backend!(
    values_positions_and_gradients_are_those_of_block_and_pool,
    the_first_of_equal_values_is_the_maximum,
    the_last_of_several_nans_is_the_maximum,
    running_again_gives_the_same_bits,
);

/// A block and the window and stride of its pool.
#[derive(Clone, Copy, Debug)]
pub struct Pooled {
    pub block: Block,
    /// Window and stride.
    pub pool: [usize; 2],
    /// The most rows and columns of the block's output that are computed.
    pub cropped: [usize; 2],
}

impl Pooled {
    fn shape(&self) -> MlpConvShape {
        let mut shape = self.block.shape();
        shape.conv = shape.conv.cropped(self.cropped[0], self.cropped[1]);
        shape.pooled(self.pool[0], self.pool[1]).unwrap()
    }

    /// The gradient of the pool's output.
    fn seed(&self) -> Vec<f64> {
        let mut seed = draw::spread(500, self.shape().output().len());
        seed.iter_mut().step_by(7).for_each(|value| *value = -0.0);
        seed
    }

    fn params<'a, Buf>(&self, inputs: &'a [Buf]) -> Params<'a, Buf, 3> {
        let [_, w1, b1, w2, b2, w3, b3] = inputs else { panic!("seven inputs") };
        self.block.params([w1, w2, w3], [b1, b2, b3])
    }

    /// The bits of the output, and the positions of the maxima. If `apart`, block and pool run one after the other.
    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Buf], apart: bool) -> (Vec<u64>, Vec<u8>) {
        let (shape, params) = (self.shape(), self.params(inputs));
        let len = shape.output().len();
        let room = |len| backend.alloc(Role::Activation, len).unwrap();
        let (mut y, mut index) = (room(len), backend.alloc_bytes(len).unwrap());
        if apart {
            let mut whole = room(shape.unpooled().len());
            let alone = MlpConvShape { pool: None, ..shape };
            backend.mlpconv_fprop(&alone, &inputs[0], params, &mut whole, None).unwrap();
            backend.maxpool_fprop(&shape.pool.unwrap(), &whole, &mut y, Some(&mut index)).unwrap();
        } else {
            backend.mlpconv_fprop(&shape, &inputs[0], params, &mut y, Some(&mut index)).unwrap();
            // Inference has no use for the positions.
            let mut inferred = room(len);
            backend.mlpconv_fprop(&shape, &inputs[0], params, &mut inferred, None).unwrap();
            assert_eq!(bits(backend, &y), bits(backend, &inferred), "{self:?}: in inference");
        }
        (bits(backend, &y), backend.download_bytes(&index).unwrap())
    }

    /// The gradients of x, w1, b1, w2, b2, w3, b3.
    fn backward<B: Backend>(&self, backend: &B, inputs: &[B::Buf], index: &[u8], apart: bool) -> Vec<Vec<u64>> {
        let shape = self.shape();
        let dy = case::upload(backend, shape.output(), &self.seed());
        let index = backend.upload_bytes(index).unwrap();
        let grad = |(buf, role): (&B::Buf, Role)| Grad::new(backend.alloc(role, buf.len()).unwrap(), Write::Overwrite);
        let mut grads: Vec<Grad<B::Buf>> = inputs.iter().zip(ROLES).map(grad).collect();
        let [dx, dw1, db1, dw2, db2, dw3, db3] = &mut grads[..] else { unreachable!() };
        let layers = [(dw1, db1), (dw2, db2), (dw3, db3)].map(|(dw, db)| Wanted { dw: Some(dw), db: Some(db) });
        let wanted = ChainWanted { dx: Some(dx), layers };
        let (x, params) = (&inputs[0], self.params(inputs));
        if apart {
            let mut whole =
                Grad::new(backend.alloc(Role::Activation, shape.unpooled().len()).unwrap(), Write::Overwrite);
            backend.maxpool_dgrad(&shape.pool.unwrap(), &dy, &index, &mut whole).unwrap();
            let alone = MlpConvShape { pool: None, ..shape };
            backend.mlpconv_backward(&alone, x, params, &whole.buf, None, wanted).unwrap();
        } else {
            backend.mlpconv_backward(&shape, x, params, &dy, Some(&index), wanted).unwrap();
        }
        grads.iter().map(|grad| bits(backend, &grad.buf)).collect()
    }

    fn upload<B: Backend>(&self, backend: &B, inputs: &[Vec<f64>]) -> Vec<B::Buf> {
        let shapes = self.block.inputs();
        (0..7).map(|i| case::upload_as(ROLES[i], backend, shapes[i], &inputs[i])).collect()
    }

    fn check_forward<B: Backend>(&self, backend: &B, inputs: &[B::Buf]) -> (Vec<u64>, Vec<u8>) {
        let [(y, index), apart] = [false, true].map(|apart| self.forward(backend, inputs, apart));
        assert!(y == apart.0, "{self:?}: y");
        assert!(index == apart.1, "{self:?}: positions");
        (y, index)
    }

    /// Compares the op on the block's own draw with block and pool.
    pub fn check_drawn<B: Backend>(&self, backend: &B) {
        self.check(backend, &self.block.draw());
    }

    fn check<B: Backend>(&self, backend: &B, inputs: &[Vec<f64>]) -> (Vec<u64>, Vec<u8>) {
        let inputs = self.upload(backend, inputs);
        let (y, index) = self.check_forward(backend, &inputs);
        let [grads, apart] = [false, true].map(|apart| self.backward(backend, &inputs, &index, apart));
        for (name, (got, want)) in NAMES.iter().zip(grads.iter().zip(&apart)) {
            assert!(got == want, "{self:?}: gradient of {name}");
        }
        (y, index)
    }
}

fn bits<B: Backend>(backend: &B, buf: &B::Buf) -> Vec<u64> {
    let values = backend.download(buf).unwrap();
    values.into_iter().map(|value| mlpconv::device::Real::to_f64(value).to_bits()).collect()
}

/// A block with an output of `[n, h, w]` pixels, and its pool.
fn pooled([n, h, w]: [usize; 3], k: [usize; 3], pool: [usize; 2]) -> Pooled {
    let block = Block { x: [n, 1, 2 * h, 2 * w], k, filter: [2, 2], stride: 2, pad: 0, relu: true, fused: true };
    Pooled { block, pool, cropped: [usize::MAX; 2] }
}

fn small() -> Vec<Pooled> {
    let linear = pooled([2, 7, 9], [56, 64, 96], [3, 2]);
    vec![
        // One window, without and with pixels beside it.
        pooled([2, 3, 3], [96; 3], [3, 2]),
        pooled([3, 4, 4], [72, 56, 88], [3, 2]),
        // Windows and strides that no kernel fuses with the block, and a block without a ReLU.
        pooled([2, 6, 8], [96; 3], [2, 2]),
        pooled([1, 7, 6], [64, 96, 56], [3, 1]),
        pooled([1, 8, 9], [96; 3], [4, 3]),
        Pooled { block: Block { relu: false, ..linear.block }, ..linear },
        // No kernel for the block either.
        pooled([1, 5, 6], [48, 40, 24], [3, 2]),
    ]
}

/// Shapes of several tiles and thread blocks.
fn large() -> Vec<Pooled> {
    let whole = pooled([1, 54, 54], [96; 3], [3, 2]);
    vec![
        // The network's extents, with and without the row and column that no window reads.
        whole,
        Pooled { cropped: [53, 53], ..whole },
        // A crop that no plan makes for a pool of this stride.
        Pooled { cropped: [8, 11], ..pooled([2, 14, 20], [64, 96, 80], [3, 2]) },
        // Several tiles in a row of windows, and rows that are too long for the kernel.
        pooled([1, 5, 100], [56, 96, 72], [3, 2]),
        pooled([1, 3, 420], [96, 56, 64], [3, 2]),
        // Many rows in a tile.
        pooled([1, 150, 3], [96, 64, 88], [3, 2]),
    ]
}

fn all(arithmetic: Arithmetic) -> Vec<Pooled> {
    // Only bf16 has a fused kernel. Other backends compose the op, and the small shapes test that.
    if arithmetic == Arithmetic::CudaBf16 { [small(), large()].concat() } else { small() }
}

fn values_positions_and_gradients_are_those_of_block_and_pool<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for pooled in all(arithmetic) {
        pooled.check_drawn(backend);
    }
}

/// About as many thread blocks as a GPU has multiprocessors, each a band of several tiles; and more of them.
#[cfg(feature = "cuda")]
#[test]
fn any_number_of_images_is_pooled() {
    let Some(gpu) = crate::gpu::gpu(mlpconv::Precision::Bf16) else { return };
    for pooled in [pooled([67, 5, 56], [96; 3], [3, 2]), pooled([150, 5, 12], [64, 72, 96], [3, 2])] {
        pooled.check_forward(&*gpu, &pooled.upload(&*gpu, &pooled.block.draw()));
    }
}

fn the_first_of_equal_values_is_the_maximum<B: Backend>(backend: &B, _: Arithmetic) {
    for pooled in [pooled([2, 11, 15], [96; 3], [3, 2]), pooled([1, 7, 6], [64; 3], [2, 2])] {
        let mut inputs = pooled.block.whole();
        let (_, index) = pooled.check(backend, &inputs);
        assert!(index.contains(&0) && index.iter().any(|&position| position > 0), "{pooled:?}");
        // With an output of all zeros, the first position of every window is the maximum.
        inputs[5].fill(0.0);
        inputs[6].fill(0.0);
        let (y, index) = pooled.check(backend, &inputs);
        assert!(y.iter().all(|&y| y == 0) && index.iter().all(|&position| position == 0), "{pooled:?}");
    }
}

fn the_last_of_several_nans_is_the_maximum<B: Backend>(backend: &B, _: Arithmetic) {
    for pooled in [pooled([2, 11, 15], [96; 3], [3, 2]), pooled([1, 7, 6], [64; 3], [2, 2])] {
        // NaN in single pixels of all channels, and in one channel of all pixels.
        let mut inputs = pooled.block.draw();
        inputs[0].iter_mut().step_by(211).for_each(|x| *x = f64::NAN);
        inputs[6][5] = f64::NAN;
        let (y, index) = pooled.check(backend, &inputs);
        let k = pooled.block.k[2];
        let last = (pooled.pool[0] * pooled.pool[0] - 1) as u8;
        assert!(index.iter().skip(5).step_by(k).all(|&position| position == last), "{pooled:?}");
        let nan = y.iter().filter(|&&y| f64::from_bits(y).is_nan()).count();
        assert!(nan > 2 * y.len() / k && nan < y.len(), "{pooled:?}: {nan} of {}", y.len());
    }
}

fn running_again_gives_the_same_bits<B: Backend>(backend: &B, _: Arithmetic) {
    let pooled = pooled([3, 7, 31], [88, 96, 80], [3, 2]);
    let inputs = pooled.upload(backend, &pooled.block.draw());
    let run = || {
        let (y, index) = pooled.forward(backend, &inputs, false);
        let grads = pooled.backward(backend, &inputs, &index, false);
        (y, index, grads)
    };
    assert!(run() == run(), "{pooled:?}");
}

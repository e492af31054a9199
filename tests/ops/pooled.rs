//! A 1×1 convolution and the max pool of its output as one op has the bits and the positions of the two ops one after
//! the other.

use mlpconv::device::{Real, Role};
use mlpconv::shape::{ConvShape, PoolShape, Window};
use mlpconv::{Backend, Shape, Tape, Var};

use crate::arithmetic::Arithmetic;
use crate::case::{self, TRAINING};
use crate::draw;

on_every_backend!(
    fused_has_the_bits_of_convolution_and_pool,
    ties_nans_and_zeros_of_either_sign,
    bias_relu_and_index_are_optional,
    gradients_are_those_of_convolution_and_pool,
);

/// Images `[n, h, w]` of `c` channels, convolved to `k` channels, and the pool.
#[derive(Clone, Copy, Debug)]
pub struct Pooled {
    x: [usize; 3],
    c: usize,
    k: usize,
    window: usize,
    stride: usize,
}

pub const fn pooled(x: [usize; 3], [c, k]: [usize; 2], [window, stride]: [usize; 2]) -> Pooled {
    Pooled { x, c, k, window, stride }
}

/// Values of x, w and the bias.
type Inputs = [Vec<f64>; 3];

impl Pooled {
    fn x(&self) -> Shape {
        let [n, h, w] = self.x;
        Shape::image(n, self.c, h, w)
    }

    fn inputs(&self) -> [Shape; 3] {
        [self.x(), Shape::weight(self.k, self.c, 1, 1), Shape::vector(self.k)]
    }

    fn conv(&self) -> ConvShape {
        let [x, w, _] = self.inputs();
        ConvShape::new("conv2d", x, w, Window::default()).unwrap()
    }

    fn pool(&self) -> PoolShape {
        let [n, h, w] = self.x;
        PoolShape::new("maxpool", Shape::image(n, self.k, h, w), self.window, self.stride).unwrap()
    }

    fn draw(&self) -> Inputs {
        let mut inputs = self.inputs().map(|shape| draw::spread(500 + shape.len() as u64, shape.len()));
        // With a small bias, outputs are as often below zero as above.
        inputs[2].iter_mut().for_each(|bias| *bias *= 0.5);
        inputs
    }

    /// Small whole numbers, which give ties in most windows.
    fn whole(&self) -> Inputs {
        let [x, w, bias] = self.inputs().map(|shape| shape.len());
        let few = |seed, len| draw::spread(seed, len).into_iter().map(|x: f64| (1.2 * x).round()).collect();
        [few(510, x), few(511, w), vec![0.0; bias]]
    }
}

/// The parts of the op that are present: the bias, the ReLU, and the output of positions.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub bias: bool,
    pub relu: bool,
    pub index: bool,
}

const ALL: Options = Options { bias: true, relu: true, index: true };

/// The output's bits and the positions: by the fused op, and by the two ops.
fn both<B: Backend>(backend: &B, shape: &Pooled, inputs: &Inputs, options: Options) -> [(Vec<u64>, Vec<u8>); 2] {
    let roles = [Role::Activation, Role::Parameter, Role::Parameter];
    let shapes = shape.inputs();
    let [x, w, bias] = [0, 1, 2].map(|i| case::upload_as(roles[i], backend, shapes[i], &inputs[i]));
    let (conv, pool) = (shape.conv(), shape.pool());
    let affine = case::affine(&w, options.bias.then_some(&bias), options.relu);
    let run = |fused: bool| {
        let len = pool.output().len();
        // The buffers start with values that are no result, so an element that a kernel does not write is noticed.
        let mut y = case::upload(backend, pool.output(), &vec![f64::NEG_INFINITY; len]);
        let mut index = backend.upload_bytes(&vec![0xee; len]).unwrap();
        let to = options.index.then_some(&mut index);
        if fused {
            backend.pointwise_maxpool_fprop(&conv, &pool, &x, affine, &mut y, to).unwrap();
        } else {
            let mut whole = backend.alloc(Role::Activation, conv.output().len()).unwrap();
            backend.conv2d_fprop(&conv, &x, affine, &mut whole).unwrap();
            backend.maxpool_fprop(&pool, &whole, &mut y, to).unwrap();
        }
        let bits = backend.download(&y).unwrap().into_iter().map(|y| Real::to_f64(y).to_bits()).collect();
        (bits, backend.download_bytes(&index).unwrap())
    };
    [true, false].map(run)
}

fn expect<B: Backend>(backend: &B, shape: &Pooled, inputs: &Inputs, options: Options) -> Vec<f64> {
    let [fused, apart] = both(backend, shape, inputs, options);
    assert_eq!(fused.1.iter().all(|&position| position == 0xee), !options.index, "{shape:?}, {options:?}");
    for (i, (fused, apart)) in fused.0.iter().zip(&apart.0).enumerate() {
        let values = [fused, apart].map(|&bits| f64::from_bits(bits));
        assert!(fused == apart, "{shape:?}, {options:?}: element {i} is {}, not {}", values[0], values[1]);
    }
    for (i, (fused, apart)) in fused.1.iter().zip(&apart.1).enumerate() {
        assert_eq!(fused, apart, "{shape:?}, {options:?}: position {i}");
    }
    fused.0.into_iter().map(f64::from_bits).collect()
}

/// Shapes that the kernels divide differently: a thread block has several images, one image, or some rows of one;
/// tiles have 32, 96 or 128 channels, of which the last tile may not use all. The last shapes have no fused kernel:
/// channels that are no whole vectors, and rows of which a block does not hold three.
const SHAPES: [Pooled; 24] = [
    pooled([1, 5, 5], [16, 96], [3, 2]),
    pooled([7, 5, 5], [24, 32], [2, 2]),
    pooled([7, 5, 5], [8, 136], [3, 1]),
    pooled([1, 3, 3], [16, 8], [3, 2]),
    pooled([50, 3, 3], [16, 40], [2, 3]),
    pooled([1, 11, 11], [96, 256], [3, 2]),
    pooled([3, 11, 11], [40, 136], [3, 3]),
    pooled([2, 12, 12], [16, 96], [3, 2]),
    pooled([1, 12, 12], [16, 136], [2, 3]),
    pooled([1, 25, 25], [32, 256], [3, 2]),
    pooled([2, 25, 25], [72, 96], [3, 2]),
    pooled([1, 26, 26], [16, 136], [3, 2]),
    pooled([1, 26, 26], [8, 32], [2, 2]),
    pooled([1, 24, 25], [16, 40], [2, 3]),
    // Thread blocks with exactly 128 pixels: of a whole image, of eight rows, of four, of two.
    pooled([3, 8, 16], [16, 136], [3, 2]),
    pooled([2, 19, 16], [16, 32], [3, 1]),
    pooled([1, 10, 32], [16, 136], [2, 2]),
    pooled([1, 5, 64], [24, 96], [2, 1]),
    pooled([1, 4, 42], [16, 136], [3, 1]),
    pooled([1, 2, 128], [8, 8], [1, 1]),
    // No fused kernel: the two ops run one after the other.
    pooled([1, 4, 43], [16, 24], [3, 1]),
    pooled([2, 5, 5], [16, 10], [3, 2]),
    pooled([2, 5, 5], [10, 16], [3, 2]),
    pooled([2, 5, 6], [12, 20], [3, 2]),
];

/// The shapes for the table of cases.
pub fn shapes() -> Vec<Pooled> {
    SHAPES.to_vec()
}

/// Compares the fused op with the two ops on the shape's own draw.
pub fn check<B: Backend>(backend: &B, shape: &Pooled, options: Options) {
    expect(backend, shape, &shape.draw(), options);
}

fn fused_has_the_bits_of_convolution_and_pool<B: Backend>(backend: &B, _: Arithmetic) {
    for shape in SHAPES {
        check(backend, &shape, ALL);
    }
}

fn ties_nans_and_zeros_of_either_sign<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let of = |k, window, stride| pooled([2, 11, 10], [16, k], [window, stride]);
    for shape in [of(136, 3, 2), of(96, 3, 2), of(32, 2, 1), of(136, 3, 3), of(96, 2, 3)] {
        for options in [ALL, Options { relu: false, ..ALL }] {
            let mut inputs = shape.whole();
            expect(backend, &shape, &inputs, options);
            // NaN and infinity in one element of some windows, and in several elements of others.
            let pixels = shape.x[1] * shape.x[2];
            for (i, x) in inputs[0].iter_mut().enumerate() {
                match i % pixels % 13 {
                    3 => *x = f64::NAN,
                    4 => *x = f64::INFINITY,
                    _ => {}
                }
            }
            let y = expect(backend, &shape, &inputs, options);
            assert!(y.iter().any(|y| y.is_nan()) && y.iter().any(|y| y.is_finite()), "{shape:?}");
            // Values that underflow to a zero with their sign: sums in fp32, stored values in bf16.
            let stored = arithmetic == Arithmetic::CudaBf16;
            let small = if arithmetic == Arithmetic::CpuF64 { 1e-200 } else { 1e-30 };
            inputs[1].fill(if stored { 2e-12 } else { small });
            inputs[2].fill(-1e-42);
            for (i, x) in inputs[0].iter_mut().enumerate() {
                *x = [-small, 0.0, -small, small, -small, -small][i % pixels % 6];
            }
            let y = expect(backend, &shape, &inputs, Options { bias: stored, ..options });
            assert!(y.iter().all(|&y| y == 0.0), "{shape:?}");
            let negative = match arithmetic {
                Arithmetic::CudaFp32 => true,
                Arithmetic::CudaBf16 => !options.relu,
                _ => continue,
            };
            assert_eq!(y.iter().any(|y| y.is_sign_negative()), negative, "{shape:?}, {options:?}");
        }
    }
}

fn bias_relu_and_index_are_optional<B: Backend>(backend: &B, _: Arithmetic) {
    for shape in [pooled([3, 7, 7], [16, 136], [3, 2]), pooled([1, 13, 25], [24, 96], [3, 2])] {
        for i in 0..8 {
            let options = Options { bias: i & 1 != 0, relu: i & 2 != 0, index: i & 4 != 0 };
            expect(backend, &shape, &shape.draw(), options);
        }
    }
}

fn gradients_are_those_of_convolution_and_pool<B: Backend>(backend: &B, _: Arithmetic) {
    let shapes = [
        pooled([3, 11, 11], [16, 136], [3, 2]),
        pooled([1, 25, 25], [16, 40], [3, 2]),
        pooled([5, 5, 5], [24, 96], [3, 1]),
        pooled([2, 12, 12], [16, 32], [3, 2]),
        pooled([2, 5, 5], [10, 10], [2, 2]),
    ];
    for shape in shapes {
        [true, false].into_iter().for_each(|relu| check_gradients(backend, &shape, relu));
    }
}

/// Compares the fused op's gradients, on the shape's own draw, with those of the two ops.
pub fn check_gradients<B: Backend>(backend: &B, shape: &Pooled, relu: bool) {
    let inputs = shape.draw();
    let seed = draw::spread(520, shape.pool().output().len());
    let run = |fused: bool| {
        let mut tape = Tape::new(backend, TRAINING);
        let shapes = shape.inputs();
        let leaf = case::variable(&mut tape, shapes[0], &inputs[0]);
        // A rectified input, so that its gradient is masked.
        let x = tape.relu(&leaf).unwrap();
        let w = case::variable_as(Role::Parameter, &mut tape, shapes[1], &inputs[1]);
        let bias = case::variable_as(Role::Parameter, &mut tape, shapes[2], &inputs[2]);
        let y = if fused {
            tape.pointwise_maxpool(&x, case::affine(&w, Some(&bias), relu), shape.window, shape.stride).unwrap()
        } else {
            let affine = case::affine(&w, Some(&bias), relu);
            let whole = tape.conv2d(&x, affine, Window::default()).unwrap();
            tape.maxpool(&whole, shape.window, shape.stride).unwrap()
        };
        assert_eq!(y.shape(), shape.pool().output());
        let bits = |shape, buf: &B::Buf| -> Vec<u64> {
            case::download(backend, shape, buf).into_iter().map(f64::to_bits).collect()
        };
        let values = bits(y.shape(), y.data());
        let grads = tape.backward_from(&y, case::upload(backend, y.shape(), &seed)).unwrap();
        (values, [&leaf, &w, &bias].map(|var: &Var<B>| bits(var.shape(), grads.of(var).unwrap())))
    };
    assert!(run(true) == run(false), "{shape:?}, relu: {relu}");
}

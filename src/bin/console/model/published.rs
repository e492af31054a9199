//! Whether the model is near what others have timed: matrix products, estimated as if our main loop had done them in their tiles.

use mlpconv::Precision;

use super::estimate::Estimate;
use super::gpus::gpu;
use super::tables::{Code, Launch, code};

/// A matrix product of `m × n × k`, and the rate at which it ran.
struct Product {
    gpu: &'static str,
    precision: Precision,
    size: [usize; 3],
    /// Rows and columns of a block's tile.
    tile: [usize; 2],
    /// Operations a second, in units of 10¹².
    teraflops: f64,
}

/// * Bekman, *Machine Learning Engineering*, "Maximum Achievable Matmul FLOPS": A100 SXM, 271.2 TFLOP/s of bf16 at
///   1024×10240×5120, 267.9 at 6912×2048×16384. The tile is the A100's most efficient one by NVIDIA's *Matrix Multiplication
///   Background User's Guide*.
/// * waynehacking8/blackwell-tensorcore-kernels, `results/bench.csv`: H100 SXM5, `cublasSgemm`, 45.5 TFLOP/s at 4096 and 47.3 at
///   8192. The tile is a guess: that of most products that are near the peak of fp32.
const PUBLISHED: [Product; 4] = [
    Product { size: [1024, 10240, 5120], teraflops: 271.2, ..A100 },
    Product { size: [6912, 2048, 16384], teraflops: 267.9, ..A100 },
    Product { size: [4096; 3], teraflops: 45.5, ..H100 },
    Product { size: [8192; 3], teraflops: 47.3, ..H100 },
];

const A100: Product =
    Product { gpu: "a100", precision: Precision::Bf16, size: [0; 3], tile: [256, 128], teraflops: 0.0 };
const H100: Product =
    Product { gpu: "h100", precision: Precision::Fp32, size: [0; 3], tile: [128, 128], teraflops: 0.0 };

/// Of a round of the main loop in fp32: four steps of k, with 8×8 sums of a thread.
const MULTIPLY_ADDS: f64 = 256.0;

impl Product {
    fn launch(&self, code: &Code) -> Launch {
        let Product { precision, size: [m, n, k], tile: [rows, columns], .. } = *self;
        let blocks = m.div_ceil(rows) * n.div_ceil(columns);
        let (width, sums) = if precision == Precision::Bf16 { (2, 64 * 64) } else { (4, 8 * 8 * 32) };
        let products = (blocks * rows * columns * k) as f64;
        let mma = if precision == Precision::Bf16 { products / (16.0 * 8.0 * 16.0) } else { 0.0 };
        let rounds = products / 32.0 / MULTIPLY_ADDS;
        Launch {
            kernel: String::new(),
            images: 1,
            beside: false,
            blocks,
            // A warp has 64×64 sums of the tensor core, or 8×8 a thread.
            warps: rows * columns / sums,
            // Three stages of 64 bytes a row.
            shared: 3 * 64 * (rows + columns),
            moved: (width * (m * k + k * n) + 4 * m * n) as f64,
            asked: (blocks * (rows + columns) * k * width + 4 * m * n) as f64,
            flops: 2.0 * products,
            mma,
            instructions: rounds * code.usual,
            accesses: rounds * code.passes,
            conflicts: 0.0,
        }
    }
}

#[test]
fn the_model_is_within_20_percent_of_published_products() {
    for product in PUBLISHED {
        let Product { gpu: name, precision, size, teraflops, .. } = product;
        let on = gpu(name).expect("a GPU of the list");
        let code = code("pointwise_fprop_128x128", precision, &on.architecture()).expect("its code");
        let estimate = Estimate::of(&product.launch(&code), &code, on, precision, 1);
        let [m, n, k] = size;
        let rate = 2.0 * (m * n * k) as f64 / estimate.time / 1e6;
        let ratio = rate / teraflops;
        let says = format!("{name} {size:?}: {rate:.1} for {teraflops} TFLOP/s, {ratio:.2}; {:.0?}", estimate.pipes);
        assert!((0.8..=1.2).contains(&ratio), "{says}");
    }
}

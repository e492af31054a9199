//! The ceilings of a device: the highest rates of arithmetic and of memory, against which kernels are measured.

use std::hint::black_box;
use std::time::Instant;

#[cfg(feature = "cuda")]
use mlpconv::{Cuda, Device, Precision, device::Role, ops::relu::Relu};
use rayon::prelude::*;

/// The highest rates of a device, each with a text that says where the number comes from.
#[derive(Clone)]
pub struct Ceiling {
    /// Operations (two for a multiply-add) a second; `None` if unknown.
    pub flops: Option<f64>,
    /// The origin of `flops`.
    pub flops_are: String,
    /// Bytes a second, reads and writes together.
    pub bytes: f64,
    /// The origin of `bytes`.
    pub bytes_are: String,
}

impl Ceiling {
    pub fn of_cpu(threads: usize) -> Self {
        Ceiling {
            flops: Some(cpu::product(threads)),
            flops_are: format!("measured: a {0}x{0}x{0} product by the gemm library on {threads} threads", cpu::SIDE),
            bytes: cpu::copy(threads),
            bytes_are: format!("measured: copying {} MiB on {threads} threads", cpu::COPIED >> 20),
        }
    }

    #[cfg(feature = "cuda")]
    pub fn of_gpu(cuda: &Cuda) -> Self {
        let (device, precision) = (cuda.device(), cuda.precision());
        let rate = multiply_adds(device.capability, precision);
        let flops =
            device.clock.zip(rate).map(|(clock, rate)| 2.0 * clock as f64 * (device.multiprocessors * rate) as f64);
        let (major, minor) = device.capability;
        let flops_are = match (device.clock, rate) {
            (Some(clock), Some(rate)) => format!(
                "{} multiprocessors x {rate} multiply-adds a clock ({} of compute capability {major}.{minor}) x {} MHz",
                device.multiprocessors,
                if precision == Precision::Fp32 { "FMA" } else { "dense tensor core rate" },
                clock / 1_000_000
            ),
            (None, _) => "unknown: the driver does not tell the clock".into(),
            (_, None) => format!("unknown for compute capability {major}.{minor}"),
        };
        let (bytes, bytes_are) = match device.bandwidth {
            Some(bytes) => (bytes as f64, "memory clock x 2 x bus width, as the driver tells them".into()),
            None => (copy(cuda), format!("measured: copying {} MiB, negative numbers to zeros", COPIED >> 20)),
        };
        Ceiling { flops, flops_are, bytes, bytes_are }
    }

    /// The least seconds for so many operations.
    pub fn by_flops(&self, flops: f64) -> Option<f64> {
        self.flops.map(|most| flops / most)
    }

    /// The least seconds for so many bytes.
    pub fn by_bytes(&self, bytes: f64) -> f64 {
        bytes / self.bytes
    }
}

/// The multiply-adds of a multiprocessor in a clock, from the whitepapers of NVIDIA's architectures: FMAs for fp32,
/// else the dense rate of the tensor cores. Where cards of one capability differ, the fastest one's. From 9.0 on only
/// instructions of those architectures reach this rate; mma.sync, which every kernel here uses, does not.
#[cfg(feature = "cuda")]
fn multiply_adds(capability: (u32, u32), precision: Precision) -> Option<usize> {
    let [fp32, tf32, bf16] = match capability {
        (8, 0) => [64, 512, 1024],
        (8, 6 | 9) => [128, 256, 512],
        (8, 7) => [128, 512, 1024],
        (9, 0) => [128, 1024, 2048],
        (10, 0 | 3) => [128, 2048, 4096],
        (12, _) => [128, 256, 512],
        _ => return None,
    };
    Some(match precision {
        Precision::Fp32 => fp32,
        Precision::Tf32 => tf32,
        Precision::Bf16 => bf16,
    })
}

/// Bytes copied to measure the bandwidth: more than any GPU's cache.
#[cfg(feature = "cuda")]
const COPIED: usize = 1 << 30;

/// The bandwidth of a ReLU, a copy that turns negative numbers into zeros: bytes read and written a second.
#[cfg(feature = "cuda")]
fn copy(cuda: &Cuda) -> f64 {
    let elements = COPIED / cuda.precision().activation_width();
    let buffer = || cuda.alloc(Role::Activation, elements).expect("memory");
    let (mut from, mut to) = (buffer(), buffer());
    cuda.fill(&mut from, -1.0).expect("kernels run");
    let mut seconds = || {
        let taken = cuda.elapsed(|| cuda.relu_fprop(&from, &mut to)).expect("kernels run");
        taken.as_secs_f64().max(1e-9)
    };
    seconds();
    2.0 * COPIED as f64 / (0..5).map(|_| seconds()).fold(f64::INFINITY, f64::min)
}

mod cpu {
    use super::*;

    /// The side of the measured product, large enough that arithmetic dominates.
    pub const SIDE: usize = 1536;
    /// Bytes copied to measure the bandwidth: more than the caches hold.
    pub const COPIED: usize = 256 << 20;

    /// The shortest of five runs, in seconds: other load on the machine only makes runs longer.
    fn best(mut run: impl FnMut()) -> f64 {
        run();
        let mut timed = || {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64()
        };
        (0..5).map(|_| timed()).fold(f64::INFINITY, f64::min)
    }

    /// Operations a second of a matrix product, its rows divided among the threads.
    pub fn product(threads: usize) -> f64 {
        let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
        let mut y = vec![0f32; SIDE * SIDE];
        let rows = SIDE.div_ceil(threads);
        let seconds = best(|| {
            y.par_chunks_mut(rows * SIDE).zip(a.par_chunks(rows * SIDE)).for_each(|(y, a)| {
                let (side, stride) = (SIDE, SIDE as isize);
                // SAFETY: `y` and `a` are whole rows of `SIDE` elements, and so is `b`.
                unsafe {
                    gemm::gemm(
                        y.len() / side,
                        side,
                        side,
                        y.as_mut_ptr(),
                        1,
                        stride,
                        false,
                        a.as_ptr(),
                        1,
                        stride,
                        b.as_ptr(),
                        1,
                        stride,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        gemm::Parallelism::None,
                    );
                }
            });
            black_box(&y);
        });
        2.0 * (SIDE as f64).powi(3) / seconds
    }

    /// Bytes read and written a second by a copy, divided among the threads.
    pub fn copy(threads: usize) -> f64 {
        let from = vec![1u8; COPIED];
        let mut to = vec![0u8; COPIED];
        let piece = COPIED.div_ceil(threads);
        let seconds = best(|| {
            to.par_chunks_mut(piece).zip(from.par_chunks(piece)).for_each(|(to, from)| to.copy_from_slice(from));
            black_box(&to);
        });
        2.0 * COPIED as f64 / seconds
    }
}

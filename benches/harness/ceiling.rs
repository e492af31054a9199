//! What a device can do at most: what its kernels are measured against.

use std::hint::black_box;
use std::time::Instant;

#[cfg(feature = "cuda")]
use mlpconv::{Cuda, Device, Precision, device::Role, ops::relu::Relu};
use rayon::prelude::*;

/// Multiply-adds and bytes a second, each with where it comes from.
#[derive(Clone)]
pub struct Ceiling {
    /// Operations (two a multiply-add) a second; `None` if it is not known.
    pub flops: Option<f64>,
    pub flops_are: String,
    /// Bytes a second, read and written together.
    pub bytes: f64,
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

    /// Seconds that so many operations take at least.
    pub fn by_flops(&self, flops: f64) -> Option<f64> {
        self.flops.map(|most| flops / most)
    }

    pub fn by_bytes(&self, bytes: f64) -> f64 {
        bytes / self.bytes
    }
}

/// Multiply-adds a multiprocessor can do each clock, by the whitepapers of NVIDIA's architectures: FMAs in fp32, the
/// dense rate of the tensor cores otherwise. Where cards of one capability differ it is the fastest one's; mma.sync,
/// which every kernel here uses, does not reach it from 9.0 on, where only instructions of those architectures do.
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

/// Larger than any GPU's cache.
#[cfg(feature = "cuda")]
const COPIED: usize = 1 << 30;

/// Bytes a second that a ReLU reads and writes: a copy that changes signs.
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

    /// Large enough that a product spends its time on arithmetic.
    pub const SIDE: usize = 1536;
    /// Larger than the caches.
    pub const COPIED: usize = 256 << 20;

    /// The shortest of some runs: whatever else the machine does makes them longer only.
    fn best(mut run: impl FnMut()) -> f64 {
        run();
        let mut timed = || {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64()
        };
        (0..5).map(|_| timed()).fold(f64::INFINITY, f64::min)
    }

    /// Operations a second of a product whose rows are shared out among the threads.
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

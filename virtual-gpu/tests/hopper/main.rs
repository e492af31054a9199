//! Hopper: kernels compiled by nvcc for sm_90a, compared with the same computation in Rust, and every form of a tensor copy
//! and of a warpgroup's product, compared with a plain walk over the values. They run on the virtual GPU, or on a card of
//! compute capability 9.0.

mod bulk;
mod convolution;
mod dependent;
mod gemm;
mod gradient;
mod im2col;
mod spellings;
mod stores;
mod stream;
mod tiled;
mod wgmma;

#[path = "../common/mod.rs"]
mod common;

use std::sync::Once;

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
use cudarc::driver::sys::{self, CUfunction, CUfunction_attribute, CUmodule, CUresult};

use common::driver::*;
use common::tensor::{Kind, Tensor};
use common::{Args, Rng, older};

/// A context on a device of compute capability 9.0; `None` on another card.
fn hopper() -> Option<Context> {
    static NEWEST: Once = Once::new();
    NEWEST.call_once(|| {
        // SAFETY: every test calls this first, and nothing else in this process accesses the environment through C.
        unsafe { std::env::set_var("VIRTUAL_GPU_SM", "9.0") }
    });
    let context = context();
    let here = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) == 9;
    if !here {
        eprintln!("not tested: this needs a card of compute capability 9.0");
    }
    here.then_some(context)
}

/// The function, allowed as much dynamic shared memory as a block may have.
fn hungry(module: CUmodule, name: &str) -> CUfunction {
    let function = function(module, name);
    let limit = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    ok(unsafe { sys::cuFuncSetAttribute(function, limit, 200 << 10) });
    function
}

#[track_caller]
fn runs(function: CUfunction, grid: [u32; 3], block: u32, shared: usize, args: Args, what: &str) {
    assert_eq!(run(function, grid, [block, 1, 1], shared as u32, &args), CUresult::CUDA_SUCCESS, "{what}");
}

/// A bf16 number of few bits: products and sums of them are exact.
fn whole(rng: &mut Rng) -> u16 {
    bf16(rng.below(9) as f32 - 4.0)
}

/// The upper half of an f32, which is a bf16 number if the lower half is zero.
fn bf16(value: f32) -> u16 {
    (value.to_bits() >> 16) as u16
}

fn wide(value: u16) -> f64 {
    f32::from_bits(u32::from(value) << 16).into()
}

/// `count` bf16 numbers in [-1, 1) with all of their bits.
fn halves(rng: &mut Rng, count: usize) -> Vec<u16> {
    (0..count).map(|_| bf16(rng.float())).collect()
}

/// The f64 sum of products, and the largest error of a tensor core's f32 sum in any order, with truncation.
fn product(terms: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (mut sum, mut size, mut count) = (0.0, 0.0, 0);
    for (a, b) in terms {
        sum += a * b;
        size += (a * b).abs();
        count += 1;
    }
    (sum, size * 2.0 * f64::from(count) * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE))
}

#[track_caller]
fn near(found: f64, (wanted, bound): (f64, f64), what: &str) {
    // A comparison with NaN is false, so a NaN is never near.
    assert!((found - wanted).abs() <= bound, "{what}: {found} and not {wanted}, give or take {bound}");
}

/// Checks without a card that the kernels, which are declared as PTX 8.0, and the generated ones have no form that a card's driver would refuse.
#[test]
fn ptxas_accepts_every_generated_kernel() {
    let names = ["widths", "majors", "registers", "signs", "constants"];
    let texts: Vec<(&str, String)> = names.into_iter().zip(wgmma::modules()).collect();
    common::ptxas::accepts("sm_90a", &texts);
    let kernels = [
        ("bulk", include_str!("../kernels/hopper/bulk.ptx")),
        ("convolution", include_str!("../kernels/hopper/convolution.ptx")),
        ("dependent", include_str!("../kernels/hopper/dependent.ptx")),
        ("gemm", include_str!("../kernels/hopper/gemm.ptx")),
        ("gradient", include_str!("../kernels/hopper/gradient.ptx")),
        ("persistent", include_str!("../kernels/hopper/persistent.ptx")),
        ("stream", include_str!("../kernels/hopper/stream.ptx")),
    ];
    common::ptxas::accepts("sm_90a", &kernels.map(|(name, text)| (name, older(text))));
    let [store, pixels, add, inc] = stores::modules();
    let texts = [("loaders", tiled::loaders()), ("store", store), ("pixels", pixels), ("add", add), ("inc", inc)];
    common::ptxas::accepts("sm_90", &texts);
    common::ptxas::accepts("sm_90a", &[("spellings", spellings::module())]);
}

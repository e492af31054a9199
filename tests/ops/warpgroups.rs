//! Convolutions of long sums in bf16 on Hopper, whose tiles are multiplied by warpgroups (`wgmma`): against the loops, and fprop and
//! dgrad against the bits of the portable kernels, too.
//!
//! Smaller GPUs than a card have them for fewer results. The virtual one is of compute capability 9.0 here, with few multiprocessors,
//! in a process of its own.

use std::process::Command;
use std::{env, fs};

use mlpconv::device::cuda::{Limits, units};
use mlpconv::{Cuda, Precision};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, Conv};
use crate::reference::{self, Worst};
use crate::table::conv;
use crate::{gpu, required};

const MULTIPROCESSORS: &str = "VIRTUAL_GPU_MULTIPROCESSORS";
const TILES: [&str; 3] = ["192x256", "256x192", "384x96"];

#[test]
fn fprop_and_dgrad_are_those_of_the_formula() {
    on_hopper("warpgroups::fprop_and_dgrad_are_those_of_the_formula", 1, &["fprop", "dgrad"], |gpu| {
        for case in long_sums(gpu) {
            reference::check(gpu, Arithmetic::CudaBf16, &case, &mut Worst::default());
        }
    });
}

#[test]
fn fprop_and_dgrad_have_the_bits_of_the_portable_kernels() {
    on_hopper("warpgroups::fprop_and_dgrad_have_the_bits_of_the_portable_kernels", 1, &[], |gpu| {
        let portable = gpu.portable().unwrap();
        assert!(!portable.limits().warpgroups);
        for case in long_sums(gpu) {
            let (inputs, seed) = (case.draw(Arithmetic::CudaBf16), case.draw_seed(Arithmetic::CudaBf16));
            let [one, other] = [gpu, &portable].map(|gpu| case::run(gpu, &case, &inputs, &seed));
            let same = one.y == other.y && one.gradients[0] == other.gradients[0];
            assert!(same, "{case:?}: other bits than the portable kernels give");
        }
    });
}

/// The network's channels, and others that fill neither the columns of a tile nor its k; images that fill no rows.
fn long_sums(gpu: &Cuda) -> [Case; 5] {
    let image = |c| [1, c, 50 * gpu.limits().multiprocessors, 8];
    let of = |c, [k, side]: [usize; 2], stride, pad| {
        Case::Conv2d(Conv { relu: true, ..conv(image(c), [k, side, side], stride, pad) })
    };
    [
        of(96, [256, 5], 1, 2),
        of(256, [384, 3], 1, 1),
        of(384, [256, 3], 1, 1),
        of(96, [96, 5], 1, 0),
        of(104, [360, 5], 2, 3),
    ]
}

#[test]
fn wgrad_is_that_of_the_formula() {
    // Of several multiprocessors each has a part of the sum, where there are few blocks.
    on_hopper("warpgroups::wgrad_is_that_of_the_formula", 4, &["wgrad"], |gpu| {
        let of = |x, [k, side]: [usize; 2], stride, bias| {
            Case::Conv2d(Conv { bias, constant: true, ..conv(x, [k, side, side], stride, 1) })
        };
        // Filters and taps that fill a tile, or not; the gradient of the bias is the sum of rows.
        let image = |c| [3, c, 29, 27];
        let cases = [
            of(image(64), [256, 3], 1, true),
            of(image(56), [184, 3], 1, true),
            of(image(32), [384, 3], 1, true),
            of(image(72), [248, 3], 1, false),
            of([3, 64, 58, 53], [256, 3], 2, true),
            // Few channels: blocks of pixels are channels, and dw goes back to the filter before.
            of([1, 4, 132, 133], [256, 6], 2, true),
        ];
        for case in cases {
            reference::check(gpu, Arithmetic::CudaBf16, &case, &mut Worst::default());
        }
    });
}

/// Has `check` run on a GPU of Hopper with `multiprocessors`, or on a card, and looks for the launches of `passes` in all tiles.
fn on_hopper(test: &str, multiprocessors: usize, passes: &[&str], check: impl FnOnce(&Cuda)) {
    let Some(gpu) = gpu::gpu(Precision::Bf16) else { return };
    if !units().any(|unit| unit.module == "conv2d" && unit.architecture.specific) {
        required::skip_kernels("this build's nvcc does not know sm_90a");
        return;
    }
    if gpu::real() || env::var_os(MULTIPROCESSORS).is_some() {
        let Limits { capability, warpgroups, .. } = gpu.limits();
        assert_eq!(warpgroups, capability == (9, 0), "compute capability {capability:?}");
        if warpgroups {
            check(&gpu);
        }
        return;
    }
    let launches = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env("VIRTUAL_GPU_COUNTS", launches.path());
    child.env(MULTIPROCESSORS, multiprocessors.to_string()).env("VIRTUAL_GPU_SM", "9.0");
    let output = child.output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{}", said.concat());
    let launched = fs::read_to_string(launches.path()).unwrap();
    for kernel in passes.iter().flat_map(|pass| TILES.map(|tile| format!("\"conv2d_{pass}_{tile}\""))) {
        assert!(launched.contains(&kernel), "{kernel} was not launched");
    }
}

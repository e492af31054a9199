//! Convolutions of long sums in bf16 on Hopper, whose tiles are multiplied by warpgroups (`wgmma`): against the loops, and fprop and
//! dgrad against the bits of the portable kernels, too.
//!
//! Smaller GPUs than a card have them for fewer results. The virtual one is of compute capability 9.0 here, with few multiprocessors,
//! in a process of its own.

use std::process::Command;
use std::{env, fs};

use mlpconv::{Cuda, Precision};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, Conv};
use crate::gpu;
use crate::reference::{self, Worst};
use crate::table::conv;

const MULTIPROCESSORS: &str = "VIRTUAL_GPU_MULTIPROCESSORS";
const TILES: [&str; 3] = ["192x256", "256x192", "384x96"];

#[test]
fn fprop_and_dgrad_are_those_of_the_formula_and_have_the_portable_bits() {
    let name = "warpgroups::fprop_and_dgrad_are_those_of_the_formula_and_have_the_portable_bits";
    on_hopper(name, 1, &["fprop", "dgrad"], |gpu| {
        let portable = gpu.portable().unwrap();
        assert!(!portable.limits().warpgroups);
        // The network's channels, and others that fill neither the columns of a tile nor its k; images that fill no rows.
        let image = |c| [1, c, 50 * gpu.limits().multiprocessors, 8];
        let of = |c, [k, side]: [usize; 2], stride, pad| {
            Case::Conv2d(Conv { relu: true, ..conv(image(c), [k, side, side], stride, pad) })
        };
        let cases = [
            of(96, [256, 5], 1, 2),
            of(256, [384, 3], 1, 1),
            of(384, [256, 3], 1, 1),
            of(96, [96, 5], 1, 0),
            of(104, [360, 5], 2, 3),
        ];
        for case in cases {
            reference::check(gpu, Arithmetic::CudaBf16, &case, &mut Worst::default());
            let (inputs, seed) = (case.draw(Arithmetic::CudaBf16), case.draw_seed(Arithmetic::CudaBf16));
            let [one, other] = [gpu, &portable].map(|gpu| case::run(gpu, &case, &inputs, &seed));
            let same = one.y == other.y && one.gradients[0] == other.gradients[0];
            assert!(same, "{case:?}: other bits than the portable kernels give");
        }
    });
}

#[test]
fn wgrad_is_that_of_the_formula() {
    // Of several multiprocessors each has a part of the sum.
    on_hopper("warpgroups::wgrad_is_that_of_the_formula", 5, &["wgrad"], |gpu| {
        // Filters and taps that fill a tile, or not. With a stride, and without a bias, whose gradient is the sum of rows.
        let of = |c, k, stride, bias| Case::Conv2d(Conv { bias, ..conv([3, c, 29, 27], [k, 3, 3], stride, 1) });
        for case in [of(64, 256, 1, true), of(56, 184, 1, true), of(32, 384, 1, false), of(72, 248, 1, true)] {
            reference::check(gpu, Arithmetic::CudaBf16, &case, &mut Worst::default());
        }
    });
}

/// Has `check` run on a GPU of Hopper with `multiprocessors`, or on a card, and looks for the launches of `passes` in all tiles.
fn on_hopper(test: &str, multiprocessors: usize, passes: &[&str], check: impl FnOnce(&Cuda)) {
    if gpu::real() || env::var_os(MULTIPROCESSORS).is_some() {
        let Some(gpu) = gpu::gpu(Precision::Bf16) else { return };
        if gpu.limits().warpgroups {
            check(&gpu);
        }
        return;
    }
    if gpu::gpu(Precision::Bf16).is_none() {
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

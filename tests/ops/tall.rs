//! Convolutions of many rows and long sums, which GPUs with tensor cores compute in tiles of more rows: the same bits as
//! in those of others, which the table's shapes hold to the loops.
//!
//! How many rows are many depends on the GPU. The virtual one has a single multiprocessor here, in a process of its own.

use std::process::Command;
use std::{env, fs};

use mlpconv::device::{Grad, Role, Write};
use mlpconv::shape::{ConvShape, Window};
use mlpconv::{Backend, Precision, Shape};

use crate::{case, draw, gpu};

const TEST: &str = "tall::tall_tiles_give_the_bits_of_others";
const MULTIPROCESSORS: &str = "VIRTUAL_GPU_MULTIPROCESSORS";

#[test]
fn tall_tiles_give_the_bits_of_others() {
    let precisions = [Precision::Tf32, Precision::Bf16];
    if gpu::real() || env::var_os(MULTIPROCESSORS).is_some() {
        for precision in precisions {
            let Some(gpu) = gpu::gpu(precision) else { return };
            // A card may have other kernels for these sums, in larger tiles.
            bits(&gpu.portable().unwrap(), gpu.limits().multiprocessors);
        }
        return;
    }
    if gpu::gpu(Precision::Fp32).is_none() {
        return;
    }
    let launches = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", TEST, "--nocapture"]).env(MULTIPROCESSORS, "1").env("VIRTUAL_GPU_COUNTS", launches.path());
    let output = child.output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{}", said.concat());
    let launched = fs::read_to_string(launches.path()).unwrap();
    for kernel in ["fprop_256x128", "fprop_192x96", "dgrad_256x128", "dgrad_192x96", "fprop_128x128", "dgrad_128x96"] {
        let kernel = format!("\"conv2d_{kernel}\"");
        assert!(launched.matches(&kernel).count() >= precisions.len(), "{kernel} was not launched");
    }
}

/// Two images give what each of them gives alone, where a GPU would have a third more rows to compute in tall tiles. (The rule's own
/// tests have these extents for GPUs of all sizes.)
fn bits<B: Backend>(backend: &B, multiprocessors: usize) {
    let image = |n| move |c| Shape::image(n, c, 50 * multiprocessors, 17);
    for [c, k] in [[96, 128], [128, 96]] {
        let weights = Shape::weight(k, c, 5, 5);
        let w = case::upload_as(Role::Parameter, backend, weights, &draw::spread(701, weights.len()));
        let run = |n, x: &[f64], dy: &[f64]| {
            let shape = image(n);
            let g = ConvShape::new("conv2d", shape(c), weights, Window { stride: 1, pad: 2 }).unwrap();
            let (x, dy) = (case::upload(backend, shape(c), x), case::upload(backend, shape(k), dy));
            let fresh = |shape: Shape| backend.alloc(Role::Activation, shape.len()).unwrap();
            let (mut y, mut dx) = (fresh(shape(k)), Grad::new(fresh(shape(c)), Write::Overwrite));
            backend.conv2d_fprop(&g, &x, case::affine(&w, None, true), &mut y).unwrap();
            backend.conv2d_dgrad(&g, &dy, &w, &mut dx).unwrap();
            [case::download(backend, shape(k), &y), case::download(backend, shape(c), &dx.buf)]
        };
        let [x, dy] = [(702, c), (703, k)].map(|(seed, channels)| draw::spread(seed, image(2)(channels).len()));
        let both = run(2, &x, &dy);
        for half in 0..2 {
            let of = |values: &[f64]| values[half * values.len() / 2..][..values.len() / 2].to_vec();
            let alone = run(1, &of(&x), &of(&dy));
            for (what, alone, both) in [("y", &alone[0], &both[0]), ("dx", &alone[1], &both[1])] {
                let both = of(both);
                let same = alone.iter().zip(&both).all(|(one, other)| one.to_bits() == other.to_bits());
                assert!(same && alone.iter().any(|&value| value > 0.0), "{what} of {c} to {k} channels, image {half}");
            }
        }
    }
}

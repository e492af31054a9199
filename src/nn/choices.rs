//! The report of tiles and splits that the rules of [`gemm`](crate::device::cuda::gemm) choose for d2l's network:
//! `kernels/measured/CHOICES.md`. `make choices` writes it, and a test compares it with the rules.

use std::fmt::Write as _;
use std::{env, fs};

use super::plan::Kernel;
use super::{Nin, Plan, layers};
use crate::device::Precision;
use crate::device::cuda::Limits;
use crate::device::cuda::gemm::{
    Product, SplitRule, TileRule, division, enlarged, fprop_splits, geometry, grouped_tile, tile, tile_k, wgrad_splits,
    wgrad_tile, whole_vectors,
};
use crate::device::cuda::tiles::Tile;
use crate::ops::conv2d::gemm_of;
use crate::shape::ConvShape;
use crate::{Cpu, Shape};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/measured/CHOICES.md");

const HEAD: &str = "\
# What the rules choose

Tiles of the network's convolutions at 224×224, without the pixels that no pool reads, and how wgrad's sums over pixels and
fprop's over taps and channels are divided: by `tile`, `enlarged`, `wgrad_tile`, `wgrad_splits` and `fprop_splits` of `src/device/cuda/gemm.rs` for 132
multiprocessors, as an H200 has. Written by `make choices`; a test holds the rules to it. It is arithmetic on extents: nothing
here was timed.

* **blocks**: tiles of the product, times splits. **waves**: blocks over those that run at once (tiles have a fixed number for
  each multiprocessor, 2 or 4, of wgrad's larger blocks and of tall ones half as many). A last wave that is not full leaves multiprocessors idle.
* **useful**: rows, columns and steps of the sum that are the problem's, of those that the blocks compute.
* **parts**: MB of partial results; wgrad's are read by the update, fprop's by the kernel that adds them up.

The first convolution is listed as the 3×3 over blocks of 4×4 pixels that it is run as, with the 11×11 taps of its gradient. Not listed are the
kernels that take the place of some of these: the fused first block (bf16), the 1×1 convolutions that pool, and the pair of 10 channels.
";

/// The convolutions of d2l's network by its plan without fusion; of consecutive equal ones, one.
fn convolutions(batch: usize) -> Vec<ConvShape> {
    let net = Nin::d2l(&Cpu::<f32>::new(), 0).unwrap();
    let apart = |_: &_| Err("each by itself".into());
    let plan = Plan::new(&layers(&net), Shape::image(batch, 1, 224, 224), &apart).unwrap();
    let conv = |kernel: &Kernel| if let Kernel::Conv2d(shape) = kernel { Some(*shape) } else { None };
    let mut convolutions: Vec<ConvShape> = plan.steps().iter().filter_map(|step| conv(&step.kernel)).collect();
    convolutions.dedup();
    convolutions
}

/// The launch of one pass of a convolution.
struct Choice {
    tile: Tile,
    product: Product,
    blocks: usize,
    splits: usize,
    /// Elements of the sum that a block computes.
    depth: usize,
    /// Bytes of partial results.
    parts: usize,
}

/// The choice for a pass of the convolution `of`.
fn choose(precision: Precision, pass: &str, of: &ConvShape) -> Choice {
    let run = gemm_of(precision, of);
    let ConvShape { c, k, .. } = run;
    // Whether both operands are read in 16-byte accesses, and the elements of k in a tile.
    let (both, step, gpu) = (whole_vectors(precision, &[c, k]), tile_k(precision), Limits::h200(precision));
    let plain = |tile: &Tile, product: Product| {
        let Product { m, n, k } = product;
        let blocks = geometry(tile, m, n, 1).grid[0];
        Choice { tile: *tile, product, blocks, splits: 1, depth: k.next_multiple_of(step), parts: 0 }
    };
    let divided = |rule: SplitRule, tile: Tile, product: Product, len: usize| {
        let blocks = geometry(&tile, product.m, product.n, 1).grid[0];
        let splits = division(rule, &gpu, &tile, product, len);
        let parts = if splits.count > 1 { splits.count * len.next_multiple_of(4) * size_of::<f32>() } else { 0 };
        Choice { tile, product, blocks, splits: splits.count, depth: splits.tiles * tile.groups * step, parts }
    };
    match pass {
        "fprop" if run.is_gemm() => {
            plain(tile(precision, whole_vectors(precision, &[c]), k), Product { m: run.pixels(), n: k, k: c })
        }
        "fprop" => {
            let product = Product { m: run.pixels(), n: k, k: run.taps() };
            // K is split as for the uncropped output.
            let whole = Product { m: of.whole().pixels(), ..product };
            let tile = tile(precision, whole_vectors(precision, &[c]), k);
            let choice = divided(fprop_splits, *tile, whole, whole.m * k);
            let part = if choice.splits > 1 { (product.m * k).next_multiple_of(4) * size_of::<f32>() } else { 0 };
            let tile = if choice.splits == 1 { enlarged(tile, product, &gpu) } else { tile };
            let blocks = geometry(tile, product.m, product.n, 1).grid[0];
            Choice { tile: *tile, product, blocks, parts: choice.splits * part, ..choice }
        }
        "dgrad" => {
            let product = Product { m: of.n * of.h * of.w, n: c, k: run.r * run.s * k };
            let tile = tile(precision, both, c);
            let choice = plain(if run.is_gemm() { tile } else { enlarged(tile, product, &gpu) }, product);
            // Whole tiles for each tap.
            if both { Choice { depth: run.r * run.s * k.next_multiple_of(step), ..choice } } else { choice }
        }
        _ => {
            let product = Product { m: k, n: run.taps(), k: run.pixels() };
            // The gradient has the filter's layout.
            let len = (of.taps() * k).next_multiple_of(4) + k;
            let rule: TileRule = if run.is_gemm() { grouped_tile } else { wgrad_tile };
            divided(wgrad_splits, rule(both, product, &gpu), product, len)
        }
    }
}

fn report() -> String {
    let mut text = HEAD.to_owned();
    for (batch, passes) in [(128, &["fprop", "dgrad", "wgrad"][..]), (1, &["fprop"])] {
        for precision in Precision::ALL {
            let what = if batch == 1 { "inference of one image" } else { "a training step of 128 images" };
            write!(
                text,
                "\n## {precision}, {what}\n\n\
                 | layer | pass | M × N × K | tile | blocks | waves | useful | parts |\n|---|---|---|---|---:|---:|---:|---:|\n"
            )
            .unwrap();
            for (layer, of) in convolutions(batch).iter().enumerate() {
                let ConvShape { c, k, r, s, .. } = gemm_of(precision, of);
                let name = format!("{c}→{k}, {r}×{s}");
                // The first layer has no dgrad: images need no gradient.
                for pass in passes.iter().filter(|pass| layer > 0 || **pass != "dgrad") {
                    let Choice { tile, product, blocks, splits, depth, parts } = choose(precision, pass, of);
                    let Product { m, n, k } = product;
                    let waves =
                        (blocks * splits) as f64 / (tile.blocks * Limits::h200(precision).multiprocessors) as f64;
                    let computed = (blocks * tile.m * tile.n) as f64 * (splits * depth) as f64;
                    let useful = 100.0 * m as f64 * n as f64 * k as f64 / computed;
                    let splits = if *pass == "wgrad" || splits > 1 { format!(" × {splits}") } else { String::new() };
                    let parts = if parts > 0 { format!("{:.1}", parts as f64 / 1e6) } else { String::new() };
                    writeln!(
                        text,
                        "| {name} | {pass} | {m} × {n} × {k} | `{}` | {blocks}{splits} | {waves:.2} | {useful:.0} % | {parts} |",
                        tile.name()
                    )
                    .unwrap();
                }
            }
        }
    }
    text
}

#[test]
fn the_committed_choices_are_those_of_the_rules() {
    let report = report();
    if let Some(path) = env::var_os("MLPCONV_CHOICES") {
        fs::write(path, report).unwrap();
        return;
    }
    let committed = fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(committed == report, "kernels/measured/CHOICES.md is stale; `make choices` renews it");
}

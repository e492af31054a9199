//! `cargo bench --bench convolution`: every convolution of d2l's NiN, and a 1×1, a 3×3 and a 5×5 with equal arithmetic.
//! Runs on a GPU in each precision if there is one, else on the CPU. See `benches/README.md`.

mod harness;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use mlpconv::device::{Grad, Role, Write};
use mlpconv::ops::{Affine, Wanted};
use mlpconv::shape::{ConvShape, Window};
use mlpconv::{Result, Shape};

use harness::{Bench, Device, Row, Table, Timed, Times, measure, noise, rectified};

/// Images in a batch. On a GPU the recipe's; on a CPU enough for a steady rate and few enough for a bench of seconds.
const BATCH: [usize; 2] = [128, 8];

const PASSES: [&str; 3] = ["fprop", "dgrad", "wgrad"];

struct Case {
    name: String,
    shape: ConvShape,
    /// The first layer: the gradient of the network's input is not computed.
    first: bool,
}

fn case(batch: usize, name: &str, [c, k, filter, stride, pad, size]: [usize; 6]) -> Case {
    let (x, w) = (Shape::image(batch, c, size, size), Shape::weight(k, c, filter, filter));
    let shape = ConvShape::new("bench", x, w, Window { stride, pad }).expect("the cases below fit");
    Case { name: name.into(), shape, first: c == 1 }
}

/// The network's convolutions, each alone. The first of a block computes only the pixels that the pool after the block
/// reads. Each 1×1 occurs twice in the network. Where a backend fuses some of them, the bench `block` has the fused
/// ops.
fn network(batch: usize) -> Vec<Case> {
    let read = |name: &str, [c, k, filter, stride, pad, size]: [usize; 6], read: usize| {
        let mut case = case(batch, name, [c, k, filter, stride, pad, size]);
        case.shape = case.shape.cropped(read, read);
        case
    };
    vec![
        read("conv1 11x11 s4 1-96", [1, 96, 11, 4, 0, 224], 53),
        case(batch, "pointwise1 96-96", [96, 96, 1, 1, 0, 53]),
        read("conv2 5x5 96-256", [96, 256, 5, 1, 2, 26], 25),
        case(batch, "pointwise2 256-256", [256, 256, 1, 1, 0, 25]),
        read("conv3 3x3 256-384", [256, 384, 3, 1, 1, 12], 11),
        case(batch, "pointwise3 384-384", [384, 384, 1, 1, 0, 11]),
        case(batch, "conv4 3x3 384-10", [384, 10, 3, 1, 1, 5]),
        case(batch, "pointwise4 10-10", [10, 10, 1, 1, 0, 5]),
    ]
}

/// The network's convolutions that leave pixels out, with all pixels, as PyTorch computes them.
fn whole(batch: usize) -> Vec<Case> {
    vec![
        case(batch, "conv1 11x11 s4 1-96", [1, 96, 11, 4, 0, 224]),
        case(batch, "pointwise1 96-96", [96, 96, 1, 1, 0, 54]),
        case(batch, "conv2 5x5 96-256", [96, 256, 5, 1, 2, 26]),
        case(batch, "pointwise2 256-256", [256, 256, 1, 1, 0, 26]),
        case(batch, "conv3 3x3 256-384", [256, 384, 3, 1, 1, 12]),
        case(batch, "pointwise3 384-384", [384, 384, 1, 1, 0, 12]),
    ]
}

/// 900 taps and 128 outputs for each pixel, with filters of three sizes.
fn equal_arithmetic(batch: usize) -> Vec<Case> {
    vec![
        case(batch, "1x1 900-128", [900, 128, 1, 1, 0, 26]),
        case(batch, "3x3 100-128", [100, 128, 3, 1, 1, 26]),
        case(batch, "5x5 36-128", [36, 128, 5, 1, 2, 26]),
    ]
}

/// Benches all cases on one backend.
fn run<B: Timed>(criterion: &mut Criterion, table: &mut Table, backend: &B, batch: usize) {
    let precision = backend.precision();
    let groups = [("nin", network(batch)), ("whole", whole(batch)), ("equal arithmetic", equal_arithmetic(batch))];
    for (title, cases) in groups {
        for pass in PASSES {
            let mut group = criterion.benchmark_group(format!("{title} {precision} {pass}"));
            for case in cases.iter().filter(|case| !(case.first && pass == "dgrad")) {
                group.throughput(Throughput::Elements(case.shape.macs() as u64));
                let make = || Work::new(backend, case, pass);
                if let Some(times) = measure(&mut group, backend, &case.name, make, |work| work.once(backend, pass)) {
                    table.push(row(title, case, pass, backend, times));
                }
            }
            group.finish();
        }
    }
}

/// The tensors of a case, for one pass.
struct Work<B: Timed> {
    shape: ConvShape,
    x: Arc<B::Buf>,
    w: B::Buf,
    b: B::Buf,
    y: B::Buf,
    dx: Grad<B::Buf>,
    dw: Grad<B::Buf>,
    db: Grad<B::Buf>,
}

impl<B: Timed> Work<B> {
    fn new(backend: &B, case: &Case, pass: &str) -> Result<Self> {
        let g = case.shape;
        let noise = |role, len| noise(backend, role, len);
        let grad = |role, len| noise(role, len).map(|buf| Grad::new(buf, Write::Overwrite));
        let (weights, outputs) = (g.weight().len(), g.output().len());
        let dgrad = pass == "dgrad";
        Ok(Work {
            shape: g,
            x: if dgrad { rectified(backend, g.input()) } else { noise(Role::Activation, g.input().len()) }?.into(),
            w: noise(Role::Parameter, weights)?,
            b: noise(Role::Parameter, g.k)?,
            // fprop also writes the signs of its output, which `alloc_rectified` reserves.
            y: if pass == "fprop" { backend.alloc_rectified(outputs) } else { noise(Role::Activation, outputs) }?,
            dx: grad(Role::Activation, if dgrad { g.input().len() } else { 1 })?,
            dw: grad(Role::Parameter, weights)?,
            db: grad(Role::Parameter, g.k)?,
        })
    }

    fn once(&mut self, backend: &B, pass: &str) -> Result<()> {
        let Work { shape: g, x, w, b, y, dx, dw, db } = self;
        match pass {
            "fprop" => backend.conv2d_fprop(g, x, Affine { w, bias: Some(b), relu: true }, y),
            "dgrad" => {
                dx.set_mask(x.clone());
                backend.conv2d_dgrad(g, y, w, dx)
            }
            _ => backend.conv2d_wgrad(g, x, y, Wanted { dw: Some(&mut *dw), db: Some(&mut *db) }),
        }?;
        black_box((&*y, &dx.buf, &dw.buf));
        Ok(())
    }
}

fn row<B: Timed>(group: &'static str, case: &Case, pass: &str, backend: &B, times: Times) -> Row {
    let g = case.shape;
    let precision = backend.precision();
    let width = precision.activation_width();
    let (x, w, y) = (g.input().len() * width, g.weight().len(), g.output().len() * width);
    let bytes = match pass {
        // Weights have the width of activations, the bias is fp32.
        "fprop" => x + w * width + g.k * 4 + y + backend.signs(g.k, y).unwrap_or(0),
        // The mask reads the signs of the input, or the input itself.
        "dgrad" => y + w * width + x + backend.signs(g.c, x).unwrap_or(x),
        _ => x + y + w * 4 + g.k * 4,
    };
    Row {
        group,
        case: case.name.clone(),
        pass: pass.into(),
        precision,
        times,
        flops: 2.0 * g.macs() as f64,
        bytes: Some(bytes as f64),
        images: g.n,
    }
}

struct Convolutions;

impl Bench for Convolutions {
    const NAME: &'static str = "convolution";
    const BATCH: [usize; 2] = BATCH;

    fn run<B: Timed>(criterion: &mut Criterion, table: &mut Table, backend: &B, batch: usize, _: Device) {
        run(criterion, table, backend, batch);
    }
}

fn main() {
    harness::run::<Convolutions>();
}

//! `cargo bench --bench convolution`: every convolution of d2l's NiN, and 1×1 against k×k at equal arithmetic, on a
//! GPU in each precision if there is one, else on the CPU. See `benches/README.md`.

mod harness;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use mlpconv::device::Role;
use mlpconv::ops::pointwise::PointwiseShape;
use mlpconv::ops::{Grad, Write};
use mlpconv::shape::{ConvShape, PoolShape};
use mlpconv::{Cpu, Shape};

use harness::{Row, Table, Timed, Times, bench, setting};

/// Images a batch: the recipe's on a GPU; on a CPU enough for a steady rate, few enough that a bench takes seconds.
const BATCH: [usize; 2] = [128, 8];

const PASSES: [&str; 3] = ["fprop", "dgrad", "wgrad"];

struct Case {
    name: String,
    shape: ConvShape,
    /// The network's input wants no gradient.
    first: bool,
}

fn case(batch: usize, name: &str, [c, k, filter, stride, pad, size]: [usize; 6]) -> Case {
    let (x, w) = (Shape::image(batch, c, size, size), Shape::weight(k, c, filter, filter));
    let shape = ConvShape::new("bench", x, w, stride, pad).expect("the cases below fit");
    Case { name: name.into(), shape, first: c == 1 }
}

/// The network's convolutions, each by itself: the first of a block computes the pixels alone that the pool after it
/// reads. Each of the 1×1 is there twice. (Where a backend fuses some, `block` has what it runs instead.)
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

/// Those of the network that leave pixels out, with all of them, as PyTorch computes them.
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

/// 900 taps and 128 outputs a pixel, by filters of three sizes.
fn equal_arithmetic(batch: usize) -> Vec<Case> {
    vec![
        case(batch, "1x1 900-128", [900, 128, 1, 1, 0, 26]),
        case(batch, "3x3 100-128", [100, 128, 3, 1, 1, 26]),
        case(batch, "5x5 36-128", [36, 128, 5, 1, 2, 26]),
    ]
}

/// All cases on one backend.
fn run<B: Timed>(criterion: &mut Criterion, table: &mut Table, backend: &B, batch: usize) {
    let precision = backend.precision();
    let groups = [("nin", network(batch)), ("whole", whole(batch)), ("equal arithmetic", equal_arithmetic(batch))];
    for (title, cases) in groups {
        for pass in PASSES {
            let mut group = criterion.benchmark_group(format!("{title} {precision} {pass}"));
            for case in cases.iter().filter(|case| !(case.first && pass == "dgrad")) {
                group.throughput(Throughput::Elements(case.shape.macs() as u64));
                let mut work = None;
                // Its buffers are made only if it is one of those that the command line asks for.
                let times = bench(&mut group, &case.name, &mut |count| {
                    work.get_or_insert_with(|| Work::new(backend, case, pass)).time(count)
                });
                if let Some(times) = times {
                    table.push(row(title, case, pass, backend, times));
                }
            }
            group.finish();
        }
    }
}

/// A pass over a case, with its tensors.
struct Work<'a, B: Timed> {
    backend: &'a B,
    shape: ConvShape,
    pass: &'static str,
    // Before the buffers that it reads and writes.
    recording: Option<B::Recording>,
    x: B::Buf,
    w: B::Buf,
    b: B::Buf,
    y: B::Buf,
    dx: Grad<B::Buf>,
    dw: Grad<B::Buf>,
    db: Grad<B::Buf>,
}

impl<'a, B: Timed> Work<'a, B> {
    fn new(backend: &'a B, case: &Case, pass: &'static str) -> Self {
        let g = case.shape;
        // Not zeros: those can be faster than real numbers.
        let noise = |role, len: usize| {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
            backend.upload(role, &(0..len).map(value).collect::<Vec<_>>()).expect("memory")
        };
        let grad = |role, len| Grad::new(noise(role, len), Write::Overwrite);
        let (inputs, weights, outputs) = (g.input().len(), g.weight().len(), g.output().len());
        // What training has: dgrad's mask comes out of a kernel that leaves signs, and fprop leaves them. A pool of single pixels
        // is such a kernel.
        let rectified = |len| backend.alloc_rectified(len).expect("memory");
        let mut x = noise(Role::Activation, inputs);
        if pass == "dgrad" {
            let pool = PoolShape::new("bench", g.input(), 1, 1).expect("single pixels");
            let mut mask = rectified(inputs);
            backend.maxpool_fprop(&pool, &x, &mut mask, None).expect("memory");
            x = mask;
        }
        Work {
            backend,
            shape: g,
            pass,
            recording: None,
            x,
            w: noise(Role::Parameter, weights),
            b: noise(Role::Parameter, g.k),
            y: if pass == "fprop" { rectified(outputs) } else { noise(Role::Activation, outputs) },
            dx: grad(Role::Activation, if pass == "dgrad" { inputs } else { 1 }),
            dw: grad(Role::Parameter, weights),
            db: grad(Role::Parameter, g.k),
        }
    }

    fn time(&mut self, count: u64) -> mlpconv::Result<std::time::Duration> {
        let Work { backend, shape: g, pass, recording, x, w, b, y, dx, dw, db } = self;
        let pointwise = PointwiseShape { m: g.pixels(), c: g.c, k: g.k };
        let mut once = || {
            match (*pass, g.is_pointwise()) {
                ("fprop", true) => backend.pointwise_fprop(&pointwise, x, w, Some(b), true, y),
                ("fprop", false) => backend.conv2d_fprop(g, x, w, Some(b), true, y),
                ("dgrad", true) => backend.pointwise_dgrad(&pointwise, y, w, Some(x), dx),
                ("dgrad", false) => backend.conv2d_dgrad(g, y, w, Some(x), dx),
                (_, true) => backend.pointwise_wgrad(&pointwise, x, y, Some(&mut *dw), Some(&mut *db)),
                (_, false) => backend.conv2d_wgrad(g, x, y, Some(&mut *dw), Some(&mut *db)),
            }?;
            black_box((&*y, &dx.buf, &dw.buf));
            Ok(())
        };
        backend.repeated(count, &mut once, recording)
    }
}

fn row<B: Timed>(group: &'static str, case: &Case, pass: &str, backend: &B, times: Times) -> Row {
    let g = case.shape;
    let precision = backend.precision();
    let width = precision.activation_width();
    let (x, w, y) = (g.input().len() * width, g.weight().len(), g.output().len() * width);
    let bytes = match pass {
        // With weights as activations are stored, and a bias in fp32.
        "fprop" => x + w * width + g.k * 4 + y + backend.signs(g.k, y).unwrap_or(0),
        // The input's signs are read for its mask, or it is itself.
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

fn main() {
    #[cfg(feature = "cuda")]
    if let Some(gpus) = harness::gpus() {
        let batch = setting("MLPCONV_BENCH_BATCH", BATCH[0]);
        let mut criterion = harness::criterion(true);
        let mut table = Table::new("convolution", gpus[0].device().name.clone());
        for gpu in &gpus {
            table.ceiling(Timed::precision(gpu), gpu.ceiling());
            run(&mut criterion, &mut table, gpu, batch);
        }
        criterion.final_summary();
        return table.finish();
    }
    let (cpu, mut criterion) = (Cpu::<f32>::new(), harness::criterion(false));
    let mut table = Table::new("convolution", format!("the CPU, {} threads", cpu.threads()));
    run(&mut criterion, &mut table, &cpu, setting("MLPCONV_BENCH_BATCH", BATCH[1]));
    criterion.final_summary();
    table.ceiling(Timed::precision(&cpu), cpu.ceiling());
    table.finish();
}

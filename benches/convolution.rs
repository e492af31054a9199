//! `cargo bench`: every convolution of d2l's NiN, and 1×1 against k×k at equal arithmetic.
//!
//! Throughput is in multiply-adds ("elements") a second: a pass that reaches the machine's GEMM rate is as good as it
//! gets, and what a k×k convolution loses against the 1×1 of equal arithmetic is the price of its im2col.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use mlpconv::device::Role;
use mlpconv::ops::conv2d::Conv2d;
use mlpconv::ops::pointwise::{Pointwise, PointwiseShape};
use mlpconv::ops::{Grad, Write};
use mlpconv::shape::ConvShape;
use mlpconv::{Cpu, Device, Shape};

/// Images a batch: enough for a steady rate, few enough that a bench takes seconds.
const BATCH: usize = 8;

struct Case {
    name: &'static str,
    shape: ConvShape,
}

fn case(name: &'static str, [c, k, filter, stride, pad, size]: [usize; 6]) -> Case {
    let (x, w) = (Shape::image(BATCH, c, size, size), Shape::weight(k, c, filter, filter));
    Case { name, shape: ConvShape::new("bench", x, w, stride, pad).expect("the cases below fit") }
}

/// The convolutions as the network has them.
fn network(c: &mut Criterion) {
    let cases = [
        case("conv1 11x11 s4 1-96", [1, 96, 11, 4, 0, 224]),
        case("pointwise1 96-96", [96, 96, 1, 1, 0, 54]),
        case("conv2 5x5 96-256", [96, 256, 5, 1, 2, 26]),
        case("pointwise2 256-256", [256, 256, 1, 1, 0, 26]),
        case("conv3 3x3 256-384", [256, 384, 3, 1, 1, 12]),
        case("pointwise3 384-384", [384, 384, 1, 1, 0, 12]),
        case("conv4 3x3 384-10", [384, 10, 3, 1, 1, 5]),
    ];
    passes(c, "nin", &cases);
}

/// 900 taps and 128 outputs a pixel, by filters of three sizes.
fn equal_arithmetic(c: &mut Criterion) {
    let cases = [
        case("1x1 900-128", [900, 128, 1, 1, 0, 26]),
        case("3x3 100-128", [100, 128, 3, 1, 1, 26]),
        case("5x5 36-128", [36, 128, 5, 1, 2, 26]),
    ];
    passes(c, "equal arithmetic", &cases);
}

fn passes(c: &mut Criterion, title: &str, cases: &[Case]) {
    let backend = Cpu::<f32>::new();
    for pass in ["fprop", "dgrad", "wgrad"] {
        let mut group = c.benchmark_group(format!("{title} {pass}"));
        group.sample_size(10);
        for case in cases {
            group.throughput(Throughput::Elements(case.shape.macs() as u64));
            bench(&mut group, &backend, case, pass);
        }
        group.finish();
    }
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, backend: &Cpu<f32>, case: &Case, pass: &str) {
    let g = case.shape;
    let pointwise = PointwiseShape { m: g.pixels(), c: g.c, k: g.k };
    // Not zeros: those can be faster than real numbers.
    let noise = |len: usize| {
        let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        backend.upload(Role::Activation, &(0..len).map(value).collect::<Vec<_>>()).expect("memory")
    };
    let (x, w, b) = (noise(g.input().len()), noise(g.weight().len()), noise(g.k));
    let mut y = noise(g.output().len());
    let grad = |len| Grad::new(noise(len), Write::Overwrite);
    let (mut dx, mut dw, mut db) = (grad(x.len()), grad(w.len()), grad(g.k));
    group.bench_function(case.name, |bencher| {
        bencher.iter(|| {
            match (pass, g.is_pointwise()) {
                ("fprop", true) => backend.pointwise_fprop(&pointwise, &x, &w, Some(&b), true, &mut y),
                ("fprop", false) => backend.conv2d_fprop(&g, &x, &w, Some(&b), true, &mut y),
                ("dgrad", true) => backend.pointwise_dgrad(&pointwise, &y, &w, Some(&x), &mut dx),
                ("dgrad", false) => backend.conv2d_dgrad(&g, &y, &w, Some(&x), &mut dx),
                (_, true) => backend.pointwise_wgrad(&pointwise, &x, &y, Some(&mut dw), Some(&mut db)),
                (_, false) => backend.conv2d_wgrad(&g, &x, &y, Some(&mut dw), Some(&mut db)),
            }
            .expect("kernels run");
            black_box((&y, &dx.buf, &dw.buf));
        });
    });
}

criterion_group!(benches, network, equal_arithmetic);
criterion_main!(benches);

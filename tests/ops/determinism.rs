//! Results have the same bits on every run of a backend, and on the CPU with any number of threads.

use mlpconv::device::{Real, Role};
use mlpconv::{Backend, Cpu, Device, Shape};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, Conv, Outcome};
use crate::table::{self, conv};
use crate::{draw, reference, update};

/// Shapes large enough that every op divides its work into several pieces.
fn large() -> Vec<Case> {
    let images = Shape::image(3, 64, 33, 31);
    let x = [images.n(), images.c(), images.h(), images.w()];
    let rectified = |conv| Conv { relu: true, ..conv };
    vec![
        Case::Conv2d(rectified(conv([5, 13, 29, 31], [37, 3, 3], 1, 1))),
        Case::Conv2d(conv([9, 3, 40, 40], [17, 5, 5], 2, 2)),
        Case::Conv2d(rectified(conv([5, 67, 33, 31], [71, 1, 1], 1, 0))),
        Case::MaxPool { x, window: 3, stride: 2 },
        Case::GlobalAvgPool { x },
        Case::Relu { x: images },
        Case::Dropout { x: images, probability: 0.5 },
        Case::Flatten { x },
        Case::CrossEntropy { n: 4099, classes: 53, smoothing: 0.1 },
    ]
}

/// The bits of an outcome. Comparing them tells zeros of either sign apart, and finds equal NaNs equal.
fn bits(outcome: Outcome) -> Vec<Vec<u64>> {
    let rows = std::iter::once(outcome.y).chain(outcome.gradients);
    rows.map(|row| row.into_iter().map(f64::to_bits).collect()).collect()
}

fn run<T: Real>(threads: usize, case: &Case) -> Vec<Vec<u64>> {
    let backend = Cpu::<T>::with_threads(threads).unwrap();
    assert_eq!(backend.threads(), threads);
    bits(case::run(&backend, case, &case.draw(Arithmetic::CpuF64), &case.draw_seed(Arithmetic::CpuF64)))
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for case in large() {
        let [wide, narrow] = [run::<f64>(1, &case), run::<f32>(1, &case)];
        for threads in [2, 3] {
            assert!(run::<f64>(threads, &case) == wide, "{case:?} in f64 with {threads} threads");
            assert!(run::<f32>(threads, &case) == narrow, "{case:?} in f32 with {threads} threads");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits_on_the_networks_shapes() {
    for case in reference::network() {
        let one = run::<f32>(1, &case);
        assert!(run::<f32>(3, &case) == one, "{case:?}");
    }
}

#[test]
fn any_number_of_threads_updates_to_the_same_bits() {
    let lens = [200_003, 11];
    for (_, updates) in table::updates() {
        let big = update::Update { lens: &[200_003, 11], multipliers: &[1.0, 2.0], ..updates[4] };
        let run = |threads| {
            let backend = Cpu::<f32>::with_threads(threads).unwrap();
            let buffers = |seed, values: fn(f64) -> f64| {
                let values = |len| draw::spread(seed, len).into_iter().map(values).collect::<Vec<_>>();
                lens.map(|len| backend.upload(Role::Parameter, &case::scalars(&values(len))).unwrap()).into()
            };
            let (mut params, mut states): (Vec<_>, _) = (buffers(1, |v| v), [buffers(2, |v| v), buffers(4, f64::abs)]);
            update::apply(&backend, &big, 0, &mut params, &buffers(3, |v| v), &mut states);
            params.iter().chain(states.iter().flatten()).map(|buf| buf.to_vec()).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(run(2) == one && run(3) == one, "{big:?}");
    }
}

on_every_backend!(running_again_gives_the_same_bits);

/// The second run on a backend has the bits of the first, although its buffers hold results of the first.
fn running_again_gives_the_same_bits<B: Backend>(backend: &B, _: Arithmetic) {
    for case in table::tape_cases().into_iter().chain(large()) {
        // Numbers with all bits of an f32, so that another order of the sums would change the result.
        let (inputs, seed) = (case.draw(Arithmetic::CpuF64), case.draw_seed(Arithmetic::CpuF64));
        let first = bits(case::run(backend, &case, &inputs, &seed));
        assert!(bits(case::run(backend, &case, &inputs, &seed)) == first, "{case:?}");
    }
}

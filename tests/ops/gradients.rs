//! Every op's gradient against central finite differences, in f64, on every case of the table.
//!
//! # The tolerance
//! All ops but the loss are piecewise linear in each of their inputs. So a central difference is exact up to rounding
//! if no kink (a ReLU's zero, or a change of the maximum in a pooling window) lies within the step. The step is
//! derived from the distance to the nearest kink. The rounding error is `Σ|g|·ε / h`, where ε bounds the error of an
//! output. For the loss, the third derivative adds to it.

use std::collections::BTreeSet;
use std::fs;

use mlpconv::Cpu;

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case};
use crate::table::{self, Cases};
use crate::{draw, naive};

const UNIT: f64 = f64::EPSILON / 2.0;

#[test]
fn every_op_folder_is_in_the_table() {
    let entries = fs::read_dir("src/ops").expect("tests run in the package's root");
    let folders = entries.map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let mut folders: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(!folders.is_empty());
    // No op of a tape: it moves and counts gradients. `tests/ranks` has its kernels.
    assert!(folders.remove("shards"));
    let table = table::table();
    let names: BTreeSet<String> = table.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, folders, "the table's rows (left) are not the folders of src/ops (right)");
    for (name, cases) in table {
        let count = match &cases {
            Cases::Tape(cases) => cases.len(),
            Cases::Rule(cases) => cases.len(),
            Cases::Data(cases) => cases.len(),
            Cases::Blocks(cases) => cases.len(),
            Cases::Pairs(cases) => cases.len(),
            Cases::Pooled(cases) => cases.len(),
        };
        assert!(count >= 8, "{name} has only {count} cases");
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let backend = Cpu::<f64>::new();
    for (_, cases) in table::table() {
        match cases {
            Cases::Tape(cases) => cases.iter().for_each(|case| check(&backend, case)),
            // Ops without a gradient, and ops whose reference is an interval, have tests of their own.
            Cases::Rule(_) | Cases::Data(_) | Cases::Blocks(_) | Cases::Pairs(_) | Cases::Pooled(_) => {}
        }
    }
}

fn check(backend: &Cpu<f64>, case: &Case) {
    let (inputs, seed) = (case.draw(Arithmetic::CpuF64), case.draw_seed(Arithmetic::CpuF64));
    let outcome = case::run(backend, case, &inputs, &seed);
    for (input, gradient) in outcome.gradients.iter().enumerate() {
        let probe = Probe::new(backend, case, &inputs, &seed, input);
        for element in draw::some_of(7, gradient.len(), 200) {
            let mut direction = vec![0.0; gradient.len()];
            direction[element] = 1.0;
            probe.check(gradient, &direction, &format!("{case:?}: input {input}, element {element}"));
        }
        for n in 0..4 {
            let direction = draw::signs(1000 + n, gradient.len());
            probe.check(gradient, &direction, &format!("{case:?}: input {input}, direction {n}"));
        }
    }
}

/// Finite differences of `Σ seed·y` along directions in one input.
struct Probe<'a> {
    backend: &'a Cpu<f64>,
    case: &'a Case,
    inputs: &'a [Vec<f64>],
    seed: &'a [f64],
    input: usize,
    step: f64,
    /// The largest error of each output.
    output_error: Vec<f64>,
    /// The largest error of each element of the gradient.
    gradient_error: Vec<f64>,
}

impl<'a> Probe<'a> {
    fn new(backend: &'a Cpu<f64>, case: &'a Case, inputs: &'a [Vec<f64>], seed: &'a [f64], input: usize) -> Self {
        let step = step(case, inputs, input);
        // The inputs one step further from zero: within the step no term of a sum is larger.
        let reach: Vec<Vec<f64>> =
            inputs.iter().map(|values| values.iter().map(|v| v + step.copysign(*v)).collect()).collect();
        let error = |sum: naive::Sum| sum.tolerance(UNIT);
        let output_error = (0..seed.len()).map(|i| error(naive::output(case, &reach, i))).collect();
        let gradient_error =
            (0..inputs[input].len()).map(|i| error(naive::gradient(case, inputs, seed, input, i))).collect();
        Probe { backend, case, inputs, seed, input, step, output_error, gradient_error }
    }

    fn moved(&self, direction: &[f64], by: f64) -> Vec<f64> {
        let mut inputs = self.inputs.to_vec();
        for (value, d) in inputs[self.input].iter_mut().zip(direction) {
            *value += by * d;
        }
        case::forward(self.backend, self.case, &inputs)
    }

    fn check(&self, gradient: &[f64], direction: &[f64], what: &str) {
        let (up, down) = (self.moved(direction, self.step), self.moved(direction, -self.step));
        let mut slope = 0.0;
        let mut tolerance = curvature(self.case) * self.step * self.step / 6.0;
        let mut outputs = 0;
        for (i, seed) in self.seed.iter().enumerate() {
            // An output that does not depend on the direction has the same bits, and adds no error.
            if up[i] != down[i] {
                slope += seed * (up[i] - down[i]) / (2.0 * self.step);
                tolerance += seed.abs() * self.output_error[i] / self.step;
                outputs += 1;
            }
        }
        let mut want = 0.0;
        for (i, d) in direction.iter().enumerate() {
            want += d * gradient[i];
            tolerance += d.abs() * (self.gradient_error[i] + direction.len() as f64 * UNIT * gradient[i].abs());
        }
        tolerance += f64::from(outputs) * UNIT * slope.abs();
        let error = (slope - want).abs();
        assert!(error <= tolerance, "{what}: gradient {want}, difference quotient {slope} ± {tolerance:e}");
        // A large tolerance would make the check useless.
        assert!(tolerance < 1e-3, "{what}: the tolerance is {tolerance:e}");
    }
}

/// The largest third derivative of the loss along a direction of ±1 or of one element; 0 for (piecewise) linear ops.
///
/// Along a direction d, log-sum-exp's third derivative is the third cumulant of d under softmax; for values within
/// ±1 that is at most 8·max p(1−p)(1−2p) = 8/(6√3). The mean over rows is no larger.
fn curvature(case: &Case) -> f64 {
    if matches!(case, Case::CrossEntropy { .. }) { 8.0 / (6.0 * 3f64.sqrt()) } else { 0.0 }
}

/// The step: a power of two, at most half of the distance by which all elements of the input may move before a kink.
fn step(case: &Case, inputs: &[Vec<f64>], input: usize) -> f64 {
    let clearance = match case {
        Case::Conv2d(conv) if conv.relu => rectified_clearance(case, inputs, input),
        // Values are 1.9 / len apart at least, and 0.2 / len away from zero.
        Case::MaxPool { .. } | Case::Relu { .. } => 0.2 / inputs[0].len() as f64,
        // At this step the errors of rounding (UNIT / h) and of curvature (h²) are about equal.
        Case::CrossEntropy { .. } => 2f64.powi(-15),
        _ => 2f64.powi(-9),
    };
    let step = 2f64.powi((clearance / 2.0).log2().floor() as i32);
    assert!(step > 2f64.powi(-24), "{case:?} was drawn too close to a kink: {clearance:e}");
    step
}

/// The distance by which all elements of the input may move at once before a sum before the ReLU changes its sign.
fn rectified_clearance(case: &Case, inputs: &[Vec<f64>], input: usize) -> f64 {
    let mut slopes: Vec<Vec<f64>> = inputs.iter().map(|values| values.iter().map(|v| v.abs()).collect()).collect();
    slopes[input].fill(1.0);
    let linear = case.linear();
    let clearance = |i| naive::output(&linear, inputs, i).value.abs() / naive::output(&linear, &slopes, i).value;
    (0..case.output().len()).map(clearance).fold(2f64.powi(-9), f64::min)
}

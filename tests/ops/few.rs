//! Convolutions of few pixels with long filters, whose sums a GPU splits among blocks (split-K): their values and
//! gradients, NaN, and the same bits on every run.

use mlpconv::device::Role;
use mlpconv::shape::Window;
use mlpconv::{Backend, Cpu, Shape, Tape, Var};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, Conv, TRAINING};
use crate::draw;
use crate::reference::{self, Worst};
use crate::table::conv;

on_every_backend!(
    values_and_gradients_are_those_of_the_loops,
    a_nan_reaches_what_it_is_summed_into_and_nothing_else,
    every_run_gives_the_same_bits,
    a_relu_in_the_split_sum_equals_one_after_it,
);

/// Products of one tile or a few, whose sums have fifteen tiles of K or more. Every GPU splits such sums.
fn cases() -> Vec<Conv> {
    let rectified = |conv| Conv { relu: true, ..conv };
    vec![
        // The network's last block: ten channels, which packs do not divide, and more parts than running sums.
        rectified(conv([2, 384, 5, 5], [10, 3, 3], 1, 1)),
        Conv { bias: false, ..conv([1, 384, 5, 5], [10, 3, 3], 1, 1) },
        // Few parts, and numbers of channels that neither tiles of K nor parts divide.
        rectified(conv([1, 72, 6, 5], [40, 3, 3], 1, 1)),
        conv([2, 40, 7, 9], [104, 3, 4], 2, 1),
        // Several tiles of rows and columns.
        rectified(conv([1, 96, 13, 12], [136, 3, 3], 1, 1)),
        // 61 input channels are read element by element. 12 output channels are whole packs in fp32 and TF32, not in
        // bf16.
        rectified(Conv { bias: false, ..conv([1, 61, 5, 5], [12, 3, 3], 1, 1) }),
        // Groups of four elements that cross the ends of rows and of the output.
        rectified(conv([1, 64, 3, 3], [7, 3, 3], 1, 1)),
        conv([1, 128, 3, 3], [9, 3, 3], 1, 0),
    ]
}

fn values_and_gradients_are_those_of_the_loops<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for conv in cases() {
        reference::check(backend, arithmetic, &Case::Conv2d(conv), &mut Worst::default());
    }
}

fn a_nan_reaches_what_it_is_summed_into_and_nothing_else<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let nans = |values: Vec<f64>| values.into_iter().map(f64::is_nan).collect::<Vec<_>>();
    for case in cases().into_iter().map(Case::Conv2d) {
        let inputs = case.draw(arithmetic);
        for input in 0..inputs.len() {
            let mut inputs = inputs.clone();
            let last = inputs[input].len() - 1;
            inputs[input][last] = f64::NAN;
            let [here, there] =
                [case::forward(backend, &case, &inputs), case::forward(&Cpu::<f64>::new(), &case, &inputs)].map(nans);
            assert!(here == there && here.contains(&true), "{case:?}, input {input}");
        }
    }
}

fn every_run_gives_the_same_bits<B: Backend>(backend: &B, _: Arithmetic) {
    for case in cases().into_iter().map(Case::Conv2d) {
        // Numbers with all bits of an f32, so that another order of the sums would change the result.
        let inputs = case.draw(Arithmetic::CpuF64);
        let run = || case::forward(backend, &case, &inputs).into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert!(run() == run(), "{case:?}");
    }
}

/// A ReLU in the kernel that adds up the parts equals one after it. The gradient of its output is masked by the signs
/// that the kernel writes, if the buffer has room for them, or else by the values.
fn a_relu_in_the_split_sum_equals_one_after_it<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for conv in cases() {
        let case = Case::Conv2d(Conv { relu: false, ..conv });
        let (shapes, inputs, h) = (case.inputs(), case.draw(arithmetic), case.output());
        let run = |fused: bool| {
            let mut tape = Tape::new(backend, TRAINING);
            let roles = case.roles().into_iter();
            let vars: Vec<Var<B>> = roles
                .zip(shapes.iter().zip(&inputs))
                .map(|(role, (&shape, values))| case::variable_as(role, &mut tape, shape, values))
                .collect();
            let window = Window { stride: conv.stride, pad: conv.pad };
            let mut y = tape.conv2d(&vars[0], case::affine(&vars[1], vars.get(2), fused), window).unwrap();
            if !fused {
                y = tape.relu(&y).unwrap();
            }
            let values = case::download(backend, h, y.data());
            let next = Shape::weight(8, h.c(), 1, 1);
            let next = case::variable_as(Role::Parameter, &mut tape, next, &draw::spread(3, next.len()));
            let y = tape.conv2d(&y, case::affine(&next, None, false), Window::default()).unwrap();
            let seed = case::upload(backend, y.shape(), &draw::spread(4, y.shape().len()));
            let grads = tape.backward_from(&y, seed).unwrap();
            let gradient = |var: &Var<B>| case::download(backend, var.shape(), grads.of(var).expect("a gradient"));
            (values, vars.iter().map(gradient).collect::<Vec<_>>())
        };
        let (fused, apart) = (run(true), run(false));
        assert!(fused.0.contains(&0.0) && fused.0.iter().any(|&y| y > 0.0), "{case:?}");
        assert!(fused == apart, "{case:?}");
    }
}

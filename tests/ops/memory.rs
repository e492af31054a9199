//! Memory in the steady state: repeated steps allocate nothing from the system, and release all their buffers.

use mlpconv::ops::cross_entropy::Meter;
use mlpconv::shape::Window;
use mlpconv::{Backend, Cpu, Param, Shape, Tape};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, TRAINING};
use crate::{draw, reference, table};

on_every_backend!(every_op_settles, a_network_settles, inference_keeps_nothing_for_a_backward_pass);

/// Asserts that after two steps, two more change no figure of the memory.
fn settles<B: Backend>(backend: &B, what: &str, mut step: impl FnMut()) {
    let idle = backend.memory().in_use;
    step();
    assert_eq!(backend.memory().in_use, idle, "{what} keeps memory after the first step");
    step();
    let settled = backend.memory();
    for n in 3..=4 {
        step();
        assert_eq!(backend.memory(), settled, "{what}, step {n}");
    }
}

fn every_op_settles<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for case in table::tape_cases() {
        let (inputs, seed) = (case.draw(arithmetic), case.draw_seed(arithmetic));
        settles(backend, &format!("{case:?}"), || drop(case::run(backend, &case, &inputs, &seed)));
    }
}

#[test]
fn the_networks_ops_settle() {
    let backend = Cpu::<f32>::new();
    for case in reference::network() {
        let (inputs, seed) = (case.draw(Arithmetic::CpuF32), case.draw_seed(Arithmetic::CpuF32));
        settles(&backend, &format!("{case:?}"), || drop(case::run(&backend, &case, &inputs, &seed)));
    }
}

#[test]
fn a_network_settles_with_any_number_of_threads() {
    for threads in 1..=3 {
        a_network_settles(&Cpu::<f32>::with_threads(threads).unwrap(), Arithmetic::CpuF32);
    }
}

fn a_network_settles<B: Backend>(backend: &B, _: Arithmetic) {
    let param = |shape: Shape| {
        let values = case::scalars(&draw::spread(1, shape.len()));
        Param::new(backend, shape, &values).unwrap()
    };
    let (w1, b1) = (param(Shape::weight(16, 3, 5, 5)), param(Shape::vector(16)));
    let (w2, b2) = (param(Shape::weight(10, 16, 1, 1)), param(Shape::vector(10)));
    let mut meter = Meter::new(backend).unwrap();
    let shape = Shape::image(4, 3, 23, 23);
    settles(backend, &backend.name(), || {
        let mut tape = Tape::new(backend, TRAINING);
        let x = tape.constant(case::upload(backend, shape, &draw::spread(2, shape.len())), shape).unwrap();
        let (w, b) = (tape.param(&w1), tape.param(&b1));
        let h = tape.conv2d(&x, case::affine(&w, Some(&b), true), Window { stride: 2, pad: 2 }).unwrap();
        let h = tape.maxpool(&h, 3, 2).unwrap();
        let h = tape.dropout(&h, 0.5).unwrap();
        let (w, b) = (tape.param(&w2), tape.param(&b2));
        let h = tape.conv2d(&h, case::affine(&w, Some(&b), true), Window::default()).unwrap();
        let h = tape.global_avgpool(&h).unwrap();
        let logits = tape.flatten(&h).unwrap();
        let labels = backend.upload_bytes(&case::labels(4, 10)).unwrap();
        let loss = tape.cross_entropy(&logits, &labels, &mut meter).unwrap();
        let grads = tape.backward(loss).unwrap();
        assert!([&w1, &b1, &w2, &b2].iter().all(|param| grads.of_param(param).is_some()));
    });
}

/// Inference records nothing, so its memory holds only the values still in use.
fn inference_keeps_nothing_for_a_backward_pass<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let shape = Shape::image(2, 5, 16, 16);
    let mut tape = Tape::new(backend, mlpconv::Mode::Inference);
    let mut x = case::variable(&mut tape, shape, &draw::spread(1, shape.len()));
    let held = backend.memory().in_use;
    for _ in 0..5 {
        x = tape.maxpool(&x, 1, 1).unwrap();
        x = tape.relu(&x).unwrap();
        assert_eq!(backend.memory().in_use, held);
    }
    let case = Case::Relu { x: shape };
    assert_eq!(case::forward(backend, &case, &case.draw(arithmetic)).len(), shape.len());
}

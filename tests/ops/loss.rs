//! The loss, apart from its gradient: extreme logits, the sums of the meter, and labels that are no class.

use mlpconv::ops::cross_entropy::{Meter, Reading};
use mlpconv::{Backend, Cpu, Device, Error, Mode, Shape, Tape};

use crate::arithmetic::Arithmetic;
use crate::case::{self, TRAINING};

on_every_backend!(
    extreme_logits_neither_overflow_nor_vanish,
    a_hit_is_the_first_largest_logit_at_the_label,
    a_meter_adds_up_over_batches_until_it_is_reset,
    flat_rows_are_counted,
);

/// Loss, accuracy and gradient of `logits`.
fn score<B: Backend>(backend: &B, logits: &[f64], labels: &[u8]) -> (Reading, Vec<f64>) {
    let shape = Shape::matrix(labels.len(), logits.len() / labels.len());
    let mut tape = Tape::new(backend, TRAINING);
    let x = case::variable(&mut tape, shape, logits);
    let mut meter = Meter::new(backend).unwrap();
    let loss = tape.cross_entropy(&x, &backend.upload_bytes(labels).unwrap(), &mut meter).unwrap();
    let grads = tape.backward(loss).unwrap();
    (meter.read(backend).unwrap(), case::download(backend, shape, grads.of(&x).unwrap()))
}

fn extreme_logits_neither_overflow_nor_vanish<B: Backend>(backend: &B, _: Arithmetic) {
    let (right, gradient) = score(backend, &[1000.0, 0.0, -1000.0], &[0]);
    assert_eq!((right.loss, right.accuracy, gradient), (0.0, 1.0, vec![0.0; 3]));
    let (wrong, gradient) = score(backend, &[1000.0, 0.0, -1000.0], &[2]);
    assert_eq!((wrong.loss, wrong.accuracy, gradient), (2000.0, 0.0, vec![1.0, 0.0, -1.0]));
    let (even, gradient) = score(backend, &[-3e38; 4], &[3]);
    let error = (even.loss - 4f64.ln()).abs();
    assert!(error <= 1e-6, "the loss of equal logits is {}, not ln 4", even.loss);
    assert_eq!(gradient, [0.25, 0.25, 0.25, -0.75]);
}

fn a_hit_is_the_first_largest_logit_at_the_label<B: Backend>(backend: &B, _: Arithmetic) {
    let accuracy = |logits: &[f64], labels: &[u8]| score(backend, logits, labels).0.accuracy;
    assert_eq!(accuracy(&[1.0, 3.0, 2.0], &[1]), 1.0);
    assert_eq!(accuracy(&[3.0, 3.0, 2.0], &[0]), 1.0);
    assert_eq!(accuracy(&[3.0, 3.0, 2.0], &[1]), 0.0);
    assert_eq!(accuracy(&[1.0, 2.0, 2.0, 1.0, 0.0, 0.0, 5.0, 4.0], &[1, 1, 0, 0]), 0.75);
}

fn a_meter_adds_up_over_batches_until_it_is_reset<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let mut meter = Meter::new(backend).unwrap();
    assert_eq!(meter.read(backend).unwrap(), Reading::default());
    let batches: [(&[f64], &[u8]); 2] = [(&[1.0, 2.0, 0.5, -0.5, 0.1, 0.2], &[1, 1, 0]), (&[4.0, -4.0], &[1])];
    let add = |meter: &mut Meter<_>, training: bool| {
        for (logits, labels) in batches {
            let mut tape = Tape::new(backend, if training { TRAINING } else { Mode::Inference });
            let x = case::variable(&mut tape, Shape::matrix(labels.len(), 2), logits);
            let labels = backend.upload_bytes(labels).unwrap();
            if training {
                tape.cross_entropy(&x, &labels, meter).unwrap();
            } else {
                tape.score(&x, &labels, meter).unwrap();
            }
        }
        meter.read(backend).unwrap()
    };
    let whole = add(&mut meter, true);
    let losses = batches.map(|(logits, labels)| score(backend, logits, labels).0.loss * labels.len() as f64);
    let error = (whole.loss - (losses[0] + losses[1]) / 4.0).abs();
    // Each loss is rounded once on the device and twice on the host.
    assert!(error <= 4.0 * arithmetic.unit() * whole.loss, "{whole:?}");
    assert_eq!((whole.accuracy, whole.samples), (0.25, 4));

    meter.reset(backend).unwrap();
    assert_eq!(meter.read(backend).unwrap(), Reading::default());
    assert_eq!(add(&mut meter, false), whole, "scoring measures what training does");
}

/// `flat` is the share of rows whose logits are all equal. A row with NaN is not flat.
fn flat_rows_are_counted<B: Backend>(backend: &B, _: Arithmetic) {
    let flat = |logits: &[f64], labels: &[u8]| score(backend, logits, labels).0.flat;
    assert_eq!(flat(&[0.0; 6], &[1, 0]), 1.0);
    assert_eq!(flat(&[2.5, 2.5, -0.0, 0.0, 1.0, 1.5, 3.0, 2.0], &[0; 4]), 0.5);
    assert_eq!(flat(&[f64::NAN, f64::NAN], &[0]), 0.0);
}

/// The CPU checks labels, and the error names the wrong one.
#[test]
fn a_label_that_is_no_class_is_named() {
    let backend = Cpu::<f32>::new();
    let mut tape = Tape::new(&backend, TRAINING);
    let x = case::variable(&mut tape, Shape::matrix(3, 10), &[0.5; 30]);
    let mut meter = Meter::new(&backend).unwrap();
    for label in [10, 255] {
        let labels = backend.upload_bytes(&[9, 0, label]).unwrap();
        for error in [tape.cross_entropy(&x, &labels, &mut meter).err(), tape.score(&x, &labels, &mut meter).err()] {
            let error = error.expect("an error");
            assert!(matches!(error, Error::Label { position: 2, classes: 10, .. }), "{error:?}");
            let message = "at position 2, but there are 10 classes (labels go from 0)";
            assert_eq!(error.to_string(), format!("cross_entropy: label {label} {message}"));
        }
    }
    assert_eq!(meter.read(&backend).unwrap(), Reading::default(), "a batch that was refused leaves no trace");
}

//! Dropout's mask: the share that it drops, what it depends on, and that the backward pass has the same mask.

use mlpconv::{Backend, Cpu, Mode, Shape, Tape};

use crate::arithmetic::Arithmetic;
use crate::case;

on_every_backend!(
    the_kept_share_is_what_was_asked_for_and_the_rest_is_scaled,
    near_elements_are_dropped_independently,
    masks_differ_by_seed_epoch_step_and_layer_and_by_nothing_else,
    the_mask_does_not_depend_on_the_backend,
    backward_has_the_mask_of_forward,
    nothing_is_dropped_in_inference_or_with_probability_0,
    a_dropout_that_drops_nothing_counts_as_a_layer,
);

const LEN: usize = 100_003;

/// The outputs of `count` dropouts on one tape. Each input is all ones.
fn masks<B: Backend>(backend: &B, mode: Mode, probability: f64, count: usize) -> Vec<Vec<f64>> {
    let mut tape = Tape::new(backend, mode);
    let x = case::variable(&mut tape, Shape::vector(LEN), &vec![1.0; LEN]);
    let mut drop = |_| {
        let y = tape.dropout(&x, probability).unwrap();
        case::download(backend, y.shape(), y.data())
    };
    (0..count).map(&mut drop).collect()
}

fn mask<B: Backend>(backend: &B, seed: u64, epoch: u32, step: u32) -> Vec<f64> {
    masks(backend, Mode::Training { seed, epoch, step }, 0.5, 1).remove(0)
}

fn the_kept_share_is_what_was_asked_for_and_the_rest_is_scaled<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for probability in [0.01, 0.1, 0.5, 0.9, 0.99] {
        for seed in 0..4 {
            let y = &masks(backend, Mode::Training { seed, epoch: 0, step: 0 }, probability, 1)[0];
            let kept = y.iter().filter(|&&v| v != 0.0).count() as f64;
            let sigma = (LEN as f64 * probability * (1.0 - probability)).sqrt();
            let off = kept - LEN as f64 * (1.0 - probability);
            assert!(off.abs() <= 5.0 * sigma, "p = {probability}: {kept} of {LEN} kept, {} sigma off", off / sigma);
            let scale = arithmetic.stored(1.0 / (1.0 - probability));
            assert!(y.iter().all(|&v| v == 0.0 || v == scale), "p = {probability}: not scaled by {scale}");
        }
    }
}

/// Whether an element is dropped does not depend on elements near it. Correlation between neighbours, or between
/// elements a vector's length apart, would drop whole features.
fn near_elements_are_dropped_independently<B: Backend>(backend: &B, _: Arithmetic) {
    let y = mask(backend, 3, 1, 4);
    for distance in [1, 2, 3, 4, 8, 16, 32, 96, 256] {
        let pairs = LEN - distance;
        let equal = (0..pairs).filter(|&i| y[i] == y[i + distance]).count() as f64;
        let off = (equal - pairs as f64 / 2.0) / (pairs as f64 / 4.0).sqrt();
        assert!(off.abs() <= 5.0, "elements {distance} apart agree {off} sigma more often than by chance");
    }
}

fn masks_differ_by_seed_epoch_step_and_layer_and_by_nothing_else<B: Backend>(backend: &B, _: Arithmetic) {
    let base = mask(backend, 1, 2, 3);
    assert_eq!(base, mask(backend, 1, 2, 3));
    let layers = masks(backend, Mode::Training { seed: 1, epoch: 2, step: 3 }, 0.5, 3);
    assert_eq!(base, layers[0]);
    let others = [(2, 2, 3), (1 << 32 | 1, 2, 3), (1, 3, 3), (1, 2, 4)];
    let others = others.map(|(seed, epoch, step)| mask(backend, seed, epoch, step));
    let others: Vec<&Vec<f64>> = others.iter().chain(&layers[1..]).collect();
    for (n, other) in others.iter().enumerate() {
        // Unrelated masks agree on half of their elements.
        let equal = base.iter().zip(*other).filter(|(a, b)| a == b).count() as f64;
        let off = (equal - LEN as f64 / 2.0) / (LEN as f64 / 4.0).sqrt();
        assert!(off.abs() <= 5.0, "mask {n} agrees with the first one on {equal} of {LEN} elements");
    }
    assert_ne!(layers[1], layers[2]);
}

fn the_mask_does_not_depend_on_the_backend<B: Backend>(backend: &B, _: Arithmetic) {
    let mode = Mode::Training { seed: 5, epoch: 6, step: 7 };
    assert_eq!(masks(backend, mode, 0.5, 2), masks(&Cpu::<f64>::new(), mode, 0.5, 2));
}

fn backward_has_the_mask_of_forward<B: Backend>(backend: &B, _: Arithmetic) {
    for layer in 0..2 {
        let mut tape = Tape::new(backend, case::TRAINING);
        let x = case::variable(&mut tape, Shape::vector(LEN), &vec![1.0; LEN]);
        let ys = [tape.dropout(&x, 0.25).unwrap(), tape.dropout(&x, 0.25).unwrap()];
        let values = case::download(backend, Shape::vector(LEN), ys[layer].data());
        let seed = case::upload(backend, Shape::vector(LEN), &vec![1.0; LEN]);
        let grads = tape.backward_from(&ys[layer], seed).unwrap();
        let gradient = case::download(backend, Shape::vector(LEN), grads.of(&x).unwrap());
        assert_eq!(gradient, values, "dropout {layer} of the tape");
    }
}

fn nothing_is_dropped_in_inference_or_with_probability_0<B: Backend>(backend: &B, _: Arithmetic) {
    assert_eq!(masks(backend, Mode::Inference, 0.9, 2), vec![vec![1.0; LEN]; 2]);
    assert_eq!(masks(backend, case::TRAINING, 0.0, 1), vec![vec![1.0; LEN]]);
}

/// Dropout with probability 0 still counts as a layer. Otherwise switching one layer off would change the masks of all
/// later ones.
fn a_dropout_that_drops_nothing_counts_as_a_layer<B: Backend>(backend: &B, _: Arithmetic) {
    let second = |first: f64| {
        let mut tape = Tape::new(backend, case::TRAINING);
        let x = case::variable(&mut tape, Shape::vector(LEN), &vec![1.0; LEN]);
        tape.dropout(&x, first).unwrap();
        let y = tape.dropout(&x, 0.5).unwrap();
        case::download(backend, y.shape(), y.data())
    };
    assert_eq!(second(0.0), second(0.7));
}

#[test]
fn impossible_probabilities_are_refused_in_every_mode() {
    let backend = Cpu::<f32>::new();
    for mode in [case::TRAINING, Mode::Inference] {
        let mut tape = Tape::new(&backend, mode);
        let x = case::variable(&mut tape, Shape::vector(2), &[1.0, 2.0]);
        for probability in [1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
            let error = tape.dropout(&x, probability).err().expect("an error").to_string();
            assert_eq!(error, format!("dropout: probability {probability} is not in [0, 1)"));
        }
    }
}

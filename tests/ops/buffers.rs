//! Buffers return the uploaded numbers: an activation rounded as the backend stores it, a parameter bit for bit.

use mlpconv::device::{Buffer, Download, Real, Role};
use mlpconv::shape::Window;
use mlpconv::{Backend, Shape, Tape};

use crate::arithmetic::Arithmetic;
use crate::case::{self, TRAINING};
use crate::draw;

on_every_backend!(
    numbers_come_back,
    bytes_come_back,
    a_later_download_has_the_content_at_the_call,
    fresh_numbers_are_nan,
    a_parameter_multiplies_as_it_was_last_written
);

const LENS: [usize; 6] = [1, 2, 7, 256, 257, 70_001];

/// Uploaded to a GPU in five pieces, or in three of bf16.
const LONG: usize = (1 << 20) + 1;

/// Numbers to upload, awkward ones first: ties of bf16 and TF32, signed zero, infinity, NaN, and magnitudes near the ends of the
/// range.
fn numbers(len: usize) -> Vec<f64> {
    let awkward = [
        1.0 + 1.0 / 256.0,
        1.0 + 1.0 / 2048.0,
        -1.0 - 3.0 / 2048.0,
        1.0 + 3.0 / 256.0,
        -0.0,
        f64::INFINITY,
        f64::NAN,
        -3e38,
        1e-30,
        255.5,
    ];
    let drawn = draw::spread(1, len);
    awkward.into_iter().chain(drawn).take(len).map(|value| f64::from(value as f32)).collect()
}

fn expect<B: Backend>(backend: &B, buf: &B::Buf, want: impl Iterator<Item = f64>, what: &str) {
    let got: Vec<f64> = backend.download(buf).unwrap().into_iter().map(Real::to_f64).collect();
    let want: Vec<f64> = want.collect();
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(same, "{what}: element {i} of {} is {got}, not {want}", buf.len());
    }
}

fn numbers_come_back<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for len in LENS.into_iter().chain([LONG]) {
        let values = numbers(len);
        for role in [Role::Activation, Role::Parameter] {
            let stored = |value: f64| if role == Role::Activation { arithmetic.stored(value) } else { value };
            let mut buf = backend.upload(role, &case::scalars(&values)).unwrap();
            assert_eq!(buf.len(), len);
            expect(backend, &buf, values.iter().map(|&v| stored(v)), &format!("uploaded, {role:?}"));
            let reversed: Vec<f64> = values.iter().rev().copied().collect();
            backend.write(&mut buf, &case::scalars(&reversed)).unwrap();
            expect(backend, &buf, reversed.iter().map(|&v| stored(v)), &format!("written, {role:?}"));
            for value in [0.0, 1.0 + 3.0 / 256.0, f64::NAN] {
                backend.fill(&mut buf, B::Scalar::from_f64(value)).unwrap();
                expect(backend, &buf, values.iter().map(|_| stored(value)), &format!("filled, {role:?}"));
            }
            assert!(backend.write(&mut buf, &case::scalars(&vec![0.0; len + 1])).is_err());
        }
    }
}

/// A later download has the buffer's content at the time of the call. Several may be under way, and later changes of
/// the buffer do not affect them.
fn a_later_download_has_the_content_at_the_call<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for role in [Role::Activation, Role::Parameter] {
        let stored = |value: f64| if role == Role::Activation { arithmetic.stored(value) } else { value };
        let mut buf = backend.upload(role, &case::scalars(&numbers(257))).unwrap();
        let first = backend.download_later(&buf).unwrap();
        backend.fill(&mut buf, B::Scalar::from_f64(2.0)).unwrap();
        let second = backend.download_later(&buf).unwrap();
        // A download that is dropped without waiting.
        drop(backend.download_later(&buf).unwrap());
        backend.fill(&mut buf, B::Scalar::from_f64(3.0)).unwrap();
        drop(buf);
        backend.synchronize().unwrap();
        assert!(first.is_done().unwrap() && second.is_done().unwrap());
        assert!(second.wait().unwrap().into_iter().all(|value| value.to_f64() == 2.0));
        let want: Vec<B::Scalar> = case::scalars(&numbers(257).into_iter().map(stored).collect::<Vec<_>>());
        let again = backend.upload(role, &want).unwrap();
        let values = first.wait().unwrap().into_iter().map(Real::to_f64);
        expect(backend, &again, values, "downloaded later");
    }
    let none = backend.upload(Role::Parameter, &[]).unwrap();
    assert!(backend.download_later(&none).unwrap().wait().unwrap().is_empty());
}

fn bytes_come_back<B: Backend>(backend: &B, _: Arithmetic) {
    for len in LENS {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        let mut buf = backend.upload_bytes(&bytes).unwrap();
        assert_eq!((buf.len(), backend.download_bytes(&buf).unwrap()), (len, bytes.clone()));
        let reversed: Vec<u8> = bytes.into_iter().rev().collect();
        backend.write_bytes(&mut buf, &reversed).unwrap();
        assert_eq!(backend.download_bytes(&buf).unwrap(), reversed);
    }
}

/// Fresh numbers are NaN in builds with debug assertions, so an element that a kernel does not write is noticed.
fn fresh_numbers_are_nan<B: Backend>(backend: &B, _: Arithmetic) {
    if cfg!(debug_assertions) {
        for role in [Role::Activation, Role::Parameter] {
            // The first fresh buffer reuses memory; the second may not.
            drop(backend.upload(role, &case::scalars(&vec![1.0; 3001])).unwrap());
            let fresh = [3001, 3001].map(|len| backend.alloc(role, len).unwrap());
            for buf in &fresh {
                expect(backend, buf, std::iter::repeat_n(f64::NAN, 3001), &format!("fresh, {role:?}"));
            }
        }
    }
}

/// A backend may keep two copies of a parameter, one to update and one to multiply with. It keeps both up to date.
fn a_parameter_multiplies_as_it_was_last_written<B: Backend>(backend: &B, _: Arithmetic) {
    use mlpconv::ops::sgd::{Item, SgdStep};
    let (x, w) = (Shape::image(2, 7, 3, 3), Shape::weight(5, 7, 1, 1));
    let parameter = |values: &[f64]| case::upload_as(Role::Parameter, backend, w, values);
    let output = |weights: B::Buf| {
        let mut tape = Tape::new(backend, TRAINING);
        let x = case::variable(&mut tape, x, &draw::spread(2, x.len()));
        let w = tape.variable(weights, w, Role::Parameter).unwrap();
        let y = tape.conv2d(&x, case::affine(&w, None, false), Window::default()).unwrap();
        backend.download(y.data()).unwrap()
    };
    let drawn = draw::spread(3, w.len());
    let mut written = parameter(&vec![0.0; w.len()]);
    let memory = backend.download(&parameter(&drawn)).unwrap();
    backend.write(&mut written, &memory).unwrap();
    assert_eq!(output(written), output(parameter(&drawn)), "written");

    let mut filled = parameter(&drawn);
    backend.fill(&mut filled, B::Scalar::from_f64(0.7)).unwrap();
    assert_eq!(output(filled), output(parameter(&vec![0.7; w.len()])), "filled");

    let mut updated = parameter(&drawn);
    let [rate, zero, one] = [0.1, 0.0, 1.0].map(B::Scalar::from_f64);
    let step = SgdStep { rate, momentum: zero, nesterov: false, weight_decay: zero };
    let grad = parameter(&draw::spread(4, w.len()));
    let item = Item { param: &mut updated, grad: &grad, velocity: None, rate_multiplier: one, decay_multiplier: one };
    backend.sgd(&step, &mut [item], None).unwrap();
    let values = case::download(backend, w, &updated);
    assert_ne!(values, drawn);
    assert_eq!(output(updated), output(parameter(&values)), "updated");

    // A parameter that is allocated and then written.
    let mut fresh = backend.alloc(Role::Parameter, w.len()).unwrap();
    backend.write(&mut fresh, &memory).unwrap();
    assert_eq!(output(fresh), output(parameter(&drawn)), "allocated and written");
}

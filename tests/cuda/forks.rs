//! Work beside that of a device's stream.

use std::env;
use std::process::Command;

use mlpconv::device::{Real, Role};
use mlpconv::ops::Affine;
use mlpconv::shape::Window;
use mlpconv::{Backend, Cpu, Cuda, Device, Mode, Param, Precision, Shape, Tape};

use crate::gpu::{self, gpu};
use crate::{distance, wide};

/// Blocks that are given back while there is work beside that of the device's stream may be in use by it, and are lent again after
/// it.
#[test]
fn memory_that_is_given_back_beside_other_work_waits_for_it() {
    let Some(cuda) = gpu(Precision::Fp32) else { return };
    let filled = |cuda: &Cuda, value| {
        let mut buf = cuda.alloc(Role::Parameter, 77_777).unwrap();
        cuda.fill(&mut buf, value).unwrap();
        buf
    };
    let fork = cuda.fork().unwrap();
    let before = cuda.memory().in_use;
    let beside = filled(&fork, 1.0);
    let block = cuda.memory().in_use - before;
    drop(beside);
    assert_eq!(cuda.memory().in_use, before + block);
    let own = filled(&cuda, 2.0);
    let with_both = cuda.memory().in_use;
    cuda.wait_for(&fork).unwrap();
    assert_eq!(cuda.memory().in_use, with_both - block);
    assert!(cuda.download(&own).unwrap().iter().all(|value| *value == 2.0));
    let reserved = cuda.memory().reserved;
    drop(filled(&cuda, 3.0));
    assert_eq!(cuda.memory().reserved, reserved);
}

/// The gradient of a convolution whose output is another one's weights is a sum that its device has kept in parts. wgrad and dgrad,
/// one beside the other, both read it.
#[test]
fn a_gradient_in_parts_is_summed_before_two_kernels_read_it() {
    fn gradients<B: Backend>(backend: &B) -> [Vec<f64>; 2] {
        let drawn = |seed: u32, shape: Shape| {
            let noise = |i: usize| (i as u32 + seed).wrapping_mul(2_654_435_761) >> 25;
            (0..shape.len()).map(|i| B::Scalar::from_f64(f64::from(noise(i)) / 64.0 - 1.0)).collect::<Vec<_>>()
        };
        let mut tape = Tape::new(backend, Mode::Training { seed: 1, epoch: 0, step: 0 });
        let [inner, outer] = [Shape::image(8, 4, 3, 3), Shape::image(2, 8, 60, 60)];
        let x = tape.variable(backend.upload(Role::Activation, &drawn(1, inner)).unwrap(), inner, Role::Activation);
        let x = x.unwrap();
        let param = Param::new(backend, Shape::weight(8, 4, 1, 1), &drawn(2, Shape::weight(8, 4, 1, 1))).unwrap();
        let w = tape.param(&param);
        let w = tape.conv2d(&x, Affine { w: &w, bias: None, relu: false }, Window { stride: 1, pad: 0 }).unwrap();
        let images = tape.constant(backend.upload(Role::Activation, &drawn(3, outer)).unwrap(), outer).unwrap();
        let y = tape.conv2d(&images, Affine { w: &w, bias: None, relu: false }, Window { stride: 1, pad: 1 }).unwrap();
        let seed = backend.upload(Role::Activation, &drawn(4, y.shape())).unwrap();
        let grads = tape.backward_from(&y, seed).unwrap();
        [grads.of(&x).unwrap(), grads.of_param(&param).unwrap()].map(|grad| wide(backend.download(grad).unwrap()))
    }
    let Some(cuda) = gpu(Precision::Fp32) else { return };
    for (got, want) in gradients(&*cuda).iter().zip(gradients(&Cpu::<f64>::new())) {
        assert!(distance(got, &want) < 1e-5, "{got:?}, not {want:?}");
    }
}

const UNORDERED: &str = "forks::what_runs_beside_other_work_is_ordered_by_waiting_for_it";

/// The virtual GPU traps what nothing orders, which is why the other tests prove that gradients beside one another are waited for.
/// Its trap ends a process of its own.
#[test]
fn what_runs_beside_other_work_is_ordered_by_waiting_for_it() {
    const WAITS: &str = "MLPCONV_TEST_WAITS";
    if gpu::real() {
        return;
    }
    if let Some(waits) = env::var_os(WAITS) {
        let Some(cuda) = gpu(Precision::Fp32) else { return };
        let [y, mut buf] = [0.0, 1.0].map(|value| cuda.upload(Role::Parameter, &[value; 1000]).unwrap());
        let fork = cuda.fork().unwrap();
        fork.relu_mask(&y, &mut buf).unwrap();
        if waits == "yes" {
            cuda.wait_for(&fork).unwrap();
        }
        assert_eq!(cuda.download(&buf).unwrap(), [0.0; 1000]);
        return;
    }
    if gpu(Precision::Fp32).is_none() {
        return;
    }
    for waits in ["yes", "no"] {
        let mut child = Command::new(env::current_exe().unwrap());
        let output = child.args(["--exact", UNORDERED, "--nocapture"]).env(WAITS, waits).output().unwrap();
        let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat();
        assert_eq!(output.status.success(), waits == "yes", "{said}");
        assert!(waits == "yes" || said.contains("virtual-gpu: race between streams"), "{said}");
    }
}

//! What a device lends, records and counts on. In the steady state of training it allocates nothing.

use mlpconv::device::cuda::Occupancy;
use mlpconv::device::{Role, StepScalars};
use mlpconv::nn::{Nin, Summary};
use mlpconv::optim::{OptimizerKind, Sgd};
use mlpconv::train::{Preset, Trainer};
use mlpconv::{Cuda, Device, Precision, Shape};

use crate::gpu::gpu;
use crate::images;

/// A device of the test's own, so that buffers of other tests are not counted.
fn own(precision: Precision) -> Option<Cuda> {
    drop(gpu(precision)?);
    Some(Cuda::new(0, precision).unwrap())
}

/// By shared memory: the registers, a compiler divides for as many blocks as a kernel is declared with. On a card, by both.
#[test]
fn as_many_blocks_of_a_kernel_fit_as_launches_count_on() {
    for precision in Precision::ALL {
        let Some(gpu) = gpu(precision) else { return };
        let kernels = gpu.occupancy().unwrap();
        assert!(kernels.iter().any(|kernel| kernel.kernel == "conv2d_fprop_128x128"), "{precision}");
        for Occupancy { kernel, fit, assumed } in kernels {
            assert!(fit >= assumed, "{precision}: {fit} blocks of {kernel} fit, {assumed} are counted on");
        }
    }
}

#[test]
fn an_upload_is_not_recorded() {
    let Some(cuda) = own(Precision::Tf32) else { return };
    let scalars = StepScalars::default();
    let refused = cuda.record(&scalars, &mut || cuda.upload(Role::Activation, &[1.0; 8]).map(drop)).err().unwrap();
    assert!(refused.to_string().contains("upload before the recording begins"), "{refused}");
    // Nothing of it is left: as many uploads as there are pieces, and more.
    for value in [1.0, 2.0, 3.0, 4.0, 5.0] {
        let buf = cuda.upload(Role::Activation, &[value; 8]).unwrap();
        assert_eq!(cuda.download(&buf).unwrap(), [value; 8]);
    }
}

#[test]
fn a_repeated_step_allocates_nothing() {
    for precision in Precision::ALL {
        let Some(cuda) = own(precision) else { return };
        let net = Nin::small(&cuda, 1).unwrap();
        let mut trainer = Trainer::new(&cuda, net, Sgd::new(&cuda).with_momentum(0.9), 1).unwrap();
        let shape = Shape::image(4, 1, 28, 28);
        let mut step = || trainer.step(&images(shape), shape, &[1, 2, 3, 4], 0.01).unwrap();
        // The optimiser's tensors exist from the second step on. In a build without debug assertions they may have taken
        // blocks that the first step left; then the third asks for others.
        let settling = if cfg!(debug_assertions) { 2 } else { 3 };
        (0..settling).for_each(|_| step());
        let settled = cuda.memory();
        step();
        step();
        assert_eq!(cuda.memory(), settled, "{precision}");
    }
}

/// The memory that `mlpconv summary` predicts, against the peak of a step's buffers.
#[test]
fn predicted_memory_is_what_a_step_takes() {
    // Every optimiser at one precision: its tensors are fp32 at all of them.
    let kinds = OptimizerKind::ALL.map(|kind| (kind, Precision::Bf16));
    let others = [Precision::Fp32, Precision::Tf32].map(|precision| (OptimizerKind::Sgd, precision));
    for (kind, precision) in kinds.into_iter().chain(others) {
        let Some(cuda) = own(precision) else { return };
        let (config, batch) = (Preset::Small.config_with(kind), 8);
        let net = Preset::Small.net(&cuda, 1).unwrap();
        let shape = Shape::image(batch, 1, 28, 28);
        let summary = Summary::new(&net, shape).unwrap();
        let mut trainer = Trainer::new(&cuda, net, config.optimizer(&cuda), 1).unwrap();
        // The optimiser's tensors exist from the second step on.
        for _ in 0..2 {
            trainer.step(&images(shape), shape, &vec![3; batch], 0.001).unwrap();
        }
        let measured = cuda.memory().peak as f64;
        let predicted = summary.training_bytes(precision, trainer.optimizer.tensor_names().len()) as f64;
        println!("{kind}, {precision}: predicted {predicted:.3e}, measured {measured:.3e}");
        // The prediction includes pixels that no pool reads, which are not computed. It leaves out the partial sums of
        // a weight's gradient.
        assert!(
            predicted <= measured * 1.15,
            "{kind}, {precision}: predicted {predicted:.3e}, measured {measured:.3e}"
        );
        assert!(
            measured <= 2.0 * predicted + 4e6,
            "{kind}, {precision}: predicted {predicted:.3e}, measured {measured:.3e}"
        );
    }
}

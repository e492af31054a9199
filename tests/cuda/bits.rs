//! The same bits on every run, replayed or not, from resident data or the host's.

use std::sync::Arc;

use mlpconv::data::{Dataset, Flip};
use mlpconv::device::Role;
use mlpconv::nn::{Module, Nin};
use mlpconv::ops::adamw::{self, AdamWStep};
use mlpconv::optim::{AdamW, Average};
use mlpconv::train::{Position, Preset, Resident, TrainConfig};
use mlpconv::{Backend, Cpu, Cuda, Device, Precision, Shape};

use crate::gpu::gpu;
use crate::small::{RATE, sgd, train, train_resident};

/// Steps on resident data have the bits of steps on batches from the host, of another run. The device gathers and normalises
/// the images, the order and the rate change with the epoch, there is dropout, and from the third run on a step replays a
/// recorded graph.
#[test]
fn replayed_steps_on_resident_data_have_the_bits_of_steps_from_the_host() {
    for precision in Precision::ALL {
        let Some(cuda) = gpu(precision) else { return };
        assert!(train_resident(&*cuda, sgd(&*cuda), 5) == train(&*cuda, sgd(&*cuda), 5), "{precision}");
    }
}

/// The same for AdamW: its corrections differ from step to step as well, and a replay counts as an update.
#[test]
fn replayed_steps_of_adamw_have_the_bits_of_steps_from_the_host() {
    for precision in Precision::ALL {
        let Some(cuda) = gpu(precision) else { return };
        let adamw = || AdamW::new(&*cuda);
        assert!(train_resident(&*cuda, adamw(), 5) == train(&*cuda, adamw(), 5), "{precision}");
    }
}

/// From the same gradients, the CPU's update and the kernel's have the same bits.
#[test]
fn adamw_has_the_same_bits_on_every_device() {
    let updated = |values: &mut dyn FnMut(&AdamWStep<f32>) -> [Vec<f32>; 3]| {
        let steps = 1..4;
        steps.map(|t| values(&AdamWStep::new(0.003, [0.9, 0.999], 1e-8, 0.02, t))).collect::<Vec<_>>()
    };
    let numbers = |seed: u32| -> Vec<f32> {
        let noise = |i: u32| (i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) as f32 / u32::MAX as f32 - 0.5;
        (0..1031).map(noise).collect()
    };
    fn run<B: Backend<Scalar = f32>>(
        backend: &B,
        numbers: &dyn Fn(u32) -> Vec<f32>,
    ) -> impl FnMut(&AdamWStep<f32>) -> [Vec<f32>; 3] {
        let zeros = vec![0.0; numbers(0).len()];
        let mut kept = [&numbers(1), &zeros, &zeros].map(|values| backend.upload(Role::Parameter, values).unwrap());
        let grad = backend.upload(Role::Parameter, &numbers(2)).unwrap();
        let backend = backend.clone();
        move |step| {
            let [param, exp_avg, exp_avg_sq] = &mut kept;
            let mut item =
                adamw::Item { param, grad: &grad, exp_avg, exp_avg_sq, rate_multiplier: 0.7, decay_multiplier: 0.9 };
            backend.adamw(step, std::slice::from_mut(&mut item), None).unwrap();
            [0, 1, 2].map(|i| backend.download(&kept[i]).unwrap())
        }
    }
    let want = updated(&mut run(&Cpu::<f32>::new(), &numbers));
    for precision in Precision::ALL {
        let Some(cuda) = gpu(precision) else { return };
        assert!(updated(&mut run(&*cuda, &numbers)) == want, "{precision}");
    }
}

/// The parameters, and their averages, after five steps of a recipe that resizes and changes images, smooths labels, lets
/// weights alone decay, multiplies rates and averages: two batches an epoch, from the device, where the last steps are
/// replays, or from the host.
fn train_by_a_recipe(cuda: &Cuda, channels: usize, resident: bool) -> Vec<Vec<f32>> {
    let values = (0..8 * 20 * 24 * channels as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let names = (0..4).map(|class| class.to_string()).collect();
    let labels = (0..8).map(|i| i % 4).collect();
    let dataset = Dataset::with_channels(values, labels, [20, 24, channels], names).unwrap();
    let config = TrainConfig {
        batch_size: 4,
        epochs: 3,
        seed: 5,
        fliplr: Flip::Alternate,
        translate: 3,
        erasing: 0.7,
        erasing_rest: 1,
        normalize: "0.3:0.4".parse().unwrap(),
        label_smoothing: 0.1,
        weight_decay: 0.01,
        decay_weights_only: true,
        rate_multipliers: vec!["*.bias=2".parse().unwrap()],
        average: Average::Exponential(0.6),
        ..Preset::Small.config()
    };
    let loader = config.train_loader(Arc::new(dataset)).unwrap();
    let mut trainer = config.trainer(cuda, Nin::small_for(cuda, 5, channels, 4).unwrap()).unwrap();
    let data = Resident::new(cuda, loader.clone()).unwrap();
    for (epoch, steps) in [(0, 2), (1, 2), (2, 1)] {
        trainer.position = Position { epoch, step: 0 };
        for batch in loader.epoch(epoch).unwrap().take(steps) {
            match resident {
                true => assert_eq!(trainer.step_resident(&data, RATE).unwrap(), 4),
                false => trainer.step(&batch.images, Shape::image(4, channels, 28, 28), &batch.labels, RATE).unwrap(),
            }
        }
    }
    let params = trainer.net.params();
    let averages = params.iter().map(|(_, param)| trainer.optimizer.tensor("average", param).unwrap());
    let values: Vec<_> = params.iter().map(|(_, param)| param.data()).chain(averages).collect();
    values.into_iter().map(|values| cuda.download(values).unwrap()).collect()
}

#[test]
fn a_recipe_has_the_same_bits_replayed_and_from_the_host() {
    for (precision, channels) in Precision::ALL.into_iter().flat_map(|precision| [(precision, 1), (precision, 3)]) {
        let Some(cuda) = gpu(precision) else { return };
        let host = train_by_a_recipe(&cuda, channels, false);
        assert!(train_by_a_recipe(&cuda, channels, true) == host, "{precision}, {channels} channels");
        let (params, averages) = host.split_at(host.len() / 2);
        assert!(params.iter().zip(averages).all(|(param, average)| param != average), "the average lags behind");
    }
}

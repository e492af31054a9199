//! Steps in shards on one GPU: recorded and replayed they have the bits of steps that are run call by call.

use mlpconv::nn::{Module, Nin};
use mlpconv::ops::shards::Division;
use mlpconv::optim::Sgd;
use mlpconv::train::{Resident, TrainConfig, Trainer};
use mlpconv::{Cuda, Device, Precision};

use crate::gpu::gpu;
use crate::team::{config, images};

/// The bits of the weights, and the running loss, after two epochs of three steps.
fn train(cuda: &Cuda, shards: usize, record: bool) -> (Vec<u32>, f64) {
    let config = TrainConfig { batch_size: 5, shards, resize: 67, ..config() };
    let net = Nin::d2l_with_channels(cuda, 1, [4, 6, 8], 0.5).unwrap();
    let mut trainer = Trainer::new(cuda, net, Sgd::new(cuda).with_momentum(0.9), 1).unwrap();
    trainer.divide(&Division { shards, ..Division::default() }, None).unwrap();
    trainer.record = record;
    let data = Resident::new(cuda, config.train_loader(images(12)).unwrap()).unwrap();
    for epoch in 0..2 {
        (trainer.position.epoch, trainer.position.step) = (epoch, 0);
        while trainer.step_resident(&data, 0.05).unwrap() > 0 {}
    }
    let download = |buf| cuda.download(buf).unwrap().into_iter().map(f32::to_bits);
    (
        trainer.net.params().into_iter().flat_map(|(_, param)| download(param.data())).collect(),
        trainer.reading().unwrap().loss,
    )
}

#[test]
fn recorded_steps_in_shards_have_the_same_bits() {
    let Some(gpu) = gpu(Precision::Fp32) else { return };
    let [plain, recorded] = [false, true].map(|record| train(&gpu, 3, record));
    assert!(plain == recorded);
    assert!(recorded.1.is_finite());
    // Shards draw dropout masks of their own.
    assert!(train(&gpu, 1, true).0 != plain.0);
}

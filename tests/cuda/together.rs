//! Several trainers and threads on one device: each has the bits that it has alone.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use mlpconv::nn::{Dropout, Layer, Module, Nin, predict};
use mlpconv::train::{Resident, Trainer};
use mlpconv::{Cuda, Param, Precision, Shape};

use crate::gpu::gpu;
use crate::small::{RATE, loader, sgd};
use crate::{images, parameters};

type Small<'a> = (Trainer<Cuda, Nin<Cuda>>, &'a Resident<Cuda>);

fn trainer<'a>(cuda: &Cuda, data: &'a Resident<Cuda>, seed: u64) -> Small<'a> {
    (Trainer::new(cuda, Nin::small(cuda, seed).unwrap(), sgd(cuda), seed).unwrap(), data)
}

fn step((trainer, data): &mut Small<'_>) {
    trainer.position.step = 0;
    assert!(trainer.step_resident(data, RATE).unwrap() > 0);
}

fn weights(cuda: &Cuda, (trainer, _): &Small<'_>) -> Vec<Vec<f32>> {
    parameters(cuda, &trainer.net)
}

/// The weights after four steps of a trainer that is alone.
fn alone(cuda: &Cuda, seed: u64) -> Vec<Vec<f32>> {
    let data = Resident::new(cuda, loader()).unwrap();
    let mut own = trainer(cuda, &data, seed);
    (0..4).for_each(|_| step(&mut own));
    weights(cuda, &own)
}

/// The second one's velocities are made when the first one's step is replayed already, from a graph's memory.
#[test]
fn two_trainers_take_turns() {
    let Some(cuda) = gpu(Precision::Bf16) else { return };
    let data = Resident::new(&*cuda, loader()).unwrap();
    let (mut first, mut second) = (trainer(&cuda, &data, 1), trainer(&cuda, &data, 2));
    (0..3).for_each(|_| step(&mut first));
    step(&mut second);
    step(&mut first);
    (0..3).for_each(|_| step(&mut second));
    assert!(weights(&cuda, &first) == alone(&cuda, 1));
    assert!(weights(&cuda, &second) == alone(&cuda, 2));
}

/// Says that it is done, even if a test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// One thread records and replays steps, while another makes networks, predicts with them, and trains one without recordings.
#[test]
fn other_threads_work_meanwhile() {
    let Some(cuda) = gpu(Precision::Bf16) else { return };
    let (shape, done) = (Shape::image(2, 1, 28, 28), AtomicBool::new(false));
    let x = images(shape);
    let logits = |cuda: &Cuda| predict(cuda, &Nin::small(cuda, 9).unwrap(), &x, shape).unwrap();
    let want = logits(&cuda);
    let eager = |data: &Resident<Cuda>, on: &dyn Fn(usize) -> bool| {
        let mut own = trainer(&cuda, data, 2);
        own.0.record = false;
        let mut steps = 0;
        while on(steps) {
            step(&mut own);
            steps += 1;
        }
        (steps, weights(&cuda, &own))
    };
    let data = Resident::new(&*cuda, loader()).unwrap();
    let (recorded, (steps, beside)) = thread::scope(|scope| {
        let beside = scope.spawn(|| {
            eager(&data, &|steps| {
                assert!(logits(&cuda) == want, "prediction {steps}");
                !done.load(SeqCst) || steps == 0
            })
        });
        let recorded = {
            let _done = Done(&done);
            alone(&cuda, 1)
        };
        (recorded, beside.join().unwrap())
    });
    assert!(recorded == alone(&cuda, 1));
    assert!(beside == eager(&data, &|done| done < steps).1, "{steps} steps");
}

/// A network whose dropout is a field of its own.
struct Changing {
    net: Nin<Cuda>,
    dropout: Dropout,
}

impl Module<Cuda> for Changing {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, Cuda>>) {
        Module::<Cuda>::layers(&self.dropout, path, layers);
        Module::layers(&self.net, path, layers);
    }

    fn params(&self) -> Vec<(String, &Param<Cuda>)> {
        self.net.params()
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<Cuda>)> {
        self.net.params_mut()
    }
}

/// A recorded step is not replayed once a setting of a layer is another one.
#[test]
fn a_changed_setting_is_seen() {
    let Some(cuda) = gpu(Precision::Bf16) else { return };
    let data = Resident::new(&*cuda, loader()).unwrap();
    let trained = |record: bool| {
        let net = Changing { net: Nin::small(&*cuda, 5).unwrap(), dropout: Dropout(0.0) };
        let mut trainer = Trainer::new(&*cuda, net, sgd(&*cuda), 5).unwrap();
        trainer.record = record;
        for dropout in [0.0, 0.0, 0.0, 0.5] {
            trainer.net.dropout = Dropout(dropout);
            trainer.position.step = 0;
            trainer.step_resident(&data, RATE).unwrap();
        }
        parameters(&*cuda, &trainer.net)
    };
    assert!(trained(true) == trained(false));
}

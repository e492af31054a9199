//! Damaged files, full disks, and readers that go away.

use mlpconv::device::Device;
use mlpconv::nn::Module as _;
use mlpconv::train::{Change, Trainer};
use mlpconv::{Cpu, weights};

use super::*;

#[test]
fn divergence_is_named_with_its_remedies() {
    let Some(place) = Place::new() else { return };
    let options = "--preset small --lr 1000 --momentum 0.9 --schedule constant --train-limit 256 --test-limit 8";
    let said = place.train(&format!("{options} --batch-size 4 --epochs 1 --log-every 1 --out run"));
    said.bad(&["diverged", "epoch 1, step", "--lr", "momentum", "--schedule cosine:1"]);
    // Weights that are no numbers are not saved, so the run can be begun again, with another rate.
    place.train("--resume run --lr 0.001 --epochs 1").good();
}

/// A run whose last ReLU lets nothing through: its bias is negative and its weights are zero.
#[test]
fn a_dead_network_is_called_dead() {
    let Some(place) = Place::new() else { return };
    // 96 pixels are enough for d2l's network, and take a seventh of the time of 224.
    let options = "--preset d2l --resize 96 --train-limit 8 --test-limit 8 --batch-size 8";
    place.train(&format!("{options} --epochs 2 --out run")).good();

    let mut run = Run::resume(place.path("run")).unwrap();
    run.change(&Change { epochs: Some(3), ..Change::default() }).unwrap();
    let backend = Cpu::<f32>::new();
    let net = run.config().preset.net(&backend, run.config().seed).unwrap();
    let mut trainer = Trainer::new(&backend, net, run.config().optimizer(&backend), run.config().seed).unwrap();
    run.restore(&mut trainer).unwrap();
    let params = trainer.net.params_mut();
    for ((_, param), value) in params.into_iter().rev().zip([-1.0, 0.0]) {
        param.set(&backend, &vec![value; param.shape().len()]).unwrap();
    }
    run.save(&trainer).unwrap();
    drop(run);

    let said = place.train("--resume run").good();
    let warning = said.stderr.lines().find(|line| line.starts_with("warning: the network is dead")).unwrap();
    for what in ["2.303", "ReLU", "--seed", "--lr", "--preset small"] {
        assert!(warning.contains(what), "{what:?} is not in: {warning}");
    }
    assert!(said.line("epoch 3/3: ").contains("loss 2.303"), "{}", said.stdout);
    // The network stayed dead: the weights have the same bits.
    let run = Run::open(place.path("run")).unwrap();
    let mut net = run.config().preset.net(&backend, 1).unwrap();
    weights::load(&backend, &mut net, run.weights()).unwrap();
    for ((name, after), (_, before)) in net.params().into_iter().zip(trainer.net.params()) {
        assert!(backend.download(after.data()).unwrap() == backend.download(before.data()).unwrap(), "{name}");
    }
}

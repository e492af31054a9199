//! Embedding is safe: bad arguments of the library are typed errors, and the library leaves the process alone.

#[cfg(target_os = "linux")]
mod quiet;
mod shared;
mod walk;

use mlpconv::nn::{Builder, Conv2d, Flatten, GlobalAvgPool, Init, Layer, Module, Sequential};
use mlpconv::optim::{AdamW, Optimizer, Sgd};
use mlpconv::train::Trainer;
use mlpconv::{Cpu, Error, Param, Result, Shape, weights};

use crate::promise::kept;

type Net = Sequential<Cpu<f32>>;

fn net(backend: &Cpu<f32>) -> Net {
    let mut build = Builder::new(backend, Init::He, 1);
    Sequential::new().push(build.conv2d(1, 3, 3, 1, 1).unwrap()).push(GlobalAvgPool).push(Flatten)
}

fn trainer(optimizer: impl FnOnce(&Cpu<f32>) -> Box<dyn Optimizer<Cpu<f32>>>) -> Trainer<Cpu<f32>, Net> {
    let backend = Cpu::new();
    Trainer::new(&backend, net(&backend), optimizer(&backend), 1).unwrap()
}

fn step(trainer: &mut Trainer<Cpu<f32>, Net>, rate: f64) -> Result<()> {
    trainer.step(&[0.5; 32], Shape::image(2, 1, 4, 4), &[0, 2], rate)
}

#[test]
fn layers_too_large_for_any_machine_are_errors() {
    let backend = Cpu::<f32>::new();
    let mut build = Builder::new(&backend, Init::Xavier, 1).with_bias(Init::FanIn);
    let values = [0, 1, 3, 1 << 40, usize::MAX];
    let mut tried = 0;
    for inputs in values {
        for outputs in values {
            for filter in values {
                let made = build.conv2d(inputs, outputs, filter, 1, usize::MAX);
                let small = [inputs, outputs, filter].iter().all(|&extent| (1..4).contains(&extent));
                assert_eq!(made.is_ok(), small, "{inputs}, {outputs}, {filter}");
                tried += 1;
            }
        }
    }
    kept(15, format_args!("{tried} layers of hostile extents: each made or refused"));
}

#[test]
fn rates_and_settings_out_of_range_are_errors_and_such_a_step_does_not_count() {
    let hostile = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0];
    let refused = |trainer: &mut Trainer<Cpu<f32>, Net>, rate| {
        let error = step(trainer, rate).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
        assert_eq!(trainer.reading().unwrap().samples, 0, "{error}");
        assert_eq!(trainer.reading().unwrap().loss, 0.0, "{error}");
        assert_eq!(trainer.position.step, 0);
    };
    // A rate of 0 is none of them: schedules end there, and only `fit` refuses to begin with it.
    for rate in [1e-50, 1e39].into_iter().chain(hostile) {
        refused(&mut trainer(|b| Sgd::new(b).into()), rate);
    }
    for value in hostile {
        refused(&mut trainer(|b| Sgd::new(b).with_momentum(value).into()), 0.1);
        refused(&mut trainer(|b| Sgd::new(b).with_weight_decay(value).into()), 0.1);
        refused(&mut trainer(|b| AdamW::new(b).with_betas([value, 0.9]).into()), 0.1);
        refused(&mut trainer(|b| AdamW::new(b).with_betas([0.9, value]).into()), 0.1);
        refused(&mut trainer(|b| AdamW::new(b).with_eps(value).into()), 0.1);
        refused(&mut trainer(|b| AdamW::new(b).with_weight_decay(value).into()), 0.1);
    }
    refused(&mut trainer(|b| Sgd::new(b).with_momentum(2.0).into()), 0.1);
    refused(&mut trainer(|b| AdamW::new(b).with_eps(0.0).into()), 0.1);
    let mut good = trainer(|b| Sgd::new(b).with_momentum(0.9).into());
    step(&mut good, 0.1).unwrap();
    let before = good.reading().unwrap();
    step(&mut good, f64::NAN).unwrap_err();
    assert_eq!((good.reading().unwrap(), before.samples), (before, 2));
    kept(15, "32 rates and settings out of their ranges: refused, not counted");
}

/// Lists its parameters for reading alone.
struct Forgetful(Conv2d<Cpu<f32>>);

impl Module<Cpu<f32>> for Forgetful {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, Cpu<f32>>>) {
        self.0.layers(path, layers);
    }

    fn params(&self) -> Vec<(String, &Param<Cpu<f32>>)> {
        self.0.params()
    }
}

#[test]
fn a_module_that_lists_its_parameters_once_is_an_error() {
    let backend = Cpu::<f32>::new();
    let conv = Builder::new(&backend, Init::He, 1).conv2d(1, 3, 3, 1, 1).unwrap();
    let mut net = Sequential::new().push(Forgetful(conv)).push(GlobalAvgPool).push(Flatten);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    weights::save(&backend, &net, &path).unwrap();
    let says = "params and params_mut of its modules differ at 0.weight";
    let error = weights::load(&backend, &mut net, &path).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
    let mut trainer = Trainer::new(&backend, net, Sgd::new(&backend), 1).unwrap();
    let error = step(&mut trainer, 0.1).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
    let reading = trainer.reading().unwrap();
    assert_eq!((reading.samples, reading.loss), (0, 0.0), "the step failed after its loss was added");
}

//! Trainers, their options, and run folders.

use mlpconv::nn::Module;
use mlpconv::ops::cross_entropy::{Meter, Reading};
use mlpconv::optim::{AdamW, Average, Averaging, Optimizer, RateMultiplier, Schedule, Sgd, set_multipliers};
use mlpconv::train::{
    Change, EpochMetrics, FitOptions, Health, OnNan, Position, Preset, Resident, Run, TrainConfig, Trainer,
};
use mlpconv::{Cpu, Param, Shape, weights};
use std::ops::ControlFlow;
use std::{fs, iter};

use super::super::{Net, step, trainer};
use super::{EPOCHS, NUMBERS, SIZES, Walk, loader};

#[test]
fn trainers_options_and_schedules() {
    let mut walk = Walk::default();
    let sgd = || trainer(|b| Sgd::new(b).with_momentum(0.9).into());
    // Factors.
    let schedules: Vec<Schedule> = NUMBERS
        .into_iter()
        .flat_map(|number| {
            let steps = EPOCHS.map(|every| Schedule::Step { every, factor: number });
            steps.into_iter().chain([Schedule::Cosine { warmup: number }, Schedule::OneCycle { rise: number }])
        })
        .collect();
    for schedule in &schedules {
        for (step, steps) in SIZES.into_iter().flat_map(|step| SIZES.map(|steps| (step, steps))) {
            for epochs in EPOCHS {
                walk.gives(|| format!("{schedule:?} {step} {steps}"), || schedule.factor(step, steps, epochs));
            }
        }
    }
    // Whole runs. A schedule out of its range is refused before the first step, and not when its factor comes.
    let backend = Cpu::<f32>::new();
    let loader = loader(5, 2).unwrap();
    let resident = Resident::new(&backend, loader.clone()).unwrap();
    let fit = |trainer: &mut Trainer<Cpu<f32>, Net>, options: FitOptions, on_device: bool| {
        // A run of u32::MAX epochs is stopped.
        let mut left = 8;
        let mut stop = |_: &Trainer<Cpu<f32>, Net>, _| {
            left -= 1;
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        match on_device {
            false => trainer.fit(&loader, &loader, &options, &mut stop).map(drop),
            true => trainer.fit(&resident, &resident, &options, &mut stop).map(drop),
        }
    };
    let good = FitOptions { epochs: 1, rate: 0.1, schedule: Schedule::Constant, report_every: 1, on_nan: OnNan::Stop };
    for on_device in [false, true] {
        for &schedule in &schedules {
            let mut trainer = sgd();
            let what = || format!("fit {schedule:?}");
            let fitted = walk.may_fail(what, || fit(&mut trainer, FitOptions { schedule, ..good }, on_device));
            let in_range = match schedule {
                Schedule::Step { every, factor } => every > 0 && factor >= 0.0 && factor.is_finite(),
                Schedule::Cosine { warmup } => warmup >= 0.0 && warmup.is_finite(),
                Schedule::OneCycle { rise } => (0.0..=1.0).contains(&rise),
                Schedule::Constant => true,
            };
            assert_eq!(fitted.is_some(), in_range, "{schedule:?}");
            assert!(in_range || trainer.position == Position::default(), "{schedule:?}: {:?}", trainer.position);
        }
        for (epochs, report_every) in EPOCHS.into_iter().flat_map(|epochs| SIZES.map(|every| (epochs, every))) {
            let options = FitOptions { epochs, report_every, on_nan: OnNan::Skip, ..good };
            walk.may_fail(|| format!("fit {options:?}"), || fit(&mut sgd(), options, on_device));
        }
        for rate in NUMBERS {
            walk.may_fail(|| format!("fit at {rate}"), || fit(&mut sgd(), FitOptions { rate, ..good }, on_device));
        }
        for (epoch, at) in EPOCHS.into_iter().flat_map(|epoch| EPOCHS.map(|step| (epoch, step))) {
            let mut placed = sgd();
            placed.position = Position { epoch, step: at };
            let options = FitOptions { epochs: u32::MAX, ..good };
            let what = || format!("fit from {:?}", Position { epoch, step: at });
            let fitted = walk.may_fail(what, || fit(&mut placed, options, on_device));
            // The epoch has three steps, and after the last epoch there is nothing to do.
            assert_eq!(fitted.is_some(), at <= 3 || epoch == u32::MAX, "{epoch}, {at}");
            let mut placed = sgd();
            placed.position = Position { epoch, step: at };
            walk.may_fail(|| format!("step {epoch} {at}"), || step(&mut placed, 0.1));
            walk.may_fail(|| format!("step_resident {epoch} {at}"), || placed.step_resident(&resident, 0.1));
        }
    }
    // Steps.
    for shape in [
        Shape::image(0, 1, 4, 4),
        Shape::image(2, 1, 4, 4),
        Shape::image(usize::MAX, 1, 4, 4),
        Shape::image(2, 2, 4, 2),
        Shape::matrix(2, 16),
        Shape::vector(32),
    ] {
        for images in [0, 1, 32] {
            for labels in [&[][..], &[0], &[0, 2], &[0, 3], &[255, 255], &[0, 1, 2]] {
                let (mut trainer, images) = (sgd(), vec![0.5; images]);
                let what = |call: &str| format!("{call} {shape} {} {labels:?}", images.len());
                let stepped = walk.may_fail(|| what("step"), || trainer.step(&images, shape, labels, 0.1));
                let good =
                    images.len() == 32 && shape == Shape::image(2, 1, 4, 4) && [[0, 2]].iter().any(|l| l == labels);
                assert_eq!(stepped.is_some(), good, "{}", what("step"));
                let mut meter = Meter::new(&trainer.backend).unwrap();
                walk.may_fail(|| what("score"), || trainer.score(&images, shape, labels, &mut meter));
                walk.may_fail(|| what("predict"), || trainer.predict(&images, shape));
                walk.may_fail(|| what("find_not_finite"), || trainer.find_not_finite(&images, shape, labels));
            }
        }
    }
    // Multipliers and settings that are out of their range in f32 alone.
    for multiplier in [f32::NAN, f32::INFINITY, -1.0, f32::NEG_INFINITY] {
        for adamw in [false, true] {
            let mut trainer = trainer(|b| if adamw { AdamW::new(b).into() } else { Sgd::new(b).into() });
            for of_rate in [true, false] {
                let own = &mut trainer.net.params_mut()[0].1;
                (own.rate_multiplier, own.decay_multiplier) =
                    if of_rate { (multiplier, 1.0) } else { (1.0, multiplier) };
                walk.refused(|| format!("a multiplier of {multiplier}"), || step(&mut trainer, 0.1));
                assert_eq!(trainer.reading().unwrap().samples, 0);
            }
        }
    }
    walk.refused(|| "decay".into(), || step(&mut trainer(|b| Sgd::new(b).with_weight_decay(1e300).into()), 0.1));
    walk.refused(|| "decay".into(), || step(&mut trainer(|b| AdamW::new(b).with_weight_decay(1e300).into()), 0.1));
    walk.refused(|| "eps".into(), || step(&mut trainer(|b| AdamW::new(b).with_eps(1e300).into()), 0.1));
    // The state of optimisers.
    let backend = Cpu::<f32>::new();
    let param = Param::new(&backend, Shape::vector(3), &[1.0; 3]).unwrap();
    for number in NUMBERS {
        for rule in [Average::Tail(number), Average::Exponential(number)] {
            let mut trainer = trainer(|b| Averaging::new(b, Sgd::new(b), rule).into());
            trainer.optimizer.set_updates(u64::MAX);
            let stepped = walk.may_fail(|| format!("{rule:?}"), || step(&mut trainer, 0.1));
            assert_eq!(stepped.is_some(), rule.validate().is_ok(), "{rule:?}");
        }
        let mut trainer = trainer(|b| Sgd::new(b).into());
        trainer.label_smoothing = number;
        let stepped = walk.may_fail(|| format!("smoothing {number}"), || step(&mut trainer, 0.1));
        assert_eq!(stepped.is_some(), (0.0..=1.0).contains(&number), "{number}");
        let rates = [RateMultiplier { pattern: "*".repeat(9), factor: number }];
        let set = || set_multipliers(&mut trainer.net, &rates, true);
        walk.may_fail(|| format!("multiplier {number}"), set);
        walk.may_fail(|| format!("a step with a multiplier of {number}"), || step(&mut trainer, 0.1));
    }
    let averaging = Averaging::new(&backend, Sgd::new(&backend), Average::Tail(0.5));
    let optimizers: [Box<dyn Optimizer<Cpu<f32>>>; 3] =
        [Sgd::new(&backend).into(), AdamW::new(&backend).into(), averaging.into()];
    for mut optimizer in optimizers {
        for name in ["", "velocity", "exp_avg", "updates", "average", "averaged", "\0"] {
            for len in [0, 2, 3, 4] {
                walk.may_fail(|| format!("tensor {name}"), || optimizer.set_tensor(name, &param, &vec![f32::NAN; len]));
            }
            walk.may_fail(|| format!("counter {name}"), || optimizer.set_counter(name, u64::MAX));
            walk.gives(|| name.into(), || optimizer.tensor(name, &param).is_some());
        }
        walk.gives(
            || "counts".into(),
            || {
                optimizer.count_replay();
                optimizer.uncount(u64::MAX);
                optimizer.set_updates(u64::MAX);
                (optimizer.corrections(), optimizer.keep())
            },
        );
    }
    for classes in SIZES {
        walk.gives(|| format!("Health {classes}"), || Health::of(&Reading::default(), &Reading::default(), classes));
    }
    walk.ended("trainers, options and schedules");
}

#[test]
fn runs_and_weights_of_paths_that_are_none() {
    let mut walk = Walk::default();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "nothing").unwrap();
    fs::create_dir_all(at("odd/config.toml")).unwrap();
    fs::create_dir_all(at("odd/metrics.jsonl")).unwrap();
    fs::create_dir_all(at("empty")).unwrap();
    let paths = [at("file"), at("file/below"), at("odd"), at("empty"), at("a\0b"), "".into(), "/dev/null".into()];
    let (config, mut trainer) = (Preset::Small.config(), trainer(|b| Sgd::new(b).into()));
    let (backend, other) = (Cpu::<f32>::new(), trainer.backend.clone());
    for path in &paths {
        let what = |call: &str| format!("{call} {path:?}");
        walk.refused(|| what("open"), || Run::open(path));
        walk.refused(|| what("resume"), || Run::resume(path));
        if *path != at("empty") {
            walk.refused(|| what("create"), || Run::create(path, config.clone()));
            walk.refused(|| what("save"), || weights::save(&backend, &trainer.net, path.join("")));
        }
        walk.refused(|| what("load"), || weights::load(&other, &mut trainer.net, path));
    }
    // Settings.
    let mut settings: Vec<TrainConfig> = Vec::new();
    for number in [-1.0, 1e300, f64::NAN, f64::INFINITY] {
        let numbers: [fn(&mut TrainConfig) -> &mut f64; 6] = [
            |c| &mut c.learning_rate,
            |c| &mut c.momentum,
            |c| &mut c.weight_decay,
            |c| &mut c.beta1,
            |c| &mut c.beta2,
            |c| &mut c.eps,
        ];
        for of in numbers {
            let mut config = config.clone();
            *of(&mut config) = number;
            settings.push(config);
        }
        for schedule in [Schedule::Cosine { warmup: number }, Schedule::Step { every: 1, factor: number }] {
            let in_range = schedule.validate().is_ok();
            settings.extend((!in_range).then(|| TrainConfig { schedule, ..config.clone() }));
        }
    }
    settings.push(TrainConfig { schedule: Schedule::Step { every: 0, factor: 0.5 }, ..config.clone() });
    settings.extend(EPOCHS.into_iter().filter(|&e| e != 1).map(|epochs| TrainConfig { epochs, ..config.clone() }));
    for size in [0, 1 << 20, usize::MAX] {
        settings.push(TrainConfig { batch_size: size, ..config.clone() });
        settings.push(TrainConfig { resize: size, ..config.clone() });
    }
    settings.push(TrainConfig { train_limit: Some(0), ..config.clone() });
    for device in ["", "cuda", "cuda:", "cuda:-1", "gpu", "\0"] {
        settings.push(TrainConfig { device: device.into(), ..config.clone() });
    }
    for config in settings {
        walk.refused(|| format!("create with {config:?}"), || Run::create(at("empty"), config.clone()));
    }
    assert!(!at("empty/config.toml").exists(), "what is refused leaves nothing behind");
    // A run, and what it is told.
    let mut run = Run::create(at("empty"), config.clone()).unwrap();
    let metrics = EpochMetrics {
        epoch: 1,
        loss: 1.0,
        train_accuracy: 0.5,
        test_loss: 1.0,
        test_accuracy: 0.5,
        examples_per_second: 1.0,
        train_seconds: 1.0,
        test_seconds: 1.0,
        rate: 0.1,
        skipped: usize::MAX,
    };
    for epoch in [0, 2, u32::MAX] {
        walk.refused(|| format!("metrics of epoch {epoch}"), || run.append(&EpochMetrics { epoch, ..metrics }));
    }
    for loss in [f64::NAN, f64::INFINITY] {
        walk.refused(|| format!("metrics with {loss}"), || run.append(&EpochMetrics { loss, ..metrics }));
    }
    walk.may_fail(|| "good metrics".into(), || run.append(&metrics));
    assert_eq!(run.metrics().unwrap(), [metrics], "what is written can be read");
    for epochs in EPOCHS {
        for rate in iter::once(None).chain(NUMBERS.map(Some)) {
            let change = Change { epochs: Some(epochs), learning_rate: rate, ..Change::default() };
            walk.may_fail(|| format!("{change:?}"), || run.change(&change));
        }
    }
    walk.may_fail(|| "save".into(), || run.save(&trainer));
    walk.may_fail(|| "restore".into(), || run.restore(&mut trainer));
    fs::remove_dir_all(at("empty")).unwrap();
    walk.refused(|| "save to a folder that is gone".into(), || run.save(&trainer));
    walk.refused(|| "append to it".into(), || run.append(&metrics));
    walk.refused(|| "words".into(), || "".parse::<Preset>().and("nan".parse::<Schedule>()));
    walk.ended("runs and weights");
}

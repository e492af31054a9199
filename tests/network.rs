//! Whole networks: their costs, no allocation in the steady state, resumed runs, and the rules of updates.

use std::ops::ControlFlow;

use mlpconv::data::{Dataset, Form, Invert, Loader, LoaderConfig, Order, Recipe, Share};
use mlpconv::device::Role;
use mlpconv::nn::{Dropout, Module, Nin, Sequential, Summary, predict};
use mlpconv::ops::Affine;
use mlpconv::optim::{AdamW, Average, Averaging, Optimizer, OptimizerKind, Sgd};
use mlpconv::shape::Window;
use mlpconv::tape::Shard;
use mlpconv::train::{Classified, Event, FitOptions, Position, Preset, Run, TrainConfig, Trainer};
use mlpconv::weights::Tensors;
use mlpconv::{Cpu, Device, Error, Mode, Param, Precision, Shape, Tape};

/// A data set of `n` noisy images.
fn dataset(n: usize) -> std::sync::Arc<Dataset> {
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    let images = (0..n * 28 * 28).map(noise).collect();
    let labels = (0..n).map(|i| noise(i) % 10).collect();
    std::sync::Arc::new(Dataset::new(images, labels, 28, 28, 10).unwrap())
}

#[test]
fn after_its_first_epoch_a_run_allocates_no_buffer() {
    let backend = Cpu::<f32>::with_threads(2).unwrap();
    let net = Nin::small(&backend, 1).unwrap();
    let mut trainer = Trainer::new(&backend, net, Sgd::new(&backend).with_momentum(0.9), 1).unwrap();
    // 5 steps, the last of 6 images, and an evaluation, whose last batch has 3.
    let config = LoaderConfig { batch_size: 16, height: 28, width: 28, order: Order::Shuffled { seed: 1 } };
    let train = Loader::new(dataset(70), config).unwrap();
    let test = Loader::new(dataset(35), LoaderConfig { order: Order::Sequential, ..config }).unwrap();
    let mut options = FitOptions {
        epochs: 1,
        rate: 0.01,
        schedule: "constant".parse().unwrap(),
        report_every: 1,
        on_nan: Default::default(),
    };
    let mut quiet = |_: &_, _| Ok(ControlFlow::Continue(()));
    assert!(trainer.fit(&train, &test, &options, &mut quiet).unwrap().is_continue());
    let buffers = backend.memory();
    options.epochs = 3;
    assert!(trainer.fit(&train, &test, &options, &mut quiet).unwrap().is_continue());
    assert_eq!(backend.memory(), buffers);
}

/// The memory that `mlpconv summary` predicts, against the peak of a step's buffers.
#[test]
fn predicted_memory_is_what_a_step_takes() {
    for (preset, batch) in [(Preset::Small, 32), (Preset::D2l, 4)] {
        let config = preset.config();
        let backend = Cpu::<f32>::with_threads(1).unwrap();
        let net = preset.net(&backend, 1).unwrap();
        let shape = Shape::image(batch, 1, config.resize, config.resize);
        let summary = Summary::new(&net, shape).unwrap();
        let mut trainer = Trainer::new(&backend, net, config.optimizer(&backend), 1).unwrap();
        let images = vec![0.5; shape.len()];
        trainer.step(&images, shape, &vec![3; batch], 0.001).unwrap();
        let measured = backend.memory().peak as f64;
        let predicted = summary.training_bytes(Precision::Fp32, trainer.optimizer.tensor_names().len()) as f64;
        // The prediction includes pixels that no pool reads, which are not computed. It leaves out the CPU's working
        // memory: strips of im2col, and partial sums of the weights' gradients.
        let largest = summary.layers.iter().map(|layer| layer.params).max().unwrap() as f64 * 4.0;
        let working = 17.0 * largest + 4e6;
        assert!(
            predicted <= measured * 1.15 && measured <= predicted + working,
            "{preset}: predicted {predicted:.3e}, measured {measured:.3e}, working memory up to {working:.3e}"
        );
    }
}

#[test]
fn presets_are_the_networks_they_claim_to_be() {
    let backend = Cpu::<f32>::new();
    let d2l = Summary::new(&Nin::d2l(&backend, 0).unwrap(), Shape::image(1, 1, 224, 224)).unwrap();
    assert_eq!((d2l.params(), d2l.forward_macs()), (1_992_166, 762_297_352));
    let outputs: Vec<String> = d2l.layers.iter().map(|layer| layer.output.to_string()).collect();
    for expected in
        ["[1, 96, 54, 54]", "[1, 96, 26, 26]", "[1, 256, 12, 12]", "[1, 384, 5, 5]", "[1, 10, 5, 5]", "[1, 10]"]
    {
        assert!(outputs.iter().any(|output| output == expected), "{expected} is not in {outputs:?}");
    }
}

/// d2l's layers but for the last ReLU.
#[test]
fn stable_is_d2l_without_its_last_relu() {
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let [stable, d2l] = [Preset::Stable, Preset::D2l].map(|preset| preset.net(&backend, 7).unwrap());
    let described = |net: &Nin<_>| -> Vec<(String, String)> {
        let summary = Summary::new(net, Shape::image(1, 1, 224, 224)).unwrap();
        summary.layers.iter().map(|layer| (layer.name.clone(), layer.output.to_string())).collect()
    };
    let (stable, mut d2l) = (described(&stable), described(&d2l));
    let relu = d2l.iter().rposition(|(name, _)| name.contains("ReLU")).unwrap();
    let without = d2l[relu].0.replace(" + ReLU", "");
    d2l[relu].0 = without;
    assert_eq!(stable, d2l);
    let config = Preset::Stable.config();
    assert_eq!((config.batch_size, config.epochs, config.resize), (128, 10, 224), "the book's budget");
}

/// Gluon's `init.Xavier()`: uniform, of magnitude 3 over the mean of fan-in and fan-out. Its layers begin with zero biases.
#[test]
fn d2l_gluon_begins_with_zero_biases_and_the_weights_of_d2l() {
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let [gluon, d2l] = [Preset::D2lGluon, Preset::D2l].map(|preset| preset.net(&backend, 7).unwrap());
    let config = Preset::D2lGluon.config();
    assert_eq!((config.learning_rate, config.batch_size, config.epochs, config.resize), (0.1, 128, 3, 224));
    assert!(toml::to_string(&config).unwrap().contains("preset = \"d2l-gluon\"\n"));
    assert_eq!("d2l-gluon".parse::<Preset>().unwrap(), Preset::D2lGluon);
    let (mut weights, mut biases) = (0, 0);
    for ((name, ours), (other, theirs)) in gluon.params().into_iter().zip(d2l.params()) {
        assert_eq!(name, other);
        let values = ours.data();
        if name.ends_with("bias") {
            biases += values.len();
            assert!(values.iter().all(|&value| value == 0.0), "{name}");
            assert!(theirs.data().iter().any(|&value| value != 0.0), "{name}");
            continue;
        }
        weights += values.len();
        assert!(values[..] == theirs.data()[..], "{name}");
        let shape = ours.shape();
        let &[k, c, r, s] = shape.dims() else { panic!("{name}: {shape}") };
        let magnitude = 3.0;
        let bound = (magnitude / ((c + k) as f64 / 2.0 * (r * s) as f64)).sqrt();
        assert!(values.iter().all(|&value| f64::from(value).abs() <= bound * (1.0 + 1e-6)), "{name}");
        // The mean square of so many uniform numbers, within five of its standard deviations: √(4/45) of bound², over √n.
        let (n, expected) = (values.len() as f64, bound * bound / 3.0);
        let variance = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / n;
        let spread = bound * bound * (4.0 / 45.0 / n).sqrt();
        assert!((variance - expected).abs() < 5.0 * spread, "{name}: {variance:e}, expected {expected:e} ± {spread:e}");
    }
    assert_eq!((weights, biases), (1_989_928, 2_238));
}

/// A run that is interrupted in an evaluation and resumed from its folder has the same metrics as an uninterrupted
/// one, and ends with the same bits.
#[test]
fn a_run_interrupted_in_evaluation_resumes_with_the_same_metrics_and_bits() {
    OptimizerKind::ALL.into_iter().for_each(resumes_in_evaluation);
}

fn resumes_in_evaluation(kind: OptimizerKind) {
    let config = TrainConfig { batch_size: 16, epochs: 2, ..Preset::Small.config_with(kind) };
    let loader = |order| {
        let size = LoaderConfig { batch_size: 16, height: 28, width: 28, order };
        Loader::new(dataset(40), size).unwrap()
    };
    let (train, test) = (loader(Order::Shuffled { seed: 1 }), loader(Order::Sequential));
    let fresh = || {
        let backend = Cpu::<f32>::with_threads(1).unwrap();
        let net = config.preset.net(&backend, 1).unwrap();
        let optimizer = config.optimizer(&backend);
        Trainer::new(&backend, net, optimizer, 1).unwrap()
    };
    let go = |trainer: &mut Trainer<_, _>, break_off: bool| {
        let mut epochs = Vec::new();
        let ended = trainer.fit(&train, &test, &config.fit_options(1), &mut |_, event| {
            if let Event::Epoch { metrics, .. } = event {
                epochs.push(metrics);
            }
            let stop = break_off && matches!(event, Event::Evaluation { .. });
            Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        (ended.unwrap(), epochs)
    };
    let mut whole = fresh();
    let (_, expected) = go(&mut whole, false);

    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::create(folder.path().join("run"), config.clone()).unwrap();
    let mut first = fresh();
    assert!(go(&mut first, true).0.is_break());
    assert_eq!(first.position, Position { epoch: 0, step: 3 });
    run.save(&first).unwrap();
    let mut second = fresh();
    run.restore(&mut second).unwrap();
    let (ended, metrics) = go(&mut second, false);
    assert!(ended.is_continue());
    assert_eq!(metrics.len(), expected.len());
    for (got, expected) in metrics.iter().zip(&expected) {
        assert!((got.loss - expected.loss).abs() < 1e-6, "{got:?} {expected:?}");
        assert_eq!(
            (got.train_accuracy, got.test_loss, got.rate),
            (expected.train_accuracy, expected.test_loss, expected.rate)
        );
        assert!(got.train_seconds > 0.0 && got.examples_per_second > 0.0, "{got:?}");
    }
    for ((name, a), (_, b)) in whole.net.params().iter().zip(second.net.params()) {
        assert!(a.data()[..] == b.data()[..], "{kind}: {name} differs");
    }

    // The same folder with the settings of the other optimiser is refused.
    let other = OptimizerKind::ALL.into_iter().find(|other| *other != kind).unwrap();
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let (net, optimizer) =
        (config.preset.net(&backend, 1).unwrap(), config.preset.config_with(other).optimizer(&backend));
    let mut trainer = Trainer::new(&backend, net, optimizer, 1).unwrap();
    match run.restore(&mut trainer).unwrap_err() {
        Error::OtherOptimizer { saved, present, .. } => {
            assert_eq!((saved, present), (kind.to_string(), &*other.to_string()));
        }
        error => panic!("{error}"),
    }
    assert_eq!(trainer.position, Position::default());
}

/// A state file that names no optimiser, as older versions wrote it, is read as SGD's. One that lacks a tensor is
/// refused.
#[test]
fn a_state_file_without_an_optimiser_is_sgds() {
    let config = TrainConfig { batch_size: 16, epochs: 1, ..Preset::Small.config() };
    let size = LoaderConfig { batch_size: 16, height: 28, width: 28, order: Order::Sequential };
    let loader = Loader::new(dataset(40), size).unwrap();
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let fresh = || {
        let net = config.preset.net(&backend, 1).unwrap();
        Trainer::new(&backend, net, config.optimizer(&backend), 1).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::create(folder.path().join("run"), config.clone()).unwrap();
    let mut trainer = fresh();
    let mut append = |_: &_, event| {
        if let Event::Epoch { metrics, .. } = event {
            run.append(&metrics)?;
        }
        Ok(ControlFlow::Continue(()))
    };
    assert!(trainer.fit(&loader, &loader, &config.fit_options(1), &mut append).unwrap().is_continue());
    run.save(&trainer).unwrap();

    let path = folder.path().join("run/state.safetensors");
    let mut tensors = Tensors::load(&path).unwrap();
    let mut note: serde_json::Map<_, _> = serde_json::from_str(tensors.note().unwrap()).unwrap();
    for newer in ["optimizer", "counters", "format", "config", "data", "metrics"] {
        note.remove(newer).unwrap();
    }
    tensors.set_note(serde_json::to_string(&note).unwrap());
    tensors.save(&path).unwrap();
    let mut resumed = fresh();
    run.restore(&mut resumed).unwrap();
    for ((name, a), (_, b)) in trainer.net.params().iter().zip(resumed.net.params()) {
        assert!(a.data()[..] == b.data()[..], "{name}");
        let [a, b] =
            [(&trainer, *a), (&resumed, b)].map(|(trainer, param)| trainer.optimizer.tensor("velocity", param));
        assert!(a.unwrap()[..] == b.unwrap()[..], "the velocity of {name}");
    }

    // The tensor gets another name of the same length, so the file's offsets stay valid; and the checksum's entry
    // another key, so that the file is as old as those without one.
    let mut bytes = std::fs::read(&path).unwrap();
    for (text, other) in [("velocity.0.0.bias", "velosity.0.0.bias"), ("mlpconv.sha256", "mlpconv.sha000")] {
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        bytes[at..at + text.len()].copy_from_slice(other.as_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let error = run.restore(&mut fresh()).unwrap_err().to_string();
    assert!(error.contains("velocity.0.0.bias is missing"), "{error}");
}

/// Neither momentum nor weight decay changes a parameter without a gradient. A parameter whose rate multiplier is zero
/// has a gradient and is not changed either.
#[test]
fn a_parameter_without_a_gradient_is_not_updated() {
    let backend = Cpu::<f32>::new();
    let optimizers: [Box<dyn Optimizer<_>>; 2] =
        [Sgd::new(&backend).with_momentum(0.9).with_weight_decay(0.1).into(), AdamW::new(&backend).into()];
    for mut optimizer in optimizers {
        let param = || Param::new(&backend, Shape::weight(3, 3, 1, 1), &[0.5; 9]).unwrap();
        let (mut learning, mut frozen, mut unused) = (param(), param(), param());
        frozen.rate_multiplier = 0.0;
        for _ in 0..2 {
            let mut tape = Tape::new(&backend, Mode::Training { seed: 0, epoch: 0, step: 0 });
            let shape = Shape::image(1, 3, 2, 2);
            let ones = || backend.upload(Role::Activation, &vec![1.0; shape.len()]).unwrap();
            let x = tape.constant(ones(), shape).unwrap();
            let [first, second] = [&learning, &frozen].map(|param| tape.param(param));
            let affine = |w| Affine { w, bias: None, relu: false };
            let y = tape.conv2d(&x, affine(&first), Window::default()).unwrap();
            let y = tape.conv2d(&y, affine(&second), Window::default()).unwrap();
            drop((first, second));
            let grads = tape.backward_from(&y, ones()).unwrap();
            assert!(grads.of_param(&frozen).is_some() && grads.of_param(&unused).is_none());
            let params = [("learning", &mut learning), ("frozen", &mut frozen), ("unused", &mut unused)];
            let params = params.into_iter().map(|(name, param)| (name.to_owned(), param)).collect();
            optimizer.step(params, &grads, 0.1).unwrap();
        }
        let name = optimizer.name();
        assert!(learning.data().iter().all(|&w| w < 0.45), "{name}: {:?}", &learning.data()[..]);
        assert_eq!((&frozen.data()[..], &unused.data()[..]), (&[0.5; 9][..], &[0.5; 9][..]), "{name}");
    }
}

/// An overflow in the last update leaves weights that are not finite. The evaluation notices, and the run ends with an
/// error.
#[test]
fn divergence_in_the_last_update_is_an_error() {
    let config =
        TrainConfig { batch_size: 40, epochs: 1, learning_rate: 1e30, momentum: 0.0, ..Preset::Small.config() };
    let size = LoaderConfig { batch_size: 40, height: 28, width: 28, order: Order::Sequential };
    let loader = Loader::new(dataset(40), size).unwrap();
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let net = config.preset.net(&backend, 1).unwrap();
    let mut trainer = Trainer::new(&backend, net, config.optimizer(&backend), 1).unwrap();
    let mut quiet = |_: &_, _| Ok(ControlFlow::Continue(()));
    let error = trainer.fit(&loader, &loader, &config.fit_options(1), &mut quiet).unwrap_err().to_string();
    assert!(error.contains("training diverged"), "{error}");
}

/// An error of a setting, which names it.
fn refuses<T>(what: &str, result: mlpconv::Result<T>) {
    match result.err() {
        Some(Error::Config { what: named, .. }) => assert_eq!(named, what),
        error => panic!("{what}: {error:?}"),
    }
}

#[test]
fn what_would_go_wrong_in_silence_is_refused() {
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let size = LoaderConfig { batch_size: 4, height: 28, width: 28, order: Order::Sequential };
    let loader = Loader::new(dataset(8), size).unwrap();
    let mut trainer = Trainer::new(&backend, Nin::small(&backend, 1).unwrap(), Sgd::new(&backend), 1).unwrap();
    let mut on = |_: &_, _| Ok(ControlFlow::Continue(()));
    let scored = trainer.evaluate(&loader, &mut on).unwrap();
    // An evaluation within an evaluation would take its sums.
    let mut inner = |trainer: &Trainer<_, _>, _| {
        refuses("evaluate", trainer.evaluate(&loader, &mut |_, _| Ok(ControlFlow::Continue(()))));
        Ok(ControlFlow::Continue(()))
    };
    assert_eq!(trainer.evaluate(&loader, &mut inner).unwrap(), scored);
    let part = loader.clone().with_share(Share::new(0..1, 2).unwrap());
    refuses("share", Classified::of(&backend, &trainer.net, &part, &mut |_| Ok(ControlFlow::Continue(()))));

    let tape = || Tape::new(&backend, Mode::Training { seed: 1, epoch: 0, step: 0 });
    refuses("shard", tape().of_shard(Some(Shard { index: Shard::MOST, batch: 8 })));
    refuses("shard", tape().of_shard(Some(Shard { index: 0, batch: 0 })));
    let mut tape = tape();
    let one = Shape::image(1, 1, 1, 1);
    let x = tape.constant(backend.upload(Role::Activation, &[1.0]).unwrap(), one).unwrap();
    (0..Shard::MOST).for_each(|_| drop(tape.dropout(&x, 0.0).unwrap()));
    refuses("dropout", tape.dropout(&x, 0.5));
    refuses("dropout", predict(&backend, &Sequential::new().push(Dropout(f64::NAN)), &[1.0], one));

    let mut average = Averaging::new(&backend, Sgd::new(&backend), Average::Tail(1.5));
    average.set_updates(100);
    assert!((0.0..=1.0).contains(&average.keep()));
    trainer.optimizer = average.into();
    trainer.position = Position::default();
    let images = vec![0.5; 28 * 28];
    refuses("average", trainer.step(&images, Shape::image(1, 1, 28, 28), &[3], 0.1));

    let names = vec!["a".to_string()];
    let form = |extents, channels| Form { extents, channels, class_names: names.clone(), recipe: Recipe::Cropped };
    for extents in [[28, 0], [1 << 62, 4], [1 << 20, 1 << 20]] {
        refuses("extents", form(extents, 1).read("none", &[][..], Invert::Auto));
    }
    refuses("channels", form([28, 28], 2).read("none", &[][..], Invert::Auto));
}

/// A mean of as many pixels as no number counts is not one of none.
#[test]
#[cfg(feature = "cuda")]
fn a_plan_of_hostile_extents_is_no_panic() {
    use mlpconv::device::cuda::Limits;
    use mlpconv::nn::{Builder, GlobalAvgPool, Init, Plan, layers};
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let block = Builder::new(&backend, Init::He, 1).nin_block(1, [4, 4], 1, 1, 0).unwrap();
    let net = Sequential::new().push(block).push(GlobalAvgPool);
    let h200 = Limits::h200(Precision::Fp32);
    for side in [1 << 31, 1 << 32, usize::MAX] {
        // Made or refused: without memory for a pixel nobody asks.
        let _ = Plan::new(&layers(&net), Shape::image(1, 1, side, side), &|fusion| fusion.suits(&h200));
    }
}

/// The paper's network for CIFAR-10 (arXiv 1312.4400), counted by hand: weights and biases of nine convolutions.
#[test]
fn the_papers_network_has_967_thousand_parameters() {
    let conv = |filter: usize, inputs: usize, outputs: usize| filter * filter * inputs * outputs + outputs;
    let first = conv(5, 3, 192) + conv(1, 192, 160) + conv(1, 160, 96);
    let second = conv(5, 96, 192) + conv(1, 192, 192) + conv(1, 192, 192);
    let third = conv(3, 192, 192) + conv(1, 192, 192) + conv(1, 192, 10);
    assert_eq!((first, second, third), (60_928, 535_104, 370_954));
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let net = Preset::Cifar.net(&backend, 1).unwrap();
    let summary = Summary::new(&net, Shape::image(1, 3, 32, 32)).unwrap();
    assert_eq!(summary.params(), first + second + third);
    assert_eq!(summary.params(), 966_986);
    // Pools round down: the sides are 32, 15 and 7 pixels.
    let sides: Vec<usize> = summary.layers.iter().map(|layer| layer.output.h()).collect();
    assert_eq!(sides[..12], [32, 32, 32, 15, 15, 15, 15, 15, 7, 7, 7, 7]);
}

#[test]
fn presets_take_channels_and_classes_from_the_data() {
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    for preset in Preset::ALL {
        let size = preset.config().resize;
        let spec = preset.config().data.spec().unwrap();
        let own = preset.net(&backend, 1).unwrap();
        let input = Shape::image(2, spec.channels, size, size);
        let output = Summary::new(&own, input).unwrap().layers.last().unwrap().output;
        assert_eq!(output.dims(), [2, spec.class_names.len()], "{preset}");
        for (channels, classes) in [(1, 10), (3, 10), (3, 7), (4, 200)] {
            let net = preset.net_for(&backend, 1, channels, classes).unwrap();
            let summary = Summary::new(&net, Shape::image(2, channels, size, size)).unwrap();
            assert_eq!(summary.layers.last().unwrap().output.dims(), [2, classes], "{preset}");
        }
        // For the preset's own data set, the network has the same bits.
        let same = preset.net_for(&backend, 1, spec.channels, spec.class_names.len()).unwrap();
        for ((name, a), (_, b)) in own.params().into_iter().zip(same.params()) {
            assert!(a.data()[..] == b.data()[..], "{preset}: {name}");
        }
    }
}

#[test]
fn settings_without_data_mean_fashion_mnist() {
    let config = Preset::Cifar.config();
    let text = toml::to_string(&config).unwrap();
    assert!(text.contains("data = \"cifar10\"\n"), "{text}");
    assert_eq!(toml::from_str::<TrainConfig>(&text).unwrap(), config);
    let before: TrainConfig = toml::from_str(&text.replace("data = \"cifar10\"\n", "")).unwrap();
    assert_eq!(before.data.to_string(), "fashion-mnist");
    let folder: TrainConfig = toml::from_str(&text.replace("cifar10", "/some/where")).unwrap();
    assert_eq!(folder.data.spec(), None);
}

//! Promise 16. The learning is real: accuracy does not fall by a point.

use std::ops::ControlFlow;
use std::sync::Arc;

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order, Splits, known};
use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, MaxPool, Module, Sequential};
use mlpconv::optim::{AdamW, Schedule};
use mlpconv::train::{Classified, Event, FitOptions, Preset, TrainConfig, Trainer};
use mlpconv::{Backend, Cpu};

use super::place::{self, Place};
use super::promise::{kept, tries};

/// The least mean test accuracy of seeds 0 to 2, and of seed 0 in the short form: a point below the measured mean. It was 0.8627; that
/// of eight seeds was 0.8627, with a standard deviation of 0.003996, from 0.8561 to 0.8706.
const FLOOR: f64 = 0.8527;

/// The same for three epochs of the recipe of preset `tuned`: its changes of images, smoothing, averages and mirror images. The
/// mean was 0.8479.
const FLOOR_OF_RECIPE: f64 = 0.8379;

/// The test accuracy of preset `small` after its eight epochs. The run that the README shows has 0.902.
const FLOOR_OF_SMALL: f64 = 0.895;

/// The test accuracy of every run of preset `stable` after 188 steps at 67×67, and the mean of seeds 0 to 2. Of eight seeds the
/// least was 0.668, the mean 0.727 with a standard deviation of 0.048. A dead run stays at 0.1.
const FLOORS_OF_STABLE: [f64; 2] = [0.6, 0.69];

/// The test accuracy of preset `d2l` with small batches and a smaller rate, after 3,750 steps at 67×67. Seeds 0 to 2 reached 0.676,
/// 0.385 and 0.682: so far apart that a mean would not show a point. That point by point the recipes of `d2l` and `d2l-gluon` are
/// the book's, `tests/parity` holds; `d2l-gluon` learns nothing in so few steps.
const FLOOR_OF_D2L: f64 = 0.5;

/// A network in network that is small enough for three seeds in half a minute.
fn net<B: Backend<Scalar = f32>>(backend: &B, seed: u64) -> Sequential<B> {
    let mut build = Builder::new(backend, Init::He, seed);
    let pool = MaxPool { window: 3, stride: 2 };
    Sequential::new()
        .push(build.nin_block(1, 16, 5, 2, 2).unwrap())
        .push(pool)
        .push(build.nin_block(16, 32, 3, 1, 1).unwrap())
        .push(pool)
        .push(build.nin_block(32, 10, 3, 1, 1).unwrap().with_linear_output())
        .push(GlobalAvgPool)
        .push(Flatten)
}

fn trainer<B: Backend<Scalar = f32>>(backend: &B, seed: u64) -> Trainer<B, Sequential<B>> {
    Trainer::new(backend, net(backend, seed), AdamW::new(backend), seed).unwrap()
}

/// Training and test images of Fashion-MNIST.
fn images() -> Option<[Arc<Dataset>; 2]> {
    let folder = place::data()?;
    let source = Splits::find(&known::FASHION_MNIST, Some(&folder)).unwrap().unwrap();
    let Splits { train, test, .. } = Splits::read(&known::FASHION_MNIST, source).unwrap();
    Some([train, test].map(Arc::new))
}

fn loader(data: &Arc<Dataset>, batch_size: usize, order: Order) -> Loader {
    Loader::new(data.clone(), LoaderConfig { batch_size, height: 28, width: 28, order }).unwrap()
}

/// The test accuracy after three epochs.
fn accuracy([train, test]: &[Arc<Dataset>; 2], seed: u64) -> f64 {
    let schedule = Schedule::Cosine { warmup: 0.1 };
    let options = FitOptions { epochs: 3, rate: 0.005, schedule, report_every: 1000, on_nan: Default::default() };
    let [train, test] = [loader(train, 64, Order::Shuffled { seed }), loader(test, 250, Order::Sequential)];
    let mut last = 0.0;
    let ended = trainer(&Cpu::<f32>::new(), seed).fit(&train, &test, &options, &mut |_, event| {
        if let Event::Epoch { metrics, .. } = event {
            last = metrics.test_accuracy;
        }
        Ok(ControlFlow::Continue(()))
    });
    assert!(ended.unwrap().is_continue());
    last
}

/// The figure of a mean accuracy over three seeds, in the short form of one seed's, which is at least `floor`.
fn figure(of: &str, floor: f64, accuracy: impl Fn(u64) -> f64) -> String {
    let all: Vec<f64> = (0..tries(1, 3) as u64).map(accuracy).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    assert!(mean >= floor, "a mean test accuracy of {mean:.4} ({all:?}), at least {floor} is usual");
    let over = if all.len() == 1 { "with one seed" } else { "over three seeds" };
    format!("{of}a mean test accuracy of {mean:.4} {over} (floor {floor})")
}

#[test]
fn seeds_reach_the_floor() {
    let Some(images) = images() else { return };
    kept(16, figure("", FLOOR, |seed| accuracy(&images, seed)));
}

/// The accuracy of the averaged weights on test images and their mirror images, after three epochs of the recipe.
fn accuracy_by_recipe([train, test]: &[Arc<Dataset>; 2], seed: u64) -> f64 {
    let backend = Cpu::<f32>::new();
    let own = Preset::Tuned.config();
    let schedule = Schedule::Cosine { warmup: 0.1 };
    let config =
        TrainConfig { epochs: 3, batch_size: 64, learning_rate: 0.005, erasing_rest: 1, schedule, seed, ..own };
    let [train, test_loader] =
        [config.train_loader(train.clone()), config.test_loader(test.clone())].map(Result::unwrap);
    let mut trainer = config.trainer(&backend, net(&backend, seed)).unwrap();
    let one = config.test_loader(Arc::new(Dataset::clone(test).take(1))).unwrap();
    let ended = trainer.fit(&train, &one, &config.fit_options(1000), &mut |_, _| Ok(ControlFlow::Continue(())));
    assert!(ended.unwrap().is_continue());
    let averages: Vec<Vec<f32>> = {
        let params = trainer.net.params();
        params.iter().map(|(_, param)| trainer.optimizer.tensor("average", param).unwrap().to_vec()).collect()
    };
    for ((_, param), average) in trainer.net.params_mut().into_iter().zip(&averages) {
        param.set(&backend, average).unwrap();
    }
    let all = &mut |_| Ok(ControlFlow::Continue(()));
    let both = Classified::of_both_sides(&backend, &trainer.net, &test_loader, all).unwrap().unwrap();
    both.confusion().accuracy().unwrap()
}

#[test]
fn seeds_of_the_recipe_reach_the_floor() {
    let Some(images) = images() else { return };
    kept(16, figure("by the recipe of tuned ", FLOOR_OF_RECIPE, |seed| accuracy_by_recipe(&images, seed)));
}

/// The test accuracy that a run of the program says it has reached.
fn trained(place: &Place, options: &str) -> f64 {
    let said = place.train(&format!("--device cpu {options}")).good();
    said.line("done: test accuracy ").split_whitespace().nth(3).unwrap().parse().unwrap()
}

/// Under `make torture`: five minutes.
#[test]
fn the_small_preset_reaches_its_floor() {
    if tries(0, 1) == 0 {
        return;
    }
    let Some(place) = Place::new() else { return };
    let accuracy = trained(&place, "--preset small --out run");
    assert!(accuracy >= FLOOR_OF_SMALL, "{accuracy}, at least {FLOOR_OF_SMALL} is usual");
    kept(16, format!("preset small: test accuracy {accuracy} (floor {FLOOR_OF_SMALL})"));
}

/// Under `make torture`: two minutes.
#[test]
fn the_books_recipe_learns_from_small_batches() {
    if tries(0, 1) == 0 {
        return;
    }
    let Some(place) = Place::new() else { return };
    let short = "--resize 67 --epochs 5 --train-limit 12000 --test-limit 1000 --batch-size 16 --lr 0.05";
    let accuracy = trained(&place, &format!("--preset d2l {short} --seed 0 --out d2l"));
    assert!(accuracy >= FLOOR_OF_D2L, "{accuracy}, at least {FLOOR_OF_D2L} is usual");
    kept(16, format!("preset d2l, 3,750 steps of 16 images at 67×67: test accuracy {accuracy} (floor {FLOOR_OF_D2L})"));
}

/// Under `make torture`: five minutes.
#[test]
fn no_run_of_the_stable_preset_dies() {
    if tries(0, 1) == 0 {
        return;
    }
    let Some(place) = Place::new() else { return };
    let short = "--resize 67 --epochs 4 --train-limit 6000 --test-limit 1000";
    let all =
        [0, 1, 2].map(|seed| trained(&place, &format!("--preset stable {short} --seed {seed} --out stable-{seed}")));
    let (least, mean) = (all.into_iter().fold(1.0, f64::min), all.iter().sum::<f64>() / all.len() as f64);
    let [each, usual] = FLOORS_OF_STABLE;
    assert!(least >= each && mean >= usual, "{all:?}, at least {each} each and {usual} in the mean are usual");
    kept(
        16,
        format!("preset stable, 188 steps at 67×67: test accuracy {mean:.3} over three seeds, each at least {each}"),
    );
}

/// The losses of steps on one batch.
#[cfg(feature = "cuda")]
fn losses<B: Backend<Scalar = f32>>(backend: &B, batch: &mlpconv::data::Batch, steps: usize) -> Vec<f64> {
    let mut trainer = trainer(backend, 0);
    let step = |_| {
        trainer.reset_reading().unwrap();
        let shape = mlpconv::Shape::image(batch.len(), 1, 28, 28);
        trainer.step(&batch.images, shape, &batch.labels, 0.005).unwrap();
        trainer.reading().unwrap().loss
    };
    (0..steps).map(step).collect()
}

#[cfg(feature = "cuda")]
#[test]
fn a_gpus_loss_falls_like_a_cpus() {
    use mlpconv::Precision;

    use super::gpu;

    let Some([train, _]) = images() else { return };
    let (batch, steps) = (loader(&train, 8, Order::Sequential).epoch(0).unwrap().next().unwrap(), tries(16, 40));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let wanted = losses(&Cpu::<f32>::new(), &batch, steps);
    // What rounding changes grows from step to step.
    for (precision, tolerance) in [(Precision::Fp32, 0.01), (Precision::Tf32, 0.1), (Precision::Bf16, 0.1)] {
        let Some(gpu) = gpu::gpu(precision) else { return };
        let found = losses(&*gpu, &batch, steps);
        let what = format!("{precision}: {found:.3?}, and on a CPU {wanted:.3?}");
        // The first loss is that of the same weights.
        assert!((found[0] / wanted[0] - 1.0).abs() < 0.01, "{what}");
        assert!((mean(&found) / mean(&wanted) - 1.0).abs() < tolerance, "{what}");
        assert!(mean(&found[steps - 4..]) < 0.6 * found[0], "{what}");
    }
    kept(16, format!("{steps} steps on a GPU: the loss within 1 % of a CPU's in fp32, within 10 % in tf32 and bf16"));
}

//! Whole networks on the CUDA kernels: a training step of the book's network at each precision against `Cpu<f64>`,
//! twenty steps of `small` against the CPU's, the same bits on every run, and no allocation in the steady state.
#![cfg(feature = "cuda")]

mod gpu;

use std::env;
use std::process::Command;
use std::sync::Arc;

use mlpconv::data::{Dataset, Flip, Loader, LoaderConfig, Order};
use mlpconv::device::cuda::Occupancy;
use mlpconv::device::{Real, Role, StepScalars};
use mlpconv::nn::{Module, Nin, Summary};
use mlpconv::ops::Affine;
use mlpconv::ops::adamw::{self, AdamWStep};
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::optim::{AdamW, Average, Optimizer, OptimizerKind, Sgd};
use mlpconv::shape::Window;
use mlpconv::train::{Position, Preset, Resident, TrainConfig, Trainer};
use mlpconv::{Backend, Cpu, Cuda, Device, Mode, Param, Precision, Shape, Tape};

/// The results of a training step.
struct Step {
    loss: f64,
    logits: Vec<f64>,
    /// For each parameter: its name, its gradient, and its values after the update.
    params: Vec<(String, Vec<f64>, Vec<f64>)>,
}

fn wide<S: Real>(values: Vec<S>) -> Vec<f64> {
    values.into_iter().map(Real::to_f64).collect()
}

/// Grey levels that every precision stores without rounding.
fn images<S: Real>(shape: Shape) -> Vec<S> {
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 25;
    (0..shape.len()).map(|i| S::from_f64(f64::from(noise(i)) / 128.0)).collect()
}

/// Forward, all gradients and one update of the book's network at its own size.
fn step<B: Backend>(backend: &B) -> Step {
    let (shape, labels) = (Shape::image(2, 1, 224, 224), [3, 7]);
    let mut net = Nin::d2l(backend, 3).unwrap();
    let mut tape = Tape::new(backend, Mode::Training { seed: 3, epoch: 1, step: 2 });
    let x = tape.constant(backend.upload(Role::Activation, &images(shape)).unwrap(), shape).unwrap();
    let y = net.forward(&mut tape, x).unwrap();
    let logits = wide(backend.download(y.data()).unwrap());
    let mut meter = Meter::new(backend).unwrap();
    let loss = tape.cross_entropy(&y, &backend.upload_bytes(&labels).unwrap(), &mut meter).unwrap();
    drop(y);
    let grads = tape.backward(loss).unwrap();
    let gradients: Vec<Vec<f64>> = net
        .params()
        .into_iter()
        .map(|(_, param)| wide(backend.download(grads.of_param(param).expect("a gradient")).unwrap()))
        .collect();
    Sgd::new(backend).step(net.params_mut(), &grads, 0.1).unwrap();
    let updated = net.params().into_iter().zip(gradients);
    let params = updated.map(|((name, param), g)| (name, g, wide(backend.download(param.data()).unwrap()))).collect();
    Step { loss: meter.read(backend).unwrap().loss, logits, params }
}

/// The relative error of `got`: the Euclidean distance from `want`, divided by the norm of `want`.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let length = norm(&mut want.iter().copied());
    assert!(length > 0.0, "there is nothing to compare with");
    norm(&mut got.iter().zip(want).map(|(a, b)| a - b)) / length
}

/// The relative error of a layer's output at a precision: that of rounding a product's operands, or of its sums.
fn unit(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 2f64.powi(-24),
        Precision::Tf32 => 2f64.powi(-12),
        Precision::Bf16 => 2f64.powi(-9),
    }
}

/// The limit of the relative error after twelve layers. Each adds an independent error of [`unit`], together √12 of
/// it; the limit is twice that.
fn forward_limit(precision: Precision) -> f64 {
    2.0 * 12f64.sqrt() * unit(precision)
}

/// The limit of the relative error of a gradient that has passed `branches` ReLUs and pools, the nearest to the
/// parameter included. If the inputs of a ReLU or pool have a relative error u, about a share u of its elements takes
/// the other branch, and their gradients are entirely different. That is a relative error of √u at each, and the
/// squares add up. The limit is twice the root of their sum. In a deep network this exceeds the error of rounding
/// itself.
fn backward_limit(precision: Precision, branches: usize) -> f64 {
    2.0 * (branches as f64 * unit(precision)).sqrt()
}

/// The ReLUs and pools from a parameter's layer to the loss.
fn branches(name: &str) -> usize {
    let numbers: Vec<usize> = name.split('.').filter_map(|part| part.parse().ok()).collect();
    let &[block, layer] = &numbers[..] else { panic!("{name} is not a parameter of a block") };
    // Blocks are modules 0, 2, 4 and 7, with a pool after each but the last; their convolutions are layers 0, 2 and 4.
    let after = [0, 2, 4, 7].iter().filter(|later| **later > block).count();
    (3 - layer / 2) + 3 * after + after
}

fn the_books_network_at(precision: Precision) {
    let Some(cuda) = gpu::gpu(precision) else { return };
    let (want, got) = (step(&Cpu::<f64>::new()), step(&*cuda));
    let (off, limit) = (distance(&got.logits, &want.logits), forward_limit(precision));
    println!("{precision}: logits {off:.1e} (limit {limit:.1e}), loss {} and {}", got.loss, want.loss);
    assert!(off <= limit, "{precision}: the logits are {off:e} off");
    assert!((got.loss - want.loss).abs() <= limit, "{precision}: loss {} and {}", got.loss, want.loss);
    assert_eq!(want.params.len(), 24);
    for ((name, gradient, updated), (_, right_gradient, right_updated)) in got.params.iter().zip(&want.params) {
        let (off, limit) = (distance(gradient, right_gradient), backward_limit(precision, branches(name)));
        let moved = distance(updated, right_updated);
        println!("{precision}: {name:<12} gradient {off:.1e} (limit {limit:.1e}), updated {moved:.1e}");
        assert!(off <= limit, "{precision}: the gradient of {name} is {off:e} off, not {limit:e}");
        // The update is 0.1 of the gradient, so it adds 0.1 of the gradient's error, and one rounding of the parameter.
        let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let limit = 0.1 * off * length(right_gradient) / length(right_updated) + 2f64.powi(-23);
        assert!(moved <= limit, "{precision}: {name} is {moved:e} off after the update, not {limit:e}");
    }
}

#[test]
fn the_books_network_in_fp32() {
    the_books_network_at(Precision::Fp32);
}

#[test]
fn the_books_network_in_tf32() {
    the_books_network_at(Precision::Tf32);
}

#[test]
fn the_books_network_in_bf16() {
    the_books_network_at(Precision::Bf16);
}

/// A learnable data set of `n` images: each class is a bar at a position of its own, under noise.
fn dataset(n: usize) -> Arc<Dataset> {
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 26) as u8;
    let pixel = |i: usize| {
        let (image, row) = (i / 784, i % 784 / 28);
        let lit = row / 2 == image % 10 + 2;
        noise(i) + if lit { 190 } else { 0 }
    };
    let labels = (0..n).map(|i| (i % 10) as u8).collect();
    Arc::new(Dataset::new((0..n * 784).map(pixel).collect(), labels, 28, 28, 10).unwrap())
}

/// Three batches of eight images an epoch, the last of them short.
fn loader() -> Loader {
    let config = LoaderConfig { batch_size: 8, height: 28, width: 28, order: Order::Shuffled { seed: 5 } };
    Loader::new(dataset(21), config).unwrap()
}

/// The losses of `steps` steps of `small` with shuffling and dropout, and the parameters after them.
fn train<B: Backend<Scalar = f32>>(
    backend: &B,
    optimizer: impl Into<Box<dyn Optimizer<B>>>,
    steps: usize,
) -> (Vec<f64>, Vec<Vec<f32>>) {
    let loader = loader();
    let net = Nin::small(backend, 5).unwrap();
    let mut trainer = Trainer::new(backend, net, optimizer, 5).unwrap();
    let mut losses = Vec::new();
    for epoch in 0.. {
        trainer.position = Position { epoch, step: 0 };
        for batch in loader.epoch(epoch).unwrap().take(steps - losses.len()) {
            trainer.reset_reading().unwrap();
            trainer
                .step(&batch.images, Shape::image(batch.len(), 1, 28, 28), &batch.labels, RATE / f64::from(epoch + 1))
                .unwrap();
            losses.push(trainer.reading().unwrap().loss);
        }
        if losses.len() == steps {
            break;
        }
    }
    let params = trainer.net.params().into_iter().map(|(_, param)| backend.download(param.data()).unwrap()).collect();
    (losses, params)
}

const RATE: f64 = 0.005;

/// SGD with the momentum of `small`'s recipe.
fn sgd<B: Backend>(backend: &B) -> Sgd<B> {
    Sgd::new(backend).with_momentum(0.9)
}

/// The losses of `small` on a GPU are the CPU's up to rounding, as the same seed gives the same batches and dropout.
/// Rounding changes a loss by the error of a forward pass, and each update by the error of a gradient, which momentum
/// lets grow by about a third from step to step.
#[test]
fn small_learns_as_on_the_cpu() {
    let steps = 14;
    let (want, _) = train(&Cpu::<f32>::new(), sgd(&Cpu::new()), steps);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&want[steps - 5..]) < mean(&want[..5]) - 0.02, "there should be something to learn: {want:?}");
    for precision in Precision::ALL {
        let Some(cuda) = gpu::gpu(precision) else { return };
        let (got, _) = train(&*cuda, sgd(&*cuda), steps);
        for (step, (got, want)) in got.iter().zip(&want).enumerate() {
            let updates = RATE * unit(precision).sqrt() * (4f64 / 3.0).powi(step as i32);
            let limit = want * (forward_limit(precision) + updates);
            println!("{precision}, step {step}: {got:.7}, {:.1e} off (limit {limit:.1e})", (got - want).abs());
            assert!((got - want).abs() <= limit, "{precision}, step {step}: loss {got}, the CPU's {want}");
        }
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    for precision in Precision::ALL {
        let Some(cuda) = gpu::gpu(precision) else { return };
        assert!(train(&*cuda, sgd(&*cuda), 3) == train(&*cuda, sgd(&*cuda), 3), "{precision}");
    }
}

/// Blocks that are given back while there is work beside that of the device's stream may be in use by it, and are lent again after
/// it.
#[test]
fn memory_that_is_given_back_beside_other_work_waits_for_it() {
    let Some(cuda) = gpu::gpu(Precision::Fp32) else { return };
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
    let Some(cuda) = gpu::gpu(Precision::Fp32) else { return };
    for (got, want) in gradients(&*cuda).iter().zip(gradients(&Cpu::<f64>::new())) {
        assert!(distance(got, &want) < 1e-5, "{got:?}, not {want:?}");
    }
}

const UNORDERED: &str = "what_runs_beside_other_work_is_ordered_by_waiting_for_it";

/// The virtual GPU traps what nothing orders, which is why the other tests prove that gradients beside one another are waited for.
/// Its trap ends a process of its own.
#[test]
fn what_runs_beside_other_work_is_ordered_by_waiting_for_it() {
    const WAITS: &str = "MLPCONV_TEST_WAITS";
    if gpu::real() {
        return;
    }
    if let Some(waits) = env::var_os(WAITS) {
        let Some(cuda) = gpu::gpu(Precision::Fp32) else { return };
        let [y, mut buf] = [0.0, 1.0].map(|value| cuda.upload(Role::Parameter, &[value; 1000]).unwrap());
        let fork = cuda.fork().unwrap();
        fork.relu_mask(&y, &mut buf).unwrap();
        if waits == "yes" {
            cuda.wait_for(&fork).unwrap();
        }
        assert_eq!(cuda.download(&buf).unwrap(), [0.0; 1000]);
        return;
    }
    if gpu::gpu(Precision::Fp32).is_none() {
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

/// Trains on a data set in device memory. Returns the loss of each step, and the parameters in the end. From the third
/// run of a batch size on, a step is a replay.
fn train_resident<B: Backend<Scalar = f32>>(
    backend: &B,
    optimizer: impl Into<Box<dyn Optimizer<B>>>,
    steps: usize,
) -> (Vec<f64>, Vec<Vec<f32>>) {
    let net = Nin::small(backend, 5).unwrap();
    let mut trainer = Trainer::new(backend, net, optimizer, 5).unwrap();
    let data = Resident::new(backend, loader()).unwrap();
    let mut losses = Vec::new();
    for epoch in 0.. {
        trainer.position = Position { epoch, step: 0 };
        for _ in 0..data.loader().steps().min(steps - losses.len()) {
            trainer.reset_reading().unwrap();
            assert!(trainer.step_resident(&data, RATE / f64::from(epoch + 1)).unwrap() > 0);
            losses.push(trainer.reading().unwrap().loss);
        }
        if losses.len() == steps {
            break;
        }
    }
    let params = trainer.net.params().into_iter().map(|(_, param)| backend.download(param.data()).unwrap()).collect();
    (losses, params)
}

/// Steps on resident data have the bits of steps on batches from the host. The device resizes and normalises the
/// images, the order and the rate change with the epoch, there is dropout, and from the third run on a step replays a
/// recorded graph.
#[test]
fn replayed_steps_on_resident_data_have_the_bits_of_steps_from_the_host() {
    for precision in Precision::ALL {
        let Some(cuda) = gpu::gpu(precision) else { return };
        assert!(train_resident(&*cuda, sgd(&*cuda), 5) == train(&*cuda, sgd(&*cuda), 5), "{precision}");
    }
}

/// The same for AdamW: its corrections differ from step to step as well, and a replay counts as an update.
#[test]
fn replayed_steps_of_adamw_have_the_bits_of_steps_from_the_host() {
    for precision in Precision::ALL {
        let Some(cuda) = gpu::gpu(precision) else { return };
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
        let Some(cuda) = gpu::gpu(precision) else { return };
        assert!(updated(&mut run(&*cuda, &numbers)) == want, "{precision}");
    }
}

/// The parameters after four steps of `small` on resized colour images of four classes, three batches an epoch.
/// Batches come from the device, where the last two steps are replays, or from the host.
fn train_in_colour(cuda: &Cuda, resident: bool) -> Vec<Vec<f32>> {
    let values = (0..9 * 20 * 24 * 3).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let labels = (0..9).map(|i| i % 4).collect();
    let names = (0..4).map(|class| class.to_string()).collect();
    let dataset = Dataset::with_channels(values, labels, [20, 24, 3], names).unwrap();
    let config = LoaderConfig { batch_size: 3, height: 28, width: 28, order: Order::Shuffled { seed: 5 } };
    let loader = Loader::new(Arc::new(dataset), config).unwrap();
    let net = Nin::small_for(cuda, 5, 3, 4).unwrap();
    let mut trainer = Trainer::new(cuda, net, Sgd::new(cuda).with_momentum(0.9), 5).unwrap();
    let data = Resident::new(cuda, loader.clone()).unwrap();
    for (epoch, steps) in [(0, 3), (1, 1)] {
        trainer.position = Position { epoch, step: 0 };
        for batch in loader.epoch(epoch).unwrap().take(steps) {
            match resident {
                true => assert_eq!(trainer.step_resident(&data, RATE).unwrap(), 3),
                false => trainer.step(&batch.images, Shape::image(3, 3, 28, 28), &batch.labels, RATE).unwrap(),
            }
        }
    }
    trainer.net.params().into_iter().map(|(_, param)| cuda.download(param.data()).unwrap()).collect()
}

#[test]
fn resident_colour_images_train_to_the_bits_of_host_batches() {
    for precision in Precision::ALL {
        let Some(cuda) = gpu::gpu(precision) else { return };
        assert!(train_in_colour(&cuda, true) == train_in_colour(&cuda, false), "{precision}");
    }
}

/// The parameters, and their averages, after five steps of a recipe that changes images, smooths labels, lets weights alone decay,
/// multiplies rates and averages: two batches an epoch, from the device, where the last steps are replays, or from the host.
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
        let Some(cuda) = gpu::gpu(precision) else { return };
        let host = train_by_a_recipe(&cuda, channels, false);
        assert!(train_by_a_recipe(&cuda, channels, true) == host, "{precision}, {channels} channels");
        let (params, averages) = host.split_at(host.len() / 2);
        assert!(params.iter().zip(averages).all(|(param, average)| param != average), "the average lags behind");
    }
}

/// A device of the test's own, so that buffers of other tests are not counted.
fn own(precision: Precision) -> Option<Cuda> {
    drop(gpu::gpu(precision)?);
    Some(Cuda::new(0, precision).unwrap())
}

/// By shared memory: the registers, a compiler divides for as many blocks as a kernel is declared with. On a card, by both.
#[test]
fn as_many_blocks_of_a_kernel_fit_as_launches_count_on() {
    for precision in Precision::ALL {
        let Some(gpu) = gpu::gpu(precision) else { return };
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
    let kinds = OptimizerKind::ALL.into_iter();
    for (kind, precision) in kinds.flat_map(|kind| Precision::ALL.map(|precision| (kind, precision))) {
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

#[test]
fn initial_values_do_not_depend_on_the_device() {
    let Some(cuda) = gpu::gpu(Precision::Bf16) else { return };
    let (a, b) = (Nin::small(&*cuda, 9).unwrap(), Nin::small(&Cpu::<f32>::new(), 9).unwrap());
    for ((name, a), (_, b)) in a.params().into_iter().zip(b.params()) {
        assert!(cuda.download(a.data()).unwrap() == b.data()[..], "{name}");
    }
}

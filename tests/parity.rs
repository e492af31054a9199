//! The crate against PyTorch (tests/fixtures/parity): logits, gradients and losses of a narrow d2l NiN, a step of
//! `cifar` at its own size, and the weights files that the two exchange.

#[cfg(feature = "cuda")]
mod gpu;

use mlpconv::Backend;
use mlpconv::device::Real;
use mlpconv::nn::Nin;
use safetensors::{Dtype, SafeTensors};

mod fixture {
    use super::*;

    const BYTES: &[u8] = include_bytes!("fixtures/parity/nin-12-20-28.safetensors");
    pub const CHANNELS: [usize; 3] = [12, 20, 28];

    /// A tensor in PyTorch's layout, in f32.
    pub struct Tensor {
        pub dims: Vec<usize>,
        pub values: Vec<f32>,
    }

    impl Tensor {
        /// The values in this crate's memory order: weights KRSC where PyTorch has OIHW.
        pub fn in_memory_order<T: Real>(&self) -> Vec<T> {
            let real = |&value: &f32| T::from_f64(f64::from(value));
            let &[o, i, h, w] = &self.dims[..] else { return self.values.iter().map(real).collect() };
            let mut out = Vec::with_capacity(self.values.len());
            for k in 0..o {
                for r in 0..h {
                    for s in 0..w {
                        for c in 0..i {
                            out.push(real(&self.values[((k * i + c) * h + r) * w + s]));
                        }
                    }
                }
            }
            out
        }
    }

    pub fn file() -> SafeTensors<'static> {
        SafeTensors::deserialize(BYTES).unwrap()
    }

    pub fn tensor(name: &str) -> Tensor {
        let file = file();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        Tensor { dims: view.shape().to_vec(), values: bytemuck::pod_collect_to_vec(view.data()) }
    }

    /// The content of `adamw.json`: PyTorch's settings, and the loss before each of ten steps, computed in f64.
    #[derive(serde::Deserialize)]
    pub struct AdamWRun {
        pub rate: f64,
        pub betas: [f64; 2],
        pub eps: f64,
        pub weight_decay: f64,
        pub losses: Vec<f64>,
    }

    pub fn adamw_run() -> AdamWRun {
        serde_json::from_str(include_str!("fixtures/parity/adamw.json")).unwrap()
    }

    /// The labels `y`.
    pub fn labels() -> Vec<u8> {
        let file = file();
        let classes: Vec<i64> = bytemuck::pod_collect_to_vec(file.tensor("y").unwrap().data());
        classes.into_iter().map(|class| u8::try_from(class).unwrap()).collect()
    }

    /// The fixture's network, with freshly drawn weights.
    pub fn blank<B: Backend>(backend: &B, seed: u64) -> Nin<B> {
        Nin::d2l_with_channels(backend, seed, CHANNELS, 0.0).unwrap()
    }
}

mod numbers {
    //! Logits, gradients and losses.

    use mlpconv::device::Role;
    use mlpconv::nn::Module;
    use mlpconv::ops::cross_entropy::Meter;
    use mlpconv::optim::{AdamW, Optimizer, Sgd};
    use mlpconv::train::Trainer;
    use mlpconv::{Cpu, Mode, Shape, Tape};

    use super::fixture::{AdamWRun, adamw_run, blank, labels, tensor};
    use super::*;

    /// The largest difference from PyTorch's values, relative to the largest value.
    ///
    /// PyTorch's values are f32 sums of up to 500 products (and up to 1,352 positions in a weight's gradient). So each
    /// layer adds a relative error of some √500 · 2⁻²⁴ ≈ 1.3e-6, and twelve layers, forward and backward, some √24
    /// times that: 6.5e-6. A backend in f32 has an independent error of the same size.
    const TOLERANCE: f64 = 1e-5;
    /// The largest difference of a loss: eight times 1.2e-7, the rounding of an f32 near 2.2. The logits add less, and
    /// ten steps at a rate of 0.05 add little.
    const LOSS_TOLERANCE: f64 = 1e-6;

    /// The network with the fixture's parameters, and its images.
    fn start<B: Backend>(backend: &B) -> (Nin<B>, Vec<B::Scalar>, Shape) {
        let mut net = blank(backend, 1);
        for (name, param) in net.params_mut() {
            let values = tensor(&format!("param.{name}"));
            assert_eq!(values.dims, param.shape().dims(), "{name}");
            param.set(backend, &values.in_memory_order()).unwrap();
        }
        let x = tensor("x");
        let &[n, 1, h, w] = &x.dims[..] else { panic!("x has shape {:?}", x.dims) };
        // One channel: NCHW and NHWC are the same order.
        let images = x.values.iter().map(|&v| Real::from_f64(f64::from(v))).collect();
        (net, images, Shape::image(n, 1, h, w))
    }

    /// Asserts that `ours` is `theirs` within [`TOLERANCE`].
    fn compare<T: Real>(what: &str, ours: &[T], theirs: &[T]) {
        let wide = |values: &[T]| values.iter().map(|&v| Real::to_f64(v)).collect::<Vec<_>>();
        let (ours, theirs) = (wide(ours), wide(theirs));
        assert_eq!(ours.len(), theirs.len(), "{what}");
        // `f64::max` ignores NaN, so it is checked here.
        assert!(ours.iter().all(|v| v.is_finite()), "{what} is not finite");
        let largest = theirs.iter().map(|v| v.abs()).fold(0.0, f64::max);
        let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
        println!("{what:<16} {difference:.2e} of the largest, {largest:.3e}");
        assert!(difference <= TOLERANCE, "{what} is {difference:e} of its largest value off");
    }

    fn logits<B: Backend>(backend: &B) {
        let (net, images, shape) = start(backend);
        let trainer = Trainer::new(backend, net, Sgd::new(backend), 0).unwrap();
        let ours = trainer.predict(&images, shape).unwrap();
        compare("logits", &ours, &tensor("logits").in_memory_order());
    }

    fn gradients<B: Backend>(backend: &B) {
        let (net, images, shape) = start(backend);
        let mut tape = Tape::new(backend, Mode::Training { seed: 0, epoch: 0, step: 0 });
        let x = tape.constant(backend.upload(Role::Activation, &images).unwrap(), shape).unwrap();
        let logits = net.forward(&mut tape, x).unwrap();
        let mut meter = Meter::new(backend).unwrap();
        let labels = backend.upload_bytes(&labels()).unwrap();
        let loss = tape.cross_entropy(&logits, &labels, &mut meter).unwrap();
        let grads = tape.backward(loss).unwrap();
        let params = net.params();
        assert_eq!(params.len(), 24);
        for (name, param) in params {
            let ours = backend.download(grads.of_param(param).expect("a gradient")).unwrap();
            compare(&format!("grad.{name}"), &ours, &tensor(&format!("grad.{name}")).in_memory_order());
        }
    }

    /// Asserts that the losses before ten steps are `theirs` within `tolerance`.
    fn losses<B: Backend>(
        backend: &B,
        optimizer: impl Into<Box<dyn Optimizer<B>>>,
        rate: f64,
        theirs: &[f64],
        tolerance: f64,
    ) {
        let (net, images, shape) = start(backend);
        let mut trainer = Trainer::new(backend, net, optimizer, 0).unwrap();
        assert_eq!(theirs.len(), 10);
        for (step, theirs) in theirs.iter().enumerate() {
            trainer.reset_reading().unwrap();
            trainer.step(&images, shape, &labels(), rate).unwrap();
            let ours = trainer.reading().unwrap().loss;
            let difference = (ours - theirs).abs();
            println!("{}, loss {step}: {ours} is {difference:.2e} off", trainer.optimizer.name());
            assert!(difference <= tolerance, "step {step}: loss {ours}, PyTorch's {theirs}");
        }
    }

    fn sgd_losses<B: Backend>(backend: &B) {
        let theirs: Vec<f64> = tensor("losses").values.into_iter().map(f64::from).collect();
        losses(backend, Sgd::new(backend), 0.05, &theirs, LOSS_TOLERANCE);
    }

    fn adamw_losses<B: Backend>(backend: &B, tolerance: f64) {
        let AdamWRun { rate, betas, eps, weight_decay, losses: theirs } = adamw_run();
        let optimizer = AdamW::new(backend).with_betas(betas).with_eps(eps).with_weight_decay(weight_decay);
        losses(backend, optimizer, rate, &theirs, tolerance);
    }

    #[test]
    fn logits_are_pytorchs() {
        logits(&Cpu::<f64>::new());
        logits(&Cpu::<f32>::new());
    }

    /// On the CUDA kernels, in fp32.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_computes_and_learns_as_pytorch() {
        let Some(cuda) = crate::gpu::gpu(mlpconv::Precision::Fp32) else { return };
        logits(&*cuda);
        gradients(&*cuda);
        sgd_losses(&*cuda);
        adamw_losses(&*cuda, LOSS_TOLERANCE);
    }

    #[test]
    fn gradients_are_pytorchs() {
        gradients(&Cpu::<f64>::new());
        gradients(&Cpu::<f32>::new());
    }

    #[test]
    fn sgd_takes_pytorchs_path() {
        sgd_losses(&Cpu::<f64>::new());
        sgd_losses(&Cpu::<f32>::new());
    }

    /// PyTorch computed AdamW's losses in f64, so a backend in f64 agrees up to rounding.
    #[test]
    fn adamw_takes_pytorchs_path() {
        adamw_losses(&Cpu::<f64>::new(), 1e-12);
        adamw_losses(&Cpu::<f32>::new(), LOSS_TOLERANCE);
    }
}

mod cifar {
    //! The paper's network at its own size: the layers of a block differ in width, and images have three channels.

    use std::collections::BTreeMap;

    use mlpconv::device::Role;
    use mlpconv::nn::Module;
    use mlpconv::ops::cross_entropy::Meter;
    use mlpconv::{Cpu, Mode, Shape, Tape};
    use serde::Deserialize;

    use super::*;

    /// The fixture that tests/pytorch/make_cifar_fixture.py writes.
    #[derive(Deserialize)]
    struct Fixture {
        labels: Vec<u8>,
        logits: Vec<f64>,
        loss: f64,
        gradients: BTreeMap<String, Gradient>,
    }

    /// The gradient of a parameter: its sum, its norm, and samples.
    #[derive(Deserialize)]
    struct Gradient {
        sum: f64,
        norm: f64,
        /// The values at the script's places, which are in PyTorch's layout.
        values: Vec<f64>,
    }

    /// Element `i` of tensor `tensor`, in [-1, 1): the formula of the script.
    fn noise(tensor: u32, i: usize) -> f64 {
        let mut word = (i as u32).wrapping_add(tensor.wrapping_mul(0x9e37_79b9));
        for (shift, factor) in [(16, 0x85eb_ca6b), (13, 0xc2b2_ae35)] {
            word = (word ^ (word >> shift)).wrapping_mul(factor);
        }
        word ^= word >> 16;
        f64::from(word >> 8) / f64::from(1u32 << 23) - 1.0
    }

    /// The memory index (NHWC, KRSC) of element `i` in PyTorch's order (NCHW, OIHW).
    fn place(dims: &[usize], i: usize) -> usize {
        let &[_, c, h, w] = dims else { return i };
        let (outer, channel, inner) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
        (outer * h * w + inner) * c + channel
    }

    /// Rounds values to f32 and brings them from PyTorch's order into memory order.
    fn in_memory_order<T: Real>(dims: &[usize], value: impl Fn(usize) -> f64) -> Vec<T> {
        let mut out = vec![T::from_f64(0.0); dims.iter().product()];
        (0..out.len()).for_each(|i| out[place(dims, i)] = T::from_f64(f64::from(value(i) as f32)));
        out
    }

    /// Compares a step on `backend`, whose sums have a relative error of `unit` for each term. A logit passes nine
    /// layers of sums. A ReLU or a maximum may take the other branch where its inputs are as close to a tie as their
    /// error, for a share of about `unit` of its elements. Each of the ten in a row adds a relative error of √`unit`
    /// to a gradient. The squares add up, and the limit is twice the root of their sum.
    fn check<B: Backend>(backend: &B, unit: f64) {
        let fixture: Fixture = serde_json::from_str(include_str!("fixtures/parity/cifar.json")).unwrap();
        let mut net = Nin::cifar_with_dropout(backend, 1, 3, 10, 0.0).unwrap();
        for (tensor, (_, param)) in (1..).zip(net.params_mut()) {
            let dims = param.shape().dims().to_vec();
            let bound = match dims[..] {
                [_] => 0.05,
                _ => (6.0 / dims[1..].iter().product::<usize>() as f64).sqrt(),
            };
            param.set(backend, &in_memory_order(&dims, |i| bound * noise(tensor, i))).unwrap();
        }
        let shape = Shape::image(2, 3, 32, 32);
        let images: Vec<B::Scalar> = in_memory_order(shape.dims(), |i| 0.5 + 0.5 * noise(0, i));

        let mut tape = Tape::new(backend, Mode::Training { seed: 0, epoch: 0, step: 0 });
        let x = tape.constant(backend.upload(Role::Activation, &images).unwrap(), shape).unwrap();
        let logits = net.forward(&mut tape, x).unwrap();
        let ours: Vec<f64> = backend.download(logits.data()).unwrap().into_iter().map(Real::to_f64).collect();
        let forward = 2.0 * 9f64.sqrt() * unit * fixture.logits.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        for (ours, theirs) in ours.iter().zip(&fixture.logits) {
            assert!((ours - theirs).abs() <= forward, "logit {ours}, PyTorch's {theirs}");
        }
        let mut meter = Meter::new(backend).unwrap();
        let labels = backend.upload_bytes(&fixture.labels).unwrap();
        let loss = tape.cross_entropy(&logits, &labels, &mut meter).unwrap();
        drop(logits);
        let grads = tape.backward(loss).unwrap();
        let loss = meter.read(backend).unwrap().loss;
        assert!((loss - fixture.loss).abs() <= forward.max(1e-6), "loss {loss}, PyTorch's {}", fixture.loss);

        let params = net.params();
        assert_eq!((params.len(), fixture.gradients.len()), (18, 18));
        let limit = 2.0 * (10.0 * unit).sqrt();
        for (name, param) in params {
            let theirs = &fixture.gradients[&name];
            let shape = param.shape();
            let dims = shape.dims();
            let memory = backend.download(grads.of_param(param).expect("a gradient")).unwrap();
            let ours: Vec<f64> = (0..memory.len()).map(|i| Real::to_f64(memory[place(dims, i)])).collect();
            let norm = ours.iter().map(|v| v * v).sum::<f64>().sqrt();
            // The error of a sum of n gradients, each of which may be off by its share of the norm.
            let sum = (ours.iter().sum::<f64>() - theirs.sum).abs() / (theirs.norm * (ours.len() as f64).sqrt());
            let norm = (norm - theirs.norm).abs() / theirs.norm;
            let count = theirs.values.len();
            let sampled = (0..count).map(|i| ours[i * 104_729 % ours.len()] - theirs.values[i]);
            let off = sampled.map(|v| v * v).sum::<f64>().sqrt();
            let length = theirs.values.iter().map(|v| v * v).sum::<f64>().sqrt();
            let off = off / length;
            println!("{name:<12} values {off:.1e}, norm {norm:.1e}, sum {sum:.1e} (limit {limit:.1e})");
            assert!(off <= limit, "{name}: values are {off:e} off");
            assert!(norm <= limit && sum <= limit, "{name}: norm {norm:e} and sum {sum:e} off");
        }
    }

    /// In f64 no branch is taken differently: the only error is that of the order of sums.
    #[test]
    fn a_step_is_pytorchs_on_a_cpu() {
        check(&Cpu::<f64>::new(), 2f64.powi(-53));
        check(&Cpu::<f32>::new(), 2f64.powi(-24));
    }

    /// On the CUDA kernels, in fp32.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_step_is_pytorchs_on_a_gpu() {
        let Some(cuda) = crate::gpu::gpu(mlpconv::Precision::Fp32) else { return };
        check(&*cuda, 2f64.powi(-24));
    }
}

mod weights_files {
    //! Weights files: those exchanged with PyTorch, and those that are refused.

    use std::fs;
    use std::path::{Path, PathBuf};

    use mlpconv::nn::Module;
    use mlpconv::{Cpu, Device, Error, weights};
    use safetensors::tensor::TensorView;
    use tempfile::TempDir;

    use super::fixture::{blank, file, tensor};
    use super::*;

    /// A tensor of a file: name, type, shape and bytes.
    type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

    /// The fixture's parameters, named as in a state dict.
    fn state_dict() -> Vec<Entry> {
        let entry = |(name, view): (&str, TensorView)| {
            let name = name.strip_prefix("param.")?;
            Some((name.to_owned(), view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        };
        let file = file();
        let entries: Vec<Entry> = file.iter().filter_map(entry).collect();
        assert_eq!(entries.len(), 24);
        entries
    }

    fn write(path: &Path, entries: &[Entry]) {
        let mut views = Vec::with_capacity(entries.len());
        for (name, dtype, dims, bytes) in entries {
            views.push((name, TensorView::new(*dtype, dims.clone(), bytes).unwrap()));
        }
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    /// The bits of every parameter.
    fn bits<B: Backend<Scalar = f32>>(backend: &B, net: &Nin<B>) -> Vec<(String, Vec<u32>)> {
        let download = |(name, param): (String, &mlpconv::Param<B>)| {
            let values = backend.download(param.data()).unwrap();
            (name, values.into_iter().map(f32::to_bits).collect())
        };
        net.params().into_iter().map(download).collect()
    }

    #[test]
    fn a_round_trip_keeps_every_bit() {
        let folder = TempDir::new().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let backend = Cpu::<f32>::new();
        let net = blank(&backend, 1);
        let mut other = blank(&backend, 2);
        assert_ne!(bits(&backend, &net), bits(&backend, &other));
        weights::save(&backend, &net, &first).unwrap();
        weights::load(&backend, &mut other, &first).unwrap();
        assert_eq!(bits(&backend, &net), bits(&backend, &other));
        weights::save(&backend, &other, &second).unwrap();
        assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "equal weights make equal files");
        let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!(names(folder.path()), 2, "no temporary file stays behind");
    }

    #[test]
    fn pytorchs_files_are_read_in_its_layout() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("weights");
        write(&path, &state_dict());
        let backend = Cpu::<f32>::new();
        let mut net = blank(&backend, 1);
        weights::load(&backend, &mut net, &path).unwrap();
        for (name, param) in net.params() {
            let theirs = tensor(&format!("param.{name}"));
            assert_eq!(param.shape().dims(), theirs.dims, "{name}");
            assert_eq!(backend.download(param.data()).unwrap(), theirs.in_memory_order::<f32>(), "{name}");
        }
    }

    #[test]
    fn files_are_written_in_pytorchs_layout() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("weights");
        let backend = Cpu::<f32>::new();
        let mut net = blank(&backend, 1);
        for (name, param) in net.params_mut() {
            param.set(&backend, &tensor(&format!("param.{name}")).in_memory_order()).unwrap();
        }
        weights::save(&backend, &net, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let ours = SafeTensors::deserialize(&bytes).unwrap();
        let theirs = state_dict();
        assert_eq!(ours.len(), theirs.len());
        for (name, dtype, dims, bytes) in &theirs {
            let view = ours.tensor(name).unwrap();
            assert_eq!((view.dtype(), view.shape(), view.data()), (*dtype, &dims[..], &bytes[..]), "{name}");
        }
    }

    /// Asserts that `path` is refused as a weights file, that the message contains `says`, and that no weight changed.
    fn refuse(path: &Path, says: &str) {
        let backend = Cpu::<f32>::new();
        let mut net = blank(&backend, 1);
        let before = bits(&backend, &net);
        let error = weights::load(&backend, &mut net, path).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(says), "{message}");
        match error {
            Error::Weights { path: named, .. } => assert_eq!(named, path),
            other => panic!("{says}: {other:?}"),
        }
        assert!(before == bits(&backend, &net), "{says}: the network has changed");
    }

    /// [`refuse`] for PyTorch's file with the entries changed by `change`.
    fn refuse_changed(says: &str, change: impl FnOnce(&mut Vec<Entry>)) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("weights");
        let mut entries = state_dict();
        change(&mut entries);
        write(&path, &entries);
        refuse(&path, says);
    }

    fn entry<'a>(entries: &'a mut [Entry], name: &str) -> &'a mut Entry {
        entries.iter_mut().find(|(n, ..)| n == name).unwrap()
    }

    #[test]
    fn a_missing_tensor_is_refused() {
        // The last tensor is missing: those before it must not have been loaded.
        refuse_changed("7.4.bias is missing", |entries| entries.retain(|(name, ..)| name != "7.4.bias"));
    }

    #[test]
    fn a_tensor_too_many_is_refused() {
        refuse_changed("no parameter 9.weight", |entries| {
            entries.push(("9.weight".into(), Dtype::F32, vec![1], vec![0; 4]));
        });
    }

    #[test]
    fn a_wrong_shape_is_refused() {
        refuse_changed("7.4.bias has shape [11]", |entries| {
            let (_, _, dims, bytes) = entry(entries, "7.4.bias");
            *dims = vec![11];
            bytes.extend([0; 4]);
        });
        // The same number of elements, but in KRSC.
        refuse_changed("2.0.weight has shape [20, 5, 5, 12]", |entries| {
            entry(entries, "2.0.weight").2 = vec![20, 5, 5, 12];
        });
    }

    #[test]
    fn a_wrong_type_is_refused() {
        refuse_changed("0.0.bias is F16", |entries| {
            let (_, dtype, dims, bytes) = entry(entries, "0.0.bias");
            *dtype = Dtype::F16;
            bytes.truncate(2 * dims[0]);
        });
    }

    #[test]
    fn what_is_not_a_whole_file_is_refused() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("weights");
        write(&path, &state_dict());
        let whole = fs::read(&path).unwrap();
        let cuts = [0, 7, 8, 100, whole.len() / 2, whole.len() - 1];
        for cut in cuts {
            fs::write(&path, &whole[..cut]).unwrap();
            refuse(&path, "not a safetensors file");
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        refuse(&path, "not a safetensors file");
        fs::write(&path, b"not at all what was expected here").unwrap();
        refuse(&path, "not a safetensors file");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let backend = Cpu::<f32>::new();
        let mut net = blank(&backend, 1);
        let absent = PathBuf::from("no/such/weights.safetensors");
        match weights::load(&backend, &mut net, &absent).unwrap_err() {
            Error::Io { path, .. } => assert_eq!(path, absent),
            other => panic!("{other:?}"),
        }
    }
}

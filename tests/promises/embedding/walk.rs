//! A walk over the public API with values that nobody means. Each answer is `Ok` or a typed error, and never a panic.

mod training;

use mlpconv::data::idx::Idx;
use mlpconv::data::{Augmentation, Dataset, Erasing, Flip, Loader, LoaderConfig, Normalization, Order, Resizer};
use mlpconv::device::Role;
use mlpconv::nn::{Builder, Conv2d, Dropout, Init, MaxPool, Nin, Plan, Sequential, Summary, layers};
use mlpconv::ops::cross_entropy::{Meter, Reading};
use mlpconv::ops::gather::DeviceResizer;
use mlpconv::ops::{Affine, Params};
use mlpconv::shape::{ConvShape, PoolShape, Window};
use mlpconv::weights::Tensors;
use mlpconv::{Cpu, Device, Mode, Param, Precision, Result, Shape, Tape, Var};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::net;
use crate::promise::kept;

const SIZES: [usize; 6] = [0, 1, 3, 1 << 20, 1 << 40, usize::MAX];
const NUMBERS: [f64; 11] =
    [0.0, -0.0, 0.5, 1.0, -1.0, 1e-50, 1e300, -1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
const EPOCHS: [u32; 4] = [0, 1, u32::MAX - 1, u32::MAX];
const TRAINING: Mode = Mode::Training { seed: u64::MAX, epoch: u32::MAX, step: u32::MAX };

/// What the walk has tried.
#[derive(Default)]
struct Walk {
    calls: usize,
    refused: usize,
    panics: Vec<String>,
}

impl Walk {
    /// A call that gives a value or an error.
    fn may_fail<T>(&mut self, what: impl FnOnce() -> String, call: impl FnOnce() -> Result<T>) -> Option<T> {
        self.calls += 1;
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => {
                self.refused += 1;
                let text = error.to_string();
                if text.is_empty() {
                    self.panics.push(format!("{}: an error without words", what()));
                }
            }
            Err(_) => self.panics.push(what()),
        }
        None
    }

    /// A call that must be refused.
    fn refused<T>(&mut self, what: impl Fn() -> String, call: impl FnOnce() -> Result<T>) {
        if self.may_fail(&what, call).is_some() {
            self.panics.push(format!("{}: accepted", what()));
        }
    }

    /// A call that gives a value.
    fn gives<T>(&mut self, what: impl FnOnce() -> String, call: impl FnOnce() -> T) -> Option<T> {
        self.may_fail(what, || Ok(call()))
    }

    fn ended(self, what: &str) {
        assert!(self.panics.is_empty(), "{} of {} calls:\n{}", self.panics.len(), self.calls, self.panics.join("\n"));
        assert!(self.refused > 0, "nothing was refused");
        kept(15, format_args!("{what}: {} calls with hostile values, {} refused, 0 panics", self.calls, self.refused));
    }
}

#[test]
fn shapes_and_plans_built_by_hand() {
    let mut walk = Walk::default();
    for a in SIZES {
        for b in SIZES {
            let shapes = [Shape::vector(a), Shape::matrix(a, b), Shape::image(a, b, a, b), Shape::weight(b, a, 3, a)];
            for shape in shapes {
                walk.gives(
                    || format!("{shape}"),
                    || (shape.len(), shape.flattened(), shape.pooled(), shape.with_batch(b).to_string()),
                );
                for other in shapes {
                    let window = Window { stride: a, pad: b };
                    walk.may_fail(
                        || format!("ConvShape::new {shape} {other} {window:?}"),
                        || {
                            ConvShape::new("conv2d", shape, other, window)
                                .map(|conv| (conv.whole(), conv.cropped(a, b).macs()))
                        },
                    );
                }
                walk.may_fail(
                    || format!("PoolShape::new {shape} {a} {b}"),
                    || PoolShape::new("maxpool", shape, a, b).map(|pool| (pool.read(), pool.output())),
                );
            }
            for c in SIZES {
                let conv = ConvShape { n: a, h: b, w: c, c: a, k: b, r: c, s: a, p: b, q: c, stride: a, pad: b };
                let all = || {
                    let (whole, cropped) = (conv.whole(), conv.cropped(b, c));
                    (whole, cropped, conv.macs(), conv.pixels(), conv.taps(), conv.output(), conv.is_gemm())
                };
                walk.gives(|| format!("{conv:?}"), all);
                let pool = PoolShape { n: a, h: b, w: c, c: a, p: b, q: c, window: a, stride: b };
                walk.gives(|| format!("{pool:?}"), || (pool.read(), pool.output(), pool.input()));
            }
        }
    }
    let backend = Cpu::<f32>::new();
    let net = net(&backend);
    for (n, c) in SIZES.into_iter().flat_map(|n| SIZES.map(|c| (n, c))) {
        for shape in [Shape::image(n, c, 4, 4), Shape::image(1, 1, n, c), Shape::matrix(n, c), Shape::vector(n)] {
            let plan = walk.may_fail(
                || format!("Plan::new {shape}"),
                || Plan::new(&layers(&net), shape, &|_| Err("apart".into())),
            );
            if let Some(plan) = plan {
                for first in SIZES {
                    walk.gives(|| format!("{shape}, input_of {first}"), || plan.input_of(first));
                }
            }
            let summary = || Summary::new(&net, shape);
            if let Some(summary) = walk.may_fail(|| format!("Summary {shape}"), summary) {
                let all = || {
                    let bytes = |precision| (summary.training_bytes(precision, c), summary.inference_bytes(precision));
                    let sums =
                        (summary.params(), summary.forward_macs(), summary.training_macs(), summary.kept_bytes(n));
                    (sums, Precision::ALL.map(bytes)) == ((0, 0, 0, 0), [(0, 0); 3])
                };
                walk.gives(|| format!("Summary {shape} for {n}"), all);
            }
        }
    }
    walk.ended("shapes and plans");
}

#[test]
fn ops_on_a_tape_with_shapes_that_do_not_fit() {
    let mut walk = Walk::default();
    let backend = Cpu::<f32>::new();
    let shapes = [
        Shape::vector(0),
        Shape::vector(4),
        Shape::matrix(0, 3),
        Shape::matrix(2, 3),
        Shape::image(0, 3, 4, 4),
        Shape::image(2, 3, 0, 4),
        Shape::image(2, 3, 4, 5),
        Shape::image(1, 1, 1, 1),
        Shape::weight(4, 3, 1, 1),
        Shape::weight(4, 4, 1, 1),
        Shape::weight(4, 3, 3, 3),
    ];
    let var = |tape: &mut Tape<Cpu<f32>>, shape: Shape| -> Var<Cpu<f32>> {
        let data = backend.upload(Role::Activation, &vec![0.5; shape.len()]).unwrap();
        tape.variable(data, shape, Role::Activation).unwrap()
    };
    let new = |mode| Tape::new(&backend, mode);
    let backward = |tape: Tape<Cpu<f32>>, y: Var<Cpu<f32>>| {
        let seed = backend.upload(Role::Activation, &vec![1.0; y.data().len()])?;
        tape.backward_from(&y, seed).map(drop)
    };
    for mode in [Mode::Inference, TRAINING] {
        for x in shapes {
            for size in SIZES {
                let what = format!("{mode:?}: {x}, {size}");
                walk.may_fail(
                    || format!("constant, {what}"),
                    || new(mode).constant(backend.upload(Role::Activation, &vec![0.0; size.min(9)])?, x),
                );
                walk.may_fail(
                    || format!("maxpool, {what}"),
                    || {
                        let mut tape = new(mode);
                        let v = var(&mut tape, x);
                        let y = tape.maxpool(&v, size, 1).or_else(|_| tape.maxpool(&v, 1, size))?;
                        backward(tape, y)
                    },
                );
                walk.may_fail(
                    || format!("cross_entropy, {what}"),
                    || {
                        let mut tape = new(mode);
                        let v = var(&mut tape, x);
                        let labels = backend.upload_bytes(&vec![(size % 256) as u8; x.n()])?;
                        let loss = tape.cross_entropy(&v, &labels, &mut Meter::new(&backend)?)?;
                        tape.backward(loss).map(drop)
                    },
                );
            }
            for probability in NUMBERS {
                walk.may_fail(
                    || format!("dropout {probability} of {x}"),
                    || {
                        let mut tape = new(mode);
                        let v = var(&mut tape, x);
                        let y = tape.dropout(&v, probability)?;
                        backward(tape, y)
                    },
                );
            }
            for op in [Tape::relu, Tape::flatten, Tape::global_avgpool] {
                walk.may_fail(
                    || format!("{mode:?}: an op of one input {x}"),
                    || {
                        let mut tape = new(mode);
                        let v = var(&mut tape, x);
                        let y = op(&mut tape, &v)?;
                        backward(tape, y)
                    },
                );
            }
            for w in shapes {
                for bias in [None, Some(Shape::vector(0)), Some(Shape::vector(4)), Some(Shape::image(2, 3, 4, 5))] {
                    for (stride, pad) in [(1, 0), (0, 0), (usize::MAX, 1), (1, usize::MAX), (2, 1)] {
                        walk.may_fail(
                            || format!("{mode:?}: conv2d {x} {w} {bias:?} {stride} {pad}"),
                            || {
                                let mut tape = new(mode);
                                let (v, w) = (var(&mut tape, x), var(&mut tape, w));
                                let bias = bias.map(|bias| var(&mut tape, bias));
                                let affine = Affine { w: &w, bias: bias.as_ref(), relu: pad == 0 };
                                let y = tape.conv2d(&v, affine, Window { stride, pad })?;
                                backward(tape, y)
                            },
                        );
                    }
                    walk.may_fail(
                        || format!("{mode:?}: pointwise_maxpool {x} {w} {bias:?}"),
                        || {
                            let mut tape = new(mode);
                            let (v, w) = (var(&mut tape, x), var(&mut tape, w));
                            let bias = bias.map(|bias| var(&mut tape, bias));
                            let affine = Affine { w: &w, bias: bias.as_ref(), relu: true };
                            let y = tape.pointwise_maxpool(&v, affine, 2, 2)?;
                            backward(tape, y)
                        },
                    );
                    let Some(bias) = bias else { continue };
                    walk.may_fail(
                        || format!("{mode:?}: chains {x} {w} {bias}"),
                        || {
                            let mut tape = new(mode);
                            let v = var(&mut tape, x);
                            let [a, b, c] = [w, Shape::weight(4, 4, 1, 1), w].map(|shape| var(&mut tape, shape));
                            let [d, e, f] = [bias; 3].map(|shape| var(&mut tape, shape));
                            let pair = Params { w: [&a, &b], b: [&d, &e], relu: false };
                            tape.pointwise_pair(v.clone(), pair, bias.len() == 4).map(drop).or_else(|_| {
                                let block = Params { w: [&a, &b, &c], b: [&d, &e, &f], relu: true };
                                tape.mlpconv(v, block, Window { stride: 1, pad: 1 }).map(drop)
                            })
                        },
                    );
                }
            }
        }
    }
    // A variable of one tape given to another.
    let (mut one, mut other) = (new(TRAINING), new(TRAINING));
    let v = var(&mut one, Shape::image(2, 3, 4, 5));
    walk.refused(|| "a variable of another tape".into(), || other.relu(&v));
    walk.refused(|| "the gradient of another tape".into(), || backward(other, v.clone()));
    // Networks whose layers do not go together.
    let param = |shape: Shape| Param::new(&backend, shape, &vec![0.5; shape.len()]).unwrap();
    for w in shapes {
        for bias in shapes {
            for window in [Window { stride: 0, pad: 0 }, Window { stride: 1, pad: usize::MAX }, Window::default()] {
                let conv = Conv2d::new(param(w), param(bias), window);
                let net = Sequential::new().push(conv).push(MaxPool { window: 2, stride: 0 }).push(Dropout(f64::NAN));
                let x = Shape::image(2, 3, 4, 5);
                walk.refused(
                    || format!("predict by a convolution {w} {bias} {window:?}"),
                    || mlpconv::nn::predict(&backend, &net, &vec![0.5; x.len()], x),
                );
            }
        }
    }
    walk.ended("ops");
}

#[test]
fn devices_and_parameters() {
    let mut walk = Walk::default();
    let backend = Cpu::<f32>::new();
    for size in SIZES {
        if size != 1 && size != 3 {
            walk.refused(|| format!("{size} threads"), || Cpu::<f32>::with_threads(size));
        }
        walk.may_fail(|| format!("alloc {size}"), || backend.alloc(Role::Activation, size));
        walk.may_fail(|| format!("alloc_rectified {size}"), || backend.alloc_rectified(size));
        walk.may_fail(|| format!("alloc_bytes {size}"), || backend.alloc_bytes(size));
        walk.may_fail(
            || format!("Meter::set {size}"),
            || {
                let mut meter = Meter::new(&backend)?;
                for number in NUMBERS {
                    let reading = Reading {
                        loss: number,
                        accuracy: number,
                        flat: number,
                        samples: size,
                        skipped: size,
                        held: size,
                    };
                    meter.set(&backend, reading)?;
                    meter.read(&backend)?;
                }
                Ok(())
            },
        );
        for values in [0, 1, 27] {
            let shape = Shape::weight(size, 1, 3, 3);
            let values = vec![f32::NAN; values];
            walk.may_fail(|| format!("Param {shape}"), || Param::new(&backend, shape, &values));
        }
        for channels in SIZES {
            let (from, to) = ([size.min(3), channels], [channels, size]);
            walk.may_fail(
                || format!("Resizer {from:?} {to:?}"),
                || Resizer::new(from[0], from[1], to[0], to[1])?.with_channels(size),
            );
            let device = || DeviceResizer::new(&backend, [size.min(9), 3], [3, channels.min(9)], channels).map(drop);
            walk.may_fail(|| format!("DeviceResizer {size} {channels}"), device);
            let mut build = Builder::new(&backend, Init::FanIn, u64::MAX);
            walk.may_fail(
                || format!("nin_block {size} {channels}"),
                || build.nin_block(size.min(3), [channels.min(3), size, channels], 1, 1, usize::MAX),
            );
            let nin = || Nin::small_for(&backend, 0, size.min(1), channels.min(1)).map(drop);
            walk.may_fail(|| format!("Nin::small_for {size} {channels}"), nin);
        }
    }
    let resizer = Resizer::new(2, 2, 3, 3).unwrap();
    for (src, dst) in [(0, 0), (4, 0), (0, 9), (5, 9), (4, 10)] {
        walk.refused(
            || format!("resize {src} {dst}"),
            || resizer.resize(&vec![0; src], &mut vec![0; dst], &mut vec![]),
        );
    }
    let mut four = backend.alloc(Role::Activation, 4).unwrap();
    let mut bytes = backend.alloc_bytes(4).unwrap();
    let three = backend.upload(Role::Activation, &[1.0; 3]).unwrap();
    for len in [0, 3, 5] {
        walk.refused(|| format!("write {len}"), || backend.write(&mut four, &vec![0.0; len]));
        walk.refused(|| format!("write_bytes {len}"), || backend.write_bytes(&mut bytes, &vec![0; len]));
    }
    walk.refused(|| "relu_mask".into(), || backend.relu_mask(&three, &mut four));
    walk.ended("devices and parameters");
}

fn dataset(images: usize) -> Arc<Dataset> {
    let labels = (0..images).map(|image| image as u8 % 3).collect();
    Arc::new(Dataset::new(vec![7; images * 16], labels, 4, 4, 3).unwrap())
}

fn loader(images: usize, batch_size: usize) -> Result<Loader> {
    Loader::new(dataset(images), LoaderConfig { batch_size, height: 4, width: 4, order: Order::Shuffled { seed: 1 } })
}

#[test]
fn data_sets_and_loaders() {
    let mut walk = Walk::default();
    for a in SIZES {
        for b in SIZES {
            for bytes in [0, 1, 9] {
                walk.may_fail(
                    || format!("Dataset {a}x{b}, {bytes} bytes"),
                    || Dataset::new(vec![1; bytes], vec![255; a.min(3)], b, a, b),
                );
                walk.may_fail(
                    || format!("Dataset of {a} channels"),
                    || Dataset::with_channels(vec![1; bytes], vec![0; 1], [a, b, a], vec![String::new(); a.min(300)]),
                );
            }
            walk.gives(|| format!("take {a} {b}"), || Dataset::clone(&dataset(a.min(5))).take(b).hashes());
            // Sides of a million pixels are possible, and a loader of them takes only what it needs.
            for images in [0, 5] {
                let config = LoaderConfig { batch_size: a, height: b, width: 1, order: Order::Sequential };
                let made = walk.may_fail(|| format!("{config:?}, {images}"), || Loader::new(dataset(images), config));
                let Some(loader) = made else { continue };
                for number in NUMBERS {
                    let erasing = Erasing { probability: number, area: [number, 1.0], aspect: [number; 2], epochs: 9 };
                    let changes =
                        Augmentation { seed: u64::MAX, flip: Flip::Random, translate: a, erasing: Some(erasing) };
                    walk.gives(|| format!("{changes:?}"), || changes.transform(u32::MAX, u32::MAX, [a, b]));
                    let changed = || loader.clone().with_augmentation(changes)?.epoch(0).map(Iterator::count);
                    walk.may_fail(|| format!("{config:?} with {changes:?}"), changed);
                    let normalized = || {
                        let normalization = Normalization::new(vec![number as f32; a.min(3)], vec![0.5; b.min(3)])?;
                        loader.clone().with_normalization(normalization).map(drop)
                    };
                    walk.may_fail(|| format!("{config:?} normalised by {number}"), normalized);
                }
                for first in SIZES {
                    walk.may_fail(
                        || format!("{config:?} from {first}"),
                        || Ok(loader.epoch_from(u32::MAX, first)?.map(|batch| batch.len()).sum::<usize>()),
                    );
                }
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "nothing").unwrap();
    for path in [folder.path(), &file, Path::new(""), &folder.path().join("\0"), Path::new("/dev/null")] {
        walk.refused(|| format!("Idx::open {}", path.display()), || Idx::open(path).map(drop));
        walk.refused(|| format!("weights {}", path.display()), || Tensors::load(path));
    }
    walk.ended("data sets and loaders");
}

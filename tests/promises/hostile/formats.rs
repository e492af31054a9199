//! The formats that this project reads, each with the calls that read it: a file of bytes that anybody may have made.
//! The tests here and the fuzzer (`fuzz/`) share this table.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlpconv::data::idx::Idx;
use mlpconv::data::{DataName, DataSpec, Dataset, Invert, Loader, LoaderConfig, Order, Origin, Source, Splits, known};
use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, Sequential};
use mlpconv::optim::{AdamW, OptimizerKind, Schedule};
use mlpconv::train::{FitOptions, Preset, Run, Trainer};
use mlpconv::{Cpu, Precision, weights};
use tempfile::TempDir;
use virtual_gpu::machine::{Config, Launch, Machine};

/// Reads an input, and does with its contents what a program would do. Returns whether it was accepted.
pub type Reader = Box<dyn FnMut(&[u8]) -> bool>;

/// A format: its name, which is that of its corpus, and what makes its reader.
pub struct Format {
    pub name: &'static str,
    pub reader: fn() -> Reader,
}

/// All formats.
pub const FORMATS: [Format; 13] = [
    Format { name: "idx", reader: idx },
    Format { name: "gzip", reader: idx },
    Format { name: "mnist", reader: mnist },
    Format { name: "cifar", reader: cifar },
    Format { name: "archive", reader: archive },
    Format { name: "image", reader: image },
    Format { name: "weights", reader: saved_weights },
    Format { name: "pytorch", reader: saved_weights },
    Format { name: "state", reader: state },
    Format { name: "config", reader: config },
    Format { name: "metrics", reader: metrics },
    Format { name: "words", reader: words },
    Format { name: "ptx", reader: ptx },
];

/// A folder in memory, where there is one: an input is a file for a moment only.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

/// An IDX file, compressed or not.
fn idx() -> Reader {
    Box::new(|input| Idx::read(input, "input").is_ok())
}

/// A folder with these files, in which the reader writes the input under each of the names `own` in turn, and reads the
/// data set.
fn data_set(spec: &'static DataSpec, files: Vec<(&'static str, Vec<u8>)>, own: Vec<&'static str>) -> Reader {
    let folder = folder();
    for (name, content) in &files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    Box::new(move |input| {
        let mut accepted = false;
        for name in &own {
            let path = folder.path().join(name);
            fs::write(&path, input).unwrap();
            let source = Source { folder: folder.path().into(), origin: Origin::Argument };
            accepted |= Splits::read(spec, source).is_ok_and(batches);
            match files.iter().find(|file| file.0 == *name) {
                Some((_, content)) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
        }
        accepted
    })
}

/// Brings the first images to another size and reads them in batches.
fn batches(splits: Splits) -> bool {
    let config = LoaderConfig { batch_size: 2, height: 5, width: 5, order: Order::Shuffled { seed: 1 } };
    for half in [splits.train, splits.test] {
        let Ok(loader) = Loader::new(Arc::new(half.take(3)), config) else { continue };
        let images: usize = loader.epoch(0).unwrap().map(|batch| batch.len()).sum();
        assert_eq!(images, loader.dataset().len());
    }
    true
}

/// Images and labels of the MNIST family: the input is the training images' file, then their labels'.
fn mnist() -> Reader {
    let idx = |dimensions: &[u8], value: u8| {
        let elements = dimensions.iter().map(|&length| usize::from(length)).product();
        let lengths = dimensions.iter().flat_map(|&length| u32::from(length).to_be_bytes());
        [0, 0, 8, dimensions.len() as u8].into_iter().chain(lengths).chain(vec![value; elements]).collect::<Vec<u8>>()
    };
    let files = vec![
        ("train-images-idx3-ubyte", idx(&[2, 3, 4], 7)),
        ("train-labels-idx1-ubyte", idx(&[2], 1)),
        ("t10k-images-idx3-ubyte", idx(&[2, 3, 4], 9)),
        ("t10k-labels-idx1-ubyte", idx(&[2], 3)),
    ];
    data_set(&known::FASHION_MNIST, files, vec!["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
}

/// A file of CIFAR-10's records.
fn cifar() -> Reader {
    let files = known::CIFAR10.files().map(|file| (file.name, vec![1; 3073])).collect();
    data_set(&known::CIFAR10, files, vec!["data_batch_2.bin"])
}

/// CIFAR-10's archive, a tar file, compressed or not.
fn archive() -> Reader {
    data_set(&known::CIFAR10, Vec::new(), vec!["cifar-10-binary.tar.gz"])
}

/// A PNG or JPEG file in a folder of images, beside images of one pixel; and as a picture for each known data set.
fn image() -> Reader {
    const PIXEL: &[u8] = include_bytes!("pixel.png");
    let folder = folder();
    for class in ["cat", "dog"] {
        fs::create_dir(folder.path().join(class)).unwrap();
        for name in ["1.png", "2.png"] {
            fs::write(folder.path().join(class).join(name), PIXEL).unwrap();
        }
    }
    Box::new(move |input| {
        fs::write(folder.path().join("dog/2.png"), input).unwrap();
        for spec in known::ALL {
            if let Ok(converted) = spec.form().read("input", input, Invert::Auto) {
                assert_eq!(converted.pixels.len(), spec.extents[0] * spec.extents[1] * spec.channels);
            }
        }
        let name = DataName::Folder(folder.path().into());
        Splits::load(&name, None, 6, &mut |_| {}).is_ok_and(batches)
    })
}

/// A network of one convolution.
fn network(backend: &Cpu<f32>) -> Sequential<Cpu<f32>> {
    let mut build = Builder::new(backend, Init::He, 1);
    Sequential::new().push(build.conv2d(1, 3, 3, 1, 1).unwrap()).push(GlobalAvgPool).push(Flatten)
}

/// A weights file, of either format: its first bytes tell which.
fn saved_weights() -> Reader {
    let (folder, backend) = (folder(), Cpu::<f32>::with_threads(1).unwrap());
    let mut net = network(&backend);
    Box::new(move |input| {
        let path = folder.path().join("weights.safetensors");
        fs::write(&path, input).unwrap();
        weights::load(&backend, &mut net, &path).is_ok()
    })
}

/// A run folder of the small preset, and its path.
fn run() -> (TempDir, PathBuf) {
    let folder = folder();
    let path = folder.path().join("run");
    Run::create(&path, Preset::Small.config_with(OptimizerKind::AdamW)).unwrap();
    (folder, path)
}

/// A run's state. The run goes on from it for a step.
fn state() -> Reader {
    let ((folder, path), backend) = (run(), Cpu::<f32>::with_threads(1).unwrap());
    let images = Dataset::new((0..64).collect(), vec![0, 1, 2, 1], 4, 4, 3).unwrap();
    let config = LoaderConfig { batch_size: 2, height: 4, width: 4, order: Order::Shuffled { seed: 1 } };
    let loader = Loader::new(Arc::new(images), config).unwrap();
    let mut run = Run::open(&path).unwrap();
    Box::new(move |input| {
        fs::write(folder.path().join("run/state.safetensors"), input).unwrap();
        let mut trainer = Trainer::new(&backend, network(&backend), AdamW::new(&backend), 1).unwrap();
        if run.restore(&mut trainer).is_err() {
            return false;
        }
        let (rate, schedule) = (0.001, Schedule::Step { every: 2, factor: 0.1 });
        let options = FitOptions { epochs: u32::MAX, rate, schedule, report_every: 1, on_nan: Default::default() };
        let ended = trainer.fit(&loader, &loader, &options, &mut |trainer, _| {
            trainer.reading()?;
            Ok(ControlFlow::Break(()))
        });
        ended.is_ok()
    })
}

/// A run's settings. They build an optimiser and a schedule, and are what they say when they are written again.
fn config() -> Reader {
    let ((folder, _), backend) = (run(), Cpu::<f32>::with_threads(1).unwrap());
    Box::new(move |input| {
        let again = folder.path().join("again");
        let path = folder.path().join("run");
        fs::write(path.join("config.toml"), input).unwrap();
        let Ok(run) = Run::open(&path) else { return false };
        let options = run.config().fit_options(10);
        for step in [0, 1, 1000, usize::MAX >> 12] {
            let _ = options.schedule.factor(step, 100, options.epochs);
        }
        let _ = run.config().optimizer(&backend);
        let _ = run.config().data.clone().absolute();
        drop(fs::remove_dir_all(&again));
        let written = Run::create(&again, run.config().clone()).unwrap();
        drop(written);
        assert_eq!(Run::open(&again).unwrap().config(), run.config());
        true
    })
}

/// A run's metrics.
fn metrics() -> Reader {
    let (folder, path) = run();
    let run = Run::open(&path).unwrap();
    Box::new(move |input| {
        fs::write(folder.path().join("run/metrics.jsonl"), input).unwrap();
        run.metrics().is_ok()
    })
}

/// Values of the command line, one a line.
fn words() -> Reader {
    Box::new(|input| {
        let mut accepted = false;
        for word in String::from_utf8_lossy(input).lines() {
            if let Ok(schedule) = word.parse::<Schedule>() {
                accepted = true;
                for step in [0, 1, 1000, usize::MAX >> 12] {
                    let _ = schedule.factor(step, 100, 60);
                }
                assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
            }
            accepted |= word.parse::<Preset>().is_ok();
            accepted |= word.parse::<OptimizerKind>().is_ok();
            accepted |= word.parse::<Precision>().is_ok();
            let name = DataName::from(word);
            accepted |= name.spec().is_some();
            let _ = name.absolute();
        }
        accepted
    })
}

/// A module for the virtual GPU: parsed, decoded, and its kernels executed for a moment. As in the driver, the bytes
/// need not be UTF-8.
fn ptx() -> Reader {
    const BUFFER: usize = 8192;
    Box::new(|input| {
        let text = String::from_utf8_lossy(input);
        let config = Config {
            compute_capability: (9, 0),
            checks: !input.len().is_multiple_of(3),
            count: input.len().is_multiple_of(2),
            memory: 1 << 24,
            ..Config::default()
        };
        let machine = Machine::new(config).instruction_limit(2000);
        let Ok(module) = machine.load(&text) else { return false };
        let buffers = [0u8, 1, 2].map(|value| {
            let address = machine.alloc(BUFFER).unwrap();
            machine.write(address, &[value; BUFFER]).unwrap();
            address
        });
        for kernel in module.kernels().filter_map(|name| module.kernel(name)).take(8) {
            let mut params = vec![0; kernel.param_bytes()];
            for (i, param) in kernel.params().iter().enumerate() {
                let value = if param.size == 8 { buffers[i % buffers.len()] } else { 64 };
                let size = param.size.min(8);
                params[param.offset..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
            }
            let _ =
                machine.launch(&kernel, &Launch { grid: [2, 1, 1], block: [40, 1, 1], dynamic_shared: 300 }, &params);
        }
        true
    })
}

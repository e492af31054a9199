//! Promise 7. The same seed, program, device and precision give the same bits, with any number of threads and on every run.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::place::{Finished, Place, TRAIN};
use super::promise::{kept, tries};

/// The SHA-256 of bytes in hexadecimal.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The presets' networks, at sizes that the tests have time for, on few images of Fashion-MNIST.
const RUNS: [&str; 4] = [
    "--preset small --train-limit 200 --batch-size 16",
    "--preset small --optimizer adamw --train-limit 200 --batch-size 16",
    "--preset d2l --resize 80 --train-limit 8 --batch-size 4",
    "--preset cifar --data fashion-mnist --resize 32 --train-limit 8 --batch-size 4",
];

/// However their number is set.
#[test]
fn a_cpus_weights_do_not_depend_on_threads() {
    let Some(place) = Place::new() else { return };
    let epochs = tries(1, 3);
    for (number, run) in RUNS.iter().enumerate() {
        let weights = |name: &str, threads: &str, variable: Option<&str>| {
            let name = format!("{number}-{name}");
            let line = format!("{run} --device cpu --epochs {epochs} --test-limit 8 --seed 5 {threads} --out {name}");
            let mut command = place.command(TRAIN, &line);
            if let Some(threads) = variable {
                command.env("RAYON_NUM_THREADS", threads);
            }
            Finished::of(&mut command).good();
            hash(&place.weights(&name))
        };
        let one = weights("one", "--threads 1", None);
        for (what, others) in [
            ("again", weights("again", "--threads 1", None)),
            ("two threads", weights("two", "--threads 2", None)),
            ("three threads", weights("three", "--threads 3", None)),
            ("RAYON_NUM_THREADS=3", weights("variable", "", Some("3"))),
        ] {
            assert_eq!(others, one, "{run}: {what}");
        }
    }
    kept(7, format!("{} runs on a CPU: the same SHA-256 with 1, 2 and 3 threads", RUNS.len()));
}

/// On a GPU, virtual or real.
#[cfg(feature = "cuda")]
mod on_a_gpu {
    use std::ops::Deref as _;
    use std::sync::Arc;

    use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
    use mlpconv::device::Device as _;
    use mlpconv::nn::Module as _;
    use mlpconv::optim::OptimizerKind;
    use mlpconv::train::{Preset, Resident, Trainer};
    use mlpconv::{Cuda, Precision};

    use super::super::gpu;
    use super::*;

    /// Steps: the first is eager, the second is recorded, and later ones are replayed.
    const STEPS: usize = 4;

    /// A preset's network on square images of so many pixels and channels, in batches.
    struct Setting {
        preset: Preset,
        size: usize,
        channels: usize,
        batch: usize,
        optimizer: OptimizerKind,
    }

    /// The hash of the weights after some steps from seed 5.
    fn weights(cuda: &Cuda, setting: &Setting, record: bool) -> String {
        let &Setting { preset, size, channels, batch, optimizer } = setting;
        let config = preset.config_with(optimizer);
        let net = preset.net_for(cuda, 5, channels, 10).unwrap();
        let mut trainer = Trainer::new(cuda, net, config.optimizer(cuda), 5).unwrap();
        trainer.record = record;
        let images = STEPS * batch;
        let pixels =
            (0..images * size * size * channels).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]);
        let labels = (0..images).map(|i| (7 * i % 10) as u8).collect();
        let names = (0..10).map(|class| class.to_string()).collect();
        let dataset = Dataset::with_channels(pixels.collect(), labels, [size, size, channels], names).unwrap();
        let order = Order::Shuffled { seed: 5 };
        let loader = LoaderConfig { batch_size: batch, height: size, width: size, order };
        let data = Resident::new(cuda, Loader::new(Arc::new(dataset), loader).unwrap()).unwrap();
        for _ in 0..STEPS {
            trainer.step_resident(&data, 0.01).unwrap();
        }
        let params = trainer.net.params();
        let bytes = params.iter().flat_map(|(_, param)| cuda.download(param.data()).unwrap());
        hash(&bytes.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
    }

    #[test]
    fn a_gpus_weights_are_the_same_replayed_and_eager_and_on_every_run() {
        let setting = |preset, size, channels, batch, optimizer| Setting { preset, size, channels, batch, optimizer };
        let all = [
            setting(Preset::Small, 28, 1, 1, OptimizerKind::Sgd),
            setting(Preset::Small, 28, 1, 3, OptimizerKind::AdamW),
            setting(Preset::Cifar, 32, 3, 1, OptimizerKind::Sgd),
            setting(Preset::D2l, 68, 1, 1, OptimizerKind::Sgd),
        ];
        let settings = &all[..tries(1, all.len())];
        let runs = tries(2, 3);
        for precision in Precision::ALL {
            let Some(cuda) = gpu::gpu(precision) else { return };
            for setting in settings {
                let eager = weights(cuda.deref(), setting, false);
                for run in 0..runs - 1 {
                    let replayed = weights(cuda.deref(), setting, true);
                    assert_eq!(replayed, eager, "{} in {precision}, replayed, run {run}", setting.preset);
                }
                if runs > 2 {
                    assert_eq!(
                        weights(cuda.deref(), setting, false),
                        eager,
                        "{} in {precision}, again",
                        setting.preset
                    );
                }
            }
        }
        kept(
            7,
            format!(
                "{} networks on a GPU in fp32, tf32 and bf16: the same SHA-256 eager, replayed and again",
                settings.len()
            ),
        );
    }
}

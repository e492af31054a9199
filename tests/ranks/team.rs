//! Ranks as threads, and what they train.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mlpconv::data::{Dataset, Loader, Share};
use mlpconv::nn::{Module, Nin};
use mlpconv::ops::shards::{Division, Order};
use mlpconv::ranks::{Group, Place, Timeouts};
use mlpconv::train::{Event, FitOptions, Preset, TrainConfig, Trainer};
use mlpconv::{Cpu, Result};

/// Impatient, so that a test that goes wrong ends.
pub const TIMEOUTS: Timeouts =
    Timeouts { join: Duration::from_secs(20), silence: Duration::from_secs(8), collective: Duration::from_secs(20) };

/// Runs `work` on as many ranks, each on a thread with a group of its own. Returns what they return, by rank.
pub fn on_ranks<R: Send>(ranks: usize, work: impl Fn(&Arc<Group>) -> R + Sync) -> Vec<R> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (work, places) = (&work, (0..ranks).map(|rank| Place::on_this_host(rank, ranks, port)));
    thread::scope(|scope| {
        let threads: Vec<_> = places
            .map(|place| {
                scope.spawn(move || {
                    let group = Group::join(&place, TIMEOUTS).unwrap();
                    let done = work(&group);
                    group.leave(None);
                    done
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The `small` preset on a few noisy images, the last batch of an epoch smaller than the others.
pub fn config() -> TrainConfig {
    TrainConfig { epochs: 2, batch_size: 12, shards: 6, seed: 3, ..Preset::Small.config() }
}

pub const IMAGES: usize = 28;

/// Images whose grey is their class's, and noise.
pub fn images(count: usize) -> Arc<Dataset> {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 26) as u8
    };
    let label = |image: usize| (image * 7 % 10) as u8;
    let pixels = (0..count).flat_map(|image| vec![label(image) * 19; 28 * 28]);
    let pixels = pixels.map(|grey| grey + noise()).collect();
    Arc::new(Dataset::new(pixels, (0..count).map(label).collect(), 28, 28, 10).unwrap())
}

pub type Cpu32 = Cpu<f32>;

/// As the settings say, with buckets so small that `small` has four.
pub fn division(config: &TrainConfig) -> Division {
    Division { bucket: 60_000, ..config.division() }
}

/// A trainer with these settings, for one rank or a group's.
pub fn trainer(config: &TrainConfig, group: Option<&Arc<Group>>) -> Trainer<Cpu32, Nin<Cpu32>> {
    let backend = Cpu::with_threads(1).unwrap();
    let net = config.preset.net_for(&backend, config.seed, 1, 10).unwrap();
    let mut trainer = config.trainer(&backend, net).unwrap();
    trainer.divide(&division(config), group).unwrap();
    trainer
}

/// The images to train on, of which a rank prepares its own part, and those to test with.
pub fn loaders(config: &TrainConfig, group: Option<&Arc<Group>>) -> [Loader; 2] {
    let mut train = config.train_loader(images(IMAGES)).unwrap();
    if let Some(group) = group {
        let order = Order::new(config.shards, group.ranks(), group.rank()).unwrap();
        train = train.with_share(Share::new(order.own(), config.shards).unwrap());
    }
    [train, config.test_loader(images(40)).unwrap()]
}

/// What a run leaves: the weights' bits, and the numbers of its epochs that are no times.
pub type Left = (Vec<u32>, Vec<[u64; 5]>);

pub fn weights(trainer: &Trainer<Cpu32, Nin<Cpu32>>) -> Vec<u32> {
    let params = trainer.net.params().into_iter();
    params.flat_map(|(_, param)| param.data().iter().map(|value| value.to_bits()).collect::<Vec<_>>()).collect()
}

/// Trains to the end. `on_event` may stop.
pub fn fit(
    trainer: &mut Trainer<Cpu32, Nin<Cpu32>>,
    config: &TrainConfig,
    group: Option<&Arc<Group>>,
    on_event: &mut dyn FnMut(&Event) -> bool,
) -> Result<Left> {
    let [train, test] = loaders(config, group);
    let mut epochs = Vec::new();
    let options = FitOptions { ..config.fit_options(2) };
    let _ = trainer.fit(&train, &test, &options, &mut |_, event| {
        if let Event::Epoch { metrics, .. } = &event {
            let numbers =
                [metrics.loss, metrics.train_accuracy, metrics.test_loss, metrics.test_accuracy, metrics.rate];
            epochs.push(numbers.map(f64::to_bits));
        }
        Ok(if on_event(&event) { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) })
    })?;
    Ok((weights(trainer), epochs))
}

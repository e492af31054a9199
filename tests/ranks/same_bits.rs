//! The same bits for any number of ranks.

use std::ops::ControlFlow;

use mlpconv::data::{Flip, Share};
use mlpconv::nn::{Module, Nin};
use mlpconv::ops::shards::Division;
use mlpconv::optim::{Average, OptimizerKind, Sgd};
use mlpconv::train::{Event, OnNan, Position, Resident, Run, TrainConfig, Trainer, restore};
use mlpconv::{Cpu, Error, Shape};

use crate::faulty::Faulty;
use crate::team::{IMAGES, Left, config, division, fit, images, loaders, on_ranks, trainer, weights};

/// Trains on one rank, and on as many as `ranks` says, and compares.
fn same(config: &TrainConfig, ranks: &[usize]) -> Left {
    let one = fit(&mut trainer(config, None), config, None, &mut |_| false).unwrap();
    assert_eq!(one.1.len(), config.epochs as usize);
    for &ranks in ranks {
        let all = on_ranks(ranks, |group| {
            fit(&mut trainer(config, Some(group)), config, Some(group), &mut |_| false).unwrap()
        });
        for (rank, left) in all.iter().enumerate() {
            assert_eq!(left.1, one.1, "metrics of rank {rank} of {ranks}");
            assert!(left.0 == one.0, "weights of rank {rank} of {ranks}");
        }
    }
    one
}

#[test]
fn weights_and_metrics_do_not_depend_on_the_number_of_ranks() {
    same(&config(), &[2, 3, 4, 6]);
}

/// The last batch has four images, fewer than shards: some ranks have none of it.
#[test]
fn ranks_without_an_image_of_a_batch_take_part_all_the_same() {
    same(&TrainConfig { shards: 8, epochs: 1, ..config() }, &[5, 8]);
}

#[test]
fn what_is_random_is_a_function_of_the_image_not_of_the_rank() {
    let settings = TrainConfig {
        optimizer: OptimizerKind::AdamW,
        momentum: 0.0,
        nesterov: false,
        learning_rate: 0.001,
        fliplr: Flip::Random,
        translate: 2,
        erasing: 0.5,
        label_smoothing: 0.1,
        average: Average::Tail(0.5),
        shards: 4,
        ..config()
    };
    same(&settings, &[2, 4]);
}

/// Ranks of one node each, and of several, in one bucket, in a few, and in one for each parameter.
#[test]
fn buckets_change_no_bits() {
    let config = TrainConfig { epochs: 1, ..config() };
    let one = fit(&mut trainer(&config, None), &config, None, &mut |_| false).unwrap();
    for (ranks, bucket) in [(2, usize::MAX), (2, 100_000), (4, 1)] {
        let all = on_ranks(ranks, |group| {
            let mut trainer = trainer(&config, None);
            trainer.divide(&Division { bucket, ..config.division() }, Some(group)).unwrap();
            fit(&mut trainer, &config, Some(group), &mut |_| false).unwrap()
        });
        assert!(all.iter().all(|left| *left == one), "{ranks} ranks, buckets of {bucket}");
    }
}

/// A bucket is on its way before the convolution that completes it has the gradient of its input.
#[test]
fn the_exchange_goes_on_beside_the_way_back() {
    let config = TrainConfig { shards: 4, ..config() };
    let images = images(8);
    let calls = on_ranks(2, |group| {
        let backend = Faulty::new(Cpu::<f32>::with_threads(1).unwrap(), false);
        let net = Nin::small(&backend, config.seed).unwrap();
        let mut trainer = Trainer::new(&backend, net, Sgd::new(&backend), 1).unwrap();
        trainer.divide(&division(&config), Some(group)).unwrap();
        let pixels: Vec<f32> = images.images().iter().map(|&grey| f32::from(grey) / 255.0).collect();
        trainer.step(&pixels, Shape::image(8, 1, 28, 28), images.labels(), 0.1).unwrap();
        backend.calls()
    });
    for calls in calls {
        let at = |name: &str| {
            calls.iter().enumerate().filter(|(_, call)| **call == name).map(|(at, _)| at).collect::<Vec<_>>()
        };
        let [gathers, completed] = [at("all_gather"), at("complete, before")];
        let [parameters, inputs] = [at("conv2d parameter"), at("conv2d input")];
        assert_eq!((gathers.len(), completed.len()), (4, 4));
        assert!(gathers[3] < completed[0], "all have begun before the first is waited for: {calls:?}");
        for &gather in &gathers[..3] {
            let written = parameters.iter().filter(|&&at| at < gather).max().unwrap();
            assert!(inputs.iter().all(|input| !(*written..gather).contains(input)), "{calls:?}");
            assert!(inputs.iter().any(|&input| input > gather), "there is a backward pass to hide behind: {calls:?}");
        }
    }
}

/// Images that differ from epoch to epoch, and batches of which some ranks have nothing.
#[test]
fn a_rank_may_hold_its_share_of_the_images_alone() {
    let config = TrainConfig { shards: 8, fliplr: Flip::Random, translate: 2, ..config() };
    let one = fit(&mut trainer(&config, None), &config, None, &mut |_| false).unwrap();
    for ranks in [2, 5] {
        let all = on_ranks(ranks, |group| {
            let mut trainer = trainer(&config, Some(group));
            let [train, test] = loaders(&config, Some(group));
            let (dataset, backend) = (train.dataset().clone(), trainer.backend.clone());
            let train = Resident::of_share(&backend, train).unwrap();
            // Nobody else's images are there.
            let whole = Resident::of_share(&backend, config.train_loader(dataset).unwrap()).unwrap();
            assert!(whole.bytes() >= 28 * 784 && train.bytes() <= (28 / ranks + 3) * 785, "{}", train.bytes());
            let _ =
                trainer.fit(&train, &test, &config.fit_options(2), &mut |_, _| Ok(ControlFlow::Continue(()))).unwrap();
            weights(&trainer)
        });
        assert!(all.iter().all(|weights| *weights == one.0), "{ranks} ranks");
    }
}

#[test]
fn images_of_other_ranks_are_refused() {
    let config = config();
    let loader = config.train_loader(images(IMAGES)).unwrap();
    let loader = loader.with_share(Share::new(0..3, config.shards).unwrap());
    // A single rank needs all of a batch.
    let mut trainer = trainer(&config, None);
    let data = Resident::of_share(&trainer.backend, loader).unwrap();
    let error = trainer.step_resident(&data, 0.1).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
    assert!(error.to_string().contains("share"), "{error}");
}

/// Cutting a batch into shards changes the order of additions alone.
#[test]
fn the_gradient_of_shards_is_that_of_the_batch() {
    let backend = Cpu::<f64>::new();
    let shape = Shape::image(7, 1, 67, 67);
    let images: Vec<f64> = (0..shape.len()).map(|i| (i * 37 % 101) as f64 / 101.0).collect();
    let labels = [3, 1, 4, 1, 5, 9, 2];
    // One step of plain SGD from the same weights: the difference is the gradient.
    let step = |shards: usize| {
        let net = Nin::d2l_with_channels(&backend, 1, [4, 6, 8], 0.0).unwrap();
        let mut trainer = Trainer::new(&backend, net, Sgd::new(&backend), 1).unwrap();
        trainer.divide(&Division { shards, ..Division::default() }, None).unwrap();
        trainer.step(&images, shape, &labels, 1.0).unwrap();
        let reading = trainer.reading().unwrap();
        let weights: Vec<f64> = trainer.net.params().into_iter().flat_map(|(_, param)| param.data().to_vec()).collect();
        (weights, reading)
    };
    let (whole, of_whole) = step(1);
    for shards in [2, 3, 7, 11] {
        let (parts, of_parts) = step(shards);
        let largest = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(largest <= 1e-13, "{shards} shards: {largest:e}");
        assert!((of_whole.loss - of_parts.loss).abs() <= 1e-13, "{shards} shards: {} {}", of_whole.loss, of_parts.loss);
        assert_eq!((of_whole.accuracy, of_whole.samples), (of_parts.accuracy, of_parts.samples));
    }
}

/// One rank's wish stops all at the same step, and any other number of ranks goes on from there.
#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let config = config();
    let whole = fit(&mut trainer(&config, None), &config, None, &mut |_| false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let states = on_ranks(3, |group| {
        let mut trainer = trainer(&config, Some(group));
        let wish = |event: &Event| {
            let Event::Step { position, .. } = event else { return false };
            group.rank() == 1 && position.step == 2
        };
        fit(&mut trainer, &config, Some(group), &mut { wish }).unwrap();
        assert_eq!(trainer.position, Position { epoch: 0, step: 2 });
        if group.rank() > 0 {
            return None;
        }
        let mut run = Run::create(folder.path().join("run"), config.clone()).unwrap();
        run.save(&trainer).unwrap();
        run.state_bytes().unwrap()
    });
    let state = states[0].as_ref().expect("it was saved");
    for ranks in [1, 2, 6] {
        let all = on_ranks(ranks, |group| {
            let mut trainer = trainer(&config, Some(group));
            restore(state, "of a test", &mut trainer).unwrap();
            fit(&mut trainer, &config, Some(group), &mut |_| false).unwrap()
        });
        assert!(all.iter().all(|left| *left == whole), "on {ranks} ranks");
    }
}

/// A weight that overflows at the second step, seen by all ranks at the same step and told in the words of the rank that has it.
#[test]
fn a_number_that_is_not_finite_ends_all_ranks_alike() {
    let config = TrainConfig { learning_rate: 1e30, ..config() };
    let one = fit(&mut trainer(&config, None), &config, None, &mut |_| false).unwrap_err().to_string();
    let all = on_ranks(3, |group| {
        let mut trainer = trainer(&config, Some(group));
        let error = fit(&mut trainer, &config, Some(group), &mut |_| false).unwrap_err();
        assert!(matches!(error, Error::Diverged { .. }), "{error}");
        (error.to_string(), weights(&trainer), trainer.position)
    });
    assert_eq!(all[0].0, one, "rank 0 has the first shard");
    for (error, weights, position) in &all[1..] {
        assert_eq!(*error, one.replacen(": ", ": rank 0: ", 1));
        assert_eq!((weights, position), (&all[0].1, &all[0].2));
    }
}

/// A number that is not finite in one rank's shard has all ranks leave the step out.
#[test]
fn a_step_that_is_skipped_is_skipped_by_all_ranks() {
    let config = config();
    let shape = Shape::image(6, 1, 28, 28);
    let images = vec![0.5; shape.len()];
    let mut spoilt = images.clone();
    spoilt[5 * 28 * 28..].fill(f32::NAN);
    let steps = |group: Option<&_>, batches: &[&[f32]]| {
        let mut trainer = trainer(&config, group);
        trainer.set_on_nan(OnNan::Skip).unwrap();
        for (step, batch) in batches.iter().enumerate() {
            trainer.position.step = step as u32;
            trainer.step(batch, shape, &[0, 1, 2, 3, 4, 5], 0.01).unwrap();
        }
        (weights(&trainer), trainer.reading().unwrap())
    };
    let (clean, _) = steps(None, &[&images]);
    for ranks in [1, 2, 3] {
        for (weights, reading) in on_ranks(ranks, |group| steps(Some(group), &[&images, &spoilt])) {
            assert!(weights == clean, "on {ranks} ranks");
            assert_eq!((reading.samples, reading.skipped), (6, 1), "on {ranks} ranks");
            assert!(reading.loss.is_finite());
        }
    }
}

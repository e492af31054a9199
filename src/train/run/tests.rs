use std::fs;
use std::path::Path;

use super::*;
use crate::Cpu;
use crate::nn::{Builder, Init, Module as _, Sequential};
use crate::train::{Preset, Trainer};

fn create(folder: &Path) -> Result<Run> {
    Run::create(folder, Preset::Small.config())
}

/// Browsers name the files alike that they have not yet loaded whole.
#[test]
fn parts_of_others_fill_a_folder_and_stay() {
    let place = tempfile::tempdir().unwrap();
    let others = ["film.part", "film.4000000.part", "config.toml.part", "config.toml.x.part"];
    for other in others {
        let (folder, path) = (place.path().join(other), place.path().join(other).join(other));
        drop(create(&folder).unwrap());
        let own = folder.join("state.safetensors.4000000.part");
        fs::write(&path, "half").unwrap();
        fs::write(&own, "half").unwrap();
        Run::resume(&folder).unwrap();
        assert!(path.exists() && !own.exists(), "{other}");
        fs::remove_file(folder.join(CONFIG)).unwrap();
        let error = create(&folder).unwrap_err();
        assert!(matches!(&error, Error::RunNotEmpty { holds, .. } if holds == other), "{error}");
        assert!(path.exists(), "{other}");
    }
}

/// A folder from elsewhere must not have a file of the user's overwritten.
#[cfg(unix)]
#[test]
fn a_lock_that_is_a_link_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (folder, target) = (place.path().join("run"), place.path().join("target"));
    fs::write(&target, "precious").unwrap();
    drop(create(&folder).unwrap());
    fs::remove_file(folder.join(".lock")).unwrap();
    std::os::unix::fs::symlink(&target, folder.join(".lock")).unwrap();
    let error = Run::resume(&folder).unwrap_err().to_string();
    assert!(error.contains(".lock is no plain file"), "{error}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

/// A pipe has no end for who reads it.
#[cfg(unix)]
#[test]
fn a_file_that_is_no_plain_file_is_refused() {
    let place = tempfile::tempdir().unwrap();
    for name in FILES {
        let folder = place.path().join(name);
        write_run(&folder);
        drop(fs::remove_file(folder.join(name)));
        let made = std::process::Command::new("mkfifo").arg(folder.join(name)).status().unwrap();
        assert!(made.success());
        for opened in [Run::open(&folder), Run::resume(&folder)] {
            let error = opened.unwrap_err().to_string();
            assert!(error.contains(&format!("{name} is no plain file; remove it")), "{error}");
        }
    }
}

/// After a failed look at the state, whatever adds to the run looks again.
#[test]
fn a_run_whose_state_cannot_be_restored_loses_no_metrics() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    write_run(&folder);
    let (state, lines) = (folder.join(STATE), folder.join(METRICS));
    let (good, told) = (fs::read(&state).unwrap(), fs::read(&lines).unwrap());
    fs::write(&state, "damaged").unwrap();
    let mut run = Run::open(&folder).unwrap();
    run.restore(&mut trainer(0)).unwrap_err();
    run.append(&metrics(1)).unwrap_err();
    assert_eq!(fs::read(&lines).unwrap(), told);
    fs::write(&state, good).unwrap();
    run.append(&metrics(3)).unwrap();
    assert_eq!(run.metrics().unwrap().len(), 3);
}

/// After so many epochs of eight.
fn trainer(epoch: u32) -> Trainer<Cpu<f32>, Sequential<Cpu<f32>>> {
    let backend = Cpu::<f32>::new();
    let conv = Builder::new(&backend, Init::He, 1).conv2d(1, 2, 1, 1, 0).unwrap();
    // Without momentum the optimiser has no state that only steps give.
    let optimizer = TrainConfig { momentum: 0.0, ..Preset::Small.config() }.optimizer(&backend);
    let mut trainer = Trainer::new(&backend, Sequential::new().push(conv), optimizer, 1).unwrap();
    trainer.position.epoch = epoch;
    trainer
}

fn metrics(epoch: u32) -> EpochMetrics {
    let (loss, accuracy, seconds) = (2.0, 0.5, 1.0);
    EpochMetrics {
        epoch,
        loss,
        train_accuracy: accuracy,
        test_loss: loss,
        test_accuracy: accuracy,
        examples_per_second: 1.0,
        train_seconds: seconds,
        test_seconds: seconds,
        rate: 0.1,
        skipped: 0,
    }
}

/// Makes a run that is saved after two epochs of eight.
fn write_run(folder: &Path) {
    let mut run = create(folder).unwrap();
    [1, 2].into_iter().for_each(|epoch| run.append(&metrics(epoch)).unwrap());
    run.save(&trainer(2)).unwrap();
}

/// What the state knows is not lost by a program that opens the run, and saves what it has trained.
#[test]
fn a_run_that_was_only_opened_is_saved_with_its_metrics() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    write_run(&folder);
    Run::open(&folder).unwrap().save(&trainer(2)).unwrap();
    let run = Run::resume(&folder).unwrap();
    assert_eq!((run.metrics().unwrap(), &run.warnings[..]), (vec![metrics(1), metrics(2)], &[][..]));
    drop(run);
    let mut run = Run::open(&folder).unwrap();
    run.append(&metrics(3)).unwrap();
    run.save(&trainer(3)).unwrap();
    drop(run);
    assert_eq!(Run::resume(&folder).unwrap().metrics().unwrap().len(), 3);

    let fewer = Change { epochs: Some(2), ..Change::default() };
    let error = Run::open(&folder).unwrap().change(&fewer).unwrap_err().to_string();
    assert!(error.contains("2 are fewer than the 3"), "{error}");
    // A damaged state is not overwritten by who has not looked at it.
    let state = folder.join(STATE);
    let mut damaged = fs::read(&state).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&state, &damaged).unwrap();
    let mut run = Run::open(&folder).unwrap();
    for _ in 0..2 {
        let error = run.save(&trainer(3)).unwrap_err();
        assert!(matches!(&error, Error::Weights { path, .. } if *path == state), "{error}");
    }
    assert_eq!(fs::read(&state).unwrap(), damaged);
}

#[test]
fn fewer_epochs_than_are_done_are_named_as_the_setting_that_differs() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    write_run(&folder);
    let path = folder.join(CONFIG);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("epochs = 8", "epochs = 1")).unwrap();
    let error = Run::resume(&folder).unwrap_err().to_string();
    assert!(error.contains("epochs is 1 instead of 8; put them back"), "{error}");
}

/// One more epoch may have been told before its state was saved. Anything else after the state's epochs is damage.
#[test]
fn metrics_that_go_on_otherwise_than_by_the_next_epoch_are_written_anew() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    write_run(&folder);
    let path = folder.join(METRICS);
    let good = fs::read_to_string(&path).unwrap();
    let line = |epoch| serde_json::to_string(&metrics(epoch)).unwrap();
    for (rest, mended) in [
        (format!("{}\n", line(3)), false),
        (line(3), true),
        (format!("{}\n", line(4)), true),
        ("garbage".into(), true),
        ("\n".into(), true),
    ] {
        fs::write(&path, format!("{good}{rest}")).unwrap();
        let run = Run::resume(&folder).unwrap();
        assert_eq!(!run.warnings.is_empty(), mended, "{rest:?}: {:?}", run.warnings);
        assert_eq!(run.metrics().unwrap().len(), if mended { 2 } else { 3 }, "{rest:?}");
    }
}

/// The metrics of an epoch with this test accuracy.
fn scored(epoch: u32, test_accuracy: f64) -> EpochMetrics {
    EpochMetrics { test_accuracy, ..metrics(epoch) }
}

/// A trainer at the end of an epoch, with weights of its own.
fn trained(epoch: u32) -> Trainer<Cpu<f32>, Sequential<Cpu<f32>>> {
    let mut trainer = trainer(epoch);
    for (_, param) in trainer.net.params_mut() {
        param.data_mut().unwrap().fill(epoch as f32);
    }
    trainer
}

/// What a file of weights has, by the epoch in which `trained` made it.
fn epoch_of(path: &Path) -> f32 {
    let mut trainer = trainer(0);
    crate::weights::load(&trainer.backend.clone(), &mut trainer.net, path).unwrap();
    trainer.net.params()[0].1.data()[0]
}

#[test]
fn the_weights_of_the_best_epoch_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let mut run = create(&folder).unwrap();
    run.save(&trained(0)).unwrap();
    assert!(run.best().unwrap_err().to_string().contains("no best weights"));
    for (epoch, accuracy, best) in [(1, 0.25, 1), (2, 0.75, 2), (3, 0.5, 2), (4, 0.75, 2), (5, 0.875, 5), (6, 0.5, 5)] {
        run.append(&scored(epoch, accuracy)).unwrap();
        run.save(&trained(epoch)).unwrap();
        assert_eq!((run.best().unwrap().epoch, epoch_of(&run.best_weights())), (best, best as f32));
        // Another process goes on.
        drop(run);
        run = Run::resume(&folder).unwrap();
        run.restore(&mut trainer(0)).unwrap();
        assert_eq!((&run.warnings[..], run.best().unwrap().epoch), (&[][..], best));
    }
}

/// A process may be killed between the state and the best weights, which are the state's then.
#[test]
fn best_weights_that_the_state_has_are_written_anew_and_others_are_told_as_lost() {
    let place = tempfile::tempdir().unwrap();
    let (folder, other) = (place.path().join("run"), place.path().join("other"));
    let write = |folder: &Path, accuracies: &[f64]| {
        let mut run = create(folder).unwrap();
        for (epoch, accuracy) in (1..).zip(accuracies) {
            run.append(&scored(epoch, *accuracy)).unwrap();
            run.save(&trained(epoch)).unwrap();
        }
    };
    write(&folder, &[0.25, 0.5]);
    write(&other, &[0.25, 0.5, 0.75]);
    let file = folder.join("best.safetensors");
    let good = fs::read(&file).unwrap();
    let resumed = || {
        let mut run = Run::resume(&folder).unwrap();
        run.restore(&mut trainer(0)).unwrap();
        run.warnings.clone()
    };
    fs::remove_file(&file).unwrap();
    assert_eq!((resumed().len(), fs::read(&file).unwrap()), (0, good.clone()));
    // Those of an epoch that this run has not come to, as beside a state that was put back.
    fs::copy(other.join("best.safetensors"), &file).unwrap();
    let error = Run::open(&folder).unwrap().best().unwrap_err().to_string();
    assert!(error.contains("of another course of the run, which has no such epoch 3"), "{error}");
    assert_eq!((resumed().len(), fs::read(&file).unwrap()), (0, good));

    let mut run = Run::resume(&folder).unwrap();
    run.restore(&mut trainer(0)).unwrap();
    run.append(&scored(3, 0.25)).unwrap();
    run.save(&trained(3)).unwrap();
    drop(run);
    fs::write(&file, "damaged").unwrap();
    let warnings = resumed();
    assert!(warnings.len() == 1 && warnings[0].contains("the best weights, of epoch 2, are lost"), "{warnings:?}");
    // A better epoch has better weights.
    let mut run = Run::resume(&folder).unwrap();
    run.restore(&mut trainer(0)).unwrap();
    run.append(&scored(4, 0.75)).unwrap();
    run.save(&trained(4)).unwrap();
    assert_eq!((run.best().unwrap().epoch, epoch_of(&file)), (4, 4.0));
}

/// A process that wrote an epoch's results, and was killed before the state, had other times than its successor.
#[test]
fn results_of_the_next_epoch_may_be_those_of_another_process() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    write_run(&folder);
    let path = folder.join(RESULTS);
    let good = fs::read_to_string(&path).unwrap();
    for (rest, mended) in [
        ("3,2.0,0.5,2.0,0.5,1.0,7.5,1.0,0.1,0\n", false),
        ("4,2.0,0.5,2.0,0.5,1.0,7.5,1.0,0.1,0\n", true),
        ("3,2.0,0.5,2.0,0.5,1.0,7.5,1.0,0.1\n", true),
        ("3,2.0,0.5,2.0,0.5,1.0,x,1.0,0.1,0\n", true),
        ("3,2.0,0.5,2.0,0.5,1.0,7.5,1.0,0.1,0", true),
        ("\n", true),
    ] {
        fs::write(&path, format!("{good}{rest}")).unwrap();
        let run = Run::resume(&folder).unwrap();
        assert_eq!(!run.warnings.is_empty(), mended, "{rest:?}: {:?}", run.warnings);
        assert_eq!(fs::read_to_string(&path).unwrap() == good, mended, "{rest:?}");
    }
}

#[test]
fn settings_that_another_process_changed_are_not_overwritten() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    write_run(&folder);
    let mut opened = Run::open(&folder).unwrap();
    let mut other = Run::resume(&folder).unwrap();
    other.change(&Change { epochs: Some(20), ..Change::default() }).unwrap();
    other.save(&trainer(2)).unwrap();
    drop(other);
    let error = opened.save(&trainer(2)).unwrap_err().to_string();
    assert!(error.contains("config.toml has changed since the run was opened; open it again"), "{error}");
    assert_eq!(Run::resume(&folder).unwrap().config().epochs, 20);
}

#[test]
fn a_run_of_imported_weights_is_read_and_never_gone_on_with() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let trained = trainer(0);
    let nameless = Run::import(&folder, Preset::Small.config(), &trained.backend, &trained.net);
    assert!(matches!(nameless, Err(Error::Config { .. })) && !folder.exists());
    let config = TrainConfig { imported: Some("/elsewhere/net.pt".into()), ..Preset::Small.config() };
    let mut run = Run::import(&folder, config, &trained.backend, &trained.net).unwrap();
    let refused = |outcome: Result<()>| {
        assert!(matches!(outcome, Err(Error::RunImported { from, .. }) if from == Path::new("/elsewhere/net.pt")));
    };
    refused(run.save(&trained));
    drop(run);
    refused(Run::resume(&folder).map(drop));
    let mut run = Run::open(&folder).unwrap();
    assert!(!run.has_state() && run.metrics().unwrap().is_empty());
    refused(run.save(&trained));
    refused(run.restore(&mut trainer(0)));
    let mut other = trainer(0);
    crate::weights::load(&other.backend.clone(), &mut other.net, run.weights()).unwrap();
}

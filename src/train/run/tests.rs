use std::fs;
use std::path::Path;

use super::*;
use crate::Cpu;
use crate::nn::{Builder, Init, Sequential};
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
    let optimizer = Preset::Small.config().optimizer(&backend);
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

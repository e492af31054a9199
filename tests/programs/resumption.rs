//! Runs that go on: what they keep, what may change, and what is refused.

use mlpconv::Cpu;
use mlpconv::nn::Nin;
use mlpconv::train::{Change, Trainer};

use super::*;

/// Five steps an epoch. Momentum, dropout and shuffling all depend on state.
const OPTIONS: &str = "--preset small --schedule constant --lr 0.01 --train-limit 40 --test-limit 8 --batch-size 8";

/// A trainer for the run, as the program makes it.
fn trainer(run: &Run) -> Trainer<Cpu<f32>, Nin<Cpu<f32>>> {
    let (backend, config) = (Cpu::new(), run.config());
    let net = config.preset.net(&backend, config.seed).unwrap();
    Trainer::new(&backend, net, config.optimizer(&backend), config.seed).unwrap()
}

#[test]
fn a_finished_run_is_extended() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 3 --out whole")).good();
    place.train(&format!("{OPTIONS} --epochs 1 --out run")).good();
    let said = place.train("--resume run").good();
    said.line("all 1 epochs are done");
    assert!(!said.stdout.contains("from epoch"), "{}", said.stdout);
    let said = place.train("--resume run --epochs 3").good();
    assert!(said.stderr.contains("another run: epochs: 1, now 3"), "{}", said.stderr);
    assert!(said.line("run ").ends_with("from epoch 2, after step 0"), "{}", said.stdout);
    // At a constant rate it is the run that had three epochs from the beginning.
    assert!(place.weights("run") == place.weights("whole"));
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("changes = [\"after 1 epochs and 0 steps, epochs: 1, now 3\"]"), "{config}");
    place.train("--resume run --epochs 2").bad(&["epochs", "2 are fewer than the 3"]);
    place.train("--resume run --epochs 4 --lr -1").bad(&["lr", "positive"]);
    assert_eq!(fs::read_to_string(place.path("run/config.toml")).unwrap(), config);
    place.train("--resume run").good().line("all 3 epochs are done");
    // A change of a run that is done, or that ends it, holds as well.
    let said = place.train("--resume run --lr 0.02").good();
    assert!(said.stderr.contains("another run: learning rate: 0.01, now 0.02"), "{}", said.stderr);
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("learning_rate = 0.02"), "{config}");
    let mut run = Run::resume(place.path("run")).unwrap();
    let mut trainer = trainer(&run);
    run.restore(&mut trainer).unwrap();
    run.change(&Change { epochs: Some(5), ..Default::default() }).unwrap();
    run.save(&trainer).unwrap();
    drop(run);
    place.train("--resume run --epochs 3").good().line("all 3 epochs are done");
    place.train("--resume run").good().line("all 3 epochs are done");
    assert_eq!(Run::open(place.path("run")).unwrap().metrics().unwrap().len(), 3);
}

/// A change is in the state first. A run killed between the two files goes on with the changed settings.
#[test]
fn a_change_survives_a_kill_between_its_two_files() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 1 --out run")).good();
    let before = fs::read(place.path("run/config.toml")).unwrap();
    let mut run = Run::resume(place.path("run")).unwrap();
    run.change(&Change { learning_rate: Some(0.002), epochs: Some(2), ..Default::default() }).unwrap();
    let mut trainer = trainer(&run);
    run.restore(&mut trainer).unwrap();
    // `config.toml` cannot be replaced: a folder is in its place while the state is saved.
    fs::remove_file(place.path("run/config.toml")).unwrap();
    fs::create_dir(place.path("run/config.toml")).unwrap();
    assert!(run.save(&trainer).unwrap_err().to_string().contains("config.toml"));
    drop(run);
    fs::remove_dir(place.path("run/config.toml")).unwrap();
    fs::write(place.path("run/config.toml"), before).unwrap();

    place.mlpconv("evaluate run").good();
    assert!(place.train("--resume run").good().stdout.contains("epoch 2/2: "));
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("learning_rate = 0.002") && config.contains("epochs = 2"), "{config}");
}

/// A run that was killed before its first save begins anew from its settings.
#[test]
fn a_run_without_a_state_begins_anew() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 1 --out whole")).good();
    fs::create_dir(place.path("run")).unwrap();
    fs::copy(place.path("whole/config.toml"), place.path("run/config.toml")).unwrap();
    let said = place.train("--resume run").good();
    assert!(said.line("run ").ends_with("from epoch 1, after step 0"), "{}", said.stdout);
    assert!(place.weights("run") == place.weights("whole"));
}

/// Beside a state there is no need for anything to be whole: metrics are written anew, parts of dead processes go.
#[test]
fn what_the_state_knows_is_mended() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 3 --out run")).good();
    let path = place.path("run/metrics.jsonl");
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    for damaged in [
        format!("{}\n{}\n", lines[0], lines[2]),
        good.replace("\"epoch\":2", "\"epoch\":7"),
        good.replacen('{', "", 1),
        String::new(),
        good.trim_end().to_owned(),
        format!("{good}{good}"),
    ] {
        fs::write(&path, &damaged).unwrap();
        fs::write(place.path("run/state.safetensors.4000000.part"), "half").unwrap();
        let said = place.train("--resume run").good();
        assert!(said.stderr.contains("metrics.jsonl did not have the epochs"), "{damaged}{}", said.stderr);
        assert_eq!(fs::read_to_string(&path).unwrap(), good);
        assert!(!names(&place.path("run")).iter().any(|name| name.ends_with(".part")));
    }
    // The epoch after the state's may have been told before its state was saved.
    fs::write(&path, format!("{good}{}\n", lines[2].replace("\"epoch\":3", "\"epoch\":4"))).unwrap();
    assert_eq!(place.train("--resume run").good().stderr, "");
}

#[test]
fn a_state_or_data_of_another_run_is_refused() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --epochs 1 --out run")).good();
    place.train(&format!("{OPTIONS} --epochs 1 --seed 1 --out other")).good();
    fs::copy(place.path("other/state.safetensors"), place.path("run/state.safetensors")).unwrap();
    place.train("--resume run").bad(&["config.toml", "seed is 0 instead of 1"]);

    other_data::cifar(&place.path("cifar"));
    other_data::cifar(&place.path("changed"));
    let batch = place.path("changed/test_batch.bin");
    let mut bytes = fs::read(&batch).unwrap();
    bytes[5] ^= 1;
    fs::write(batch, bytes).unwrap();
    let options = "--preset small --data cifar10 --data-dir cifar --train-limit 4 --test-limit 2 --batch-size 2";
    place.train(&format!("{options} --epochs 1 --out colours")).good();
    place.train("--resume colours --epochs 2 --data-dir changed").bad(&["run colours", "other test images"]);
    // The refused resume changed nothing. The run knows where its data lie, until they are moved.
    place.mlpconv("evaluate colours").good();
    assert!(place.train("--resume colours").good().stdout.contains("all 1 epochs are done"));
    fs::rename(place.path("cifar"), place.path("moved")).unwrap();
    place.train("--resume colours --epochs 2").bad(&["cifar"]);
    place.train("--resume colours --epochs 2 --data-dir moved").good();
}

#[test]
fn runs_of_one_second_have_folders_of_their_own() {
    let Some(place) = Place::new() else { return };
    let start = || {
        let mut command = place.command(TRAIN, &format!("{OPTIONS} --epochs 1"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut children: Vec<_> = (0..4).map(|_| start()).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(names(&place.path("runs")).len(), 4);
}

#[test]
fn hidden_files_and_parts_do_not_fill_a_folder() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("run")).unwrap();
    fs::write(place.path("run/.gitkeep"), "").unwrap();
    fs::write(place.path("run/config.toml.4000000.part"), "preset = ").unwrap();
    place.train(&format!("{OPTIONS} --epochs 1 --out run")).good();
    let files = [
        ".gitkeep",
        ".lock",
        "best.safetensors",
        "config.toml",
        "metrics.jsonl",
        "report.html",
        "results.csv",
        "state.safetensors",
        "weights.safetensors",
    ];
    assert_eq!(names(&place.path("run")), files);
}

/// The line that says how to go on is what a shell takes.
#[cfg(unix)]
#[test]
fn the_line_that_says_how_to_go_on_does() {
    let Some(place) = Place::new() else { return };
    let mut command =
        place.command(TRAIN, &format!("{OPTIONS} --epochs 60 --log-every 1 --save-every 90s --threads 1"));
    // A program that cargo has started names cargo.
    command.env_remove("CARGO").args(["--out", "my run's"]).arg("--data-dir").arg(&place.data);
    let said = interruption::interrupt(command, "kill -INT $1", "epoch 1/60, step 2/");
    let line = said.line("go on with: ").strip_prefix("go on with: ").unwrap();
    for option in ["--threads 1", "--log-every 1", "--save-every 90s"] {
        assert!(line.contains(option), "{line}");
    }
    // The folder of the data is the run's own; another place of the same name does not count.
    let mut command = place.command("sh", "-c");
    command.arg(format!("{line} --epochs 2")).env("MLPCONV_DATA", "/nowhere");
    let said = Finished::of(&mut command).good();
    assert!(said.line("run ").contains("my run's, from epoch 1, after step "), "{}", said.stdout);
}

/// Between two epochs the state is saved by time or by steps, so that a kill loses no more than that.
#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_from_its_last_save() {
    let Some(place) = Place::new() else { return };
    let options = "--preset small --epochs 1 --train-limit 256 --test-limit 8 --batch-size 4 --log-every 1";
    place.train(&format!("{options} --out whole")).good();
    let command = place.command(TRAIN, &format!("{options} --save-every 4 --out run"));
    let said = interruption::interrupt(command, "kill -KILL $1", "epoch 1/1, step 10/");
    assert_eq!(said.code, None);
    let said = place.train("--resume run").good();
    let step = said.line("run ").rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(step >= 8 && step.is_multiple_of(4), "{}", said.stdout);
    assert!(place.weights("run") == place.weights("whole"));
    place.train("--save-every never").bad(&["--save-every", "90s, 5m, 1h"]);
}

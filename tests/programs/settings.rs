//! Settings in files, looks at a run beforehand, limits of a run, and what the program says of itself.

use super::*;

/// A few small steps.
const SHORT: &str = "--preset small --train-limit 32 --test-limit 8 --batch-size 8";

/// Asserts that a file of settings is refused with all of `says`.
fn refuse(place: &Place, text: &str, options: &str, says: &[&str]) {
    fs::write(place.path("my.toml"), text).unwrap();
    place.train(&format!("--config my.toml {options}")).bad(says);
    assert_eq!(names(place.folder.path()), ["my.toml"], "{text}");
}

fn config_of(place: &Place, run: &str) -> toml::Table {
    toml::from_str(&fs::read_to_string(place.path(run).join("config.toml")).unwrap()).unwrap()
}

#[test]
fn options_go_before_the_file_and_the_file_before_the_preset() {
    let Some(place) = Place::new() else { return };
    let file =
        "preset = \"small\"\nepochs = 1\nbatch_size = 4\nlearning_rate = 1e-3\ntrain_limit = 8\ntest_limit = 8\n";
    fs::write(place.path("my.toml"), file).unwrap();
    let said = place.train("--config my.toml --batch-size 8 --out run").good();
    assert!(said.line("preset ").ends_with("(as my.toml says)"), "{}", said.stdout);
    let config = config_of(&place, "run");
    assert_eq!(config["batch_size"].as_integer(), Some(8), "the option's");
    assert_eq!(config["learning_rate"].as_float(), Some(1e-3), "the file's");
    assert_eq!(config["momentum"].as_float(), Some(0.9), "the preset's");
}

/// The optimiser of the file decides the recipe.
#[test]
fn the_recipe_is_that_of_the_files_optimiser() {
    let Some(place) = Place::new() else { return };
    fs::write(place.path("my.toml"), "preset = \"small\"\noptimizer = \"adamw\"\n").unwrap();
    place.train("--config my.toml --epochs 1 --train-limit 8 --test-limit 8 --out run").good();
    assert_eq!(config_of(&place, "run")["weight_decay"].as_float(), Some(0.01));
}

#[test]
fn a_runs_own_settings_give_the_same_run() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{SHORT} --epochs 1 --seed 3 --out one")).good();
    place.train("--resume one --epochs 2").good();
    // The history of changes is the other run's.
    place.train("--config one/config.toml --epochs 1 --out two").good();
    assert!(!config_of(&place, "two").contains_key("changes"));
    place.train(&format!("{SHORT} --epochs 1 --seed 3 --out three")).good();
    assert!(place.weights("two") == place.weights("three"));
}

#[test]
fn a_file_names_what_is_wrong_with_it() {
    let Some(place) = Place::new() else { return };
    refuse(&place, "seed = 1\nepoch = 3\n", "", &["my.toml, line 2", "no setting epoch", "did you mean epochs?"]);
    refuse(&place, "lr = 0.1\n", "", &["my.toml, line 1", "did you mean learning_rate?"]);
    refuse(&place, "zzz = 0.1\n", "", &["the keys are preset, data"]);
    refuse(&place, "\nepochs = \"ten\"\n", "", &["line 2", "epochs = \"ten\"", "a whole number, at least 1"]);
    refuse(&place, "epochs = 0\n", "", &["line 1", "epochs = 0", "at least 1"]);
    refuse(&place, "learning_rate = -1\n", "", &["learning_rate = -1: must be positive"]);
    refuse(&place, "preset = \"huge\"\n", "", &["preset = \"huge\"", "d2l, d2l-gluon, stable, small"]);
    refuse(&place, "schedule = \"sometimes\"\n", "", &["schedule = \"sometimes\"", "step:EVERY:FACTOR"]);
    refuse(&place, "preset = \"d2l\"\nresize = 28\n", "", &["line 2", "resize = 28", "67 at least"]);
    refuse(&place, "seed = 1\npreset = \"small\n", "", &["my.toml, line 2"]);
    refuse(&place, "precision = \"bf16\"\n", "", &["as my.toml says", "--precision fp32"]);
    refuse(&place, "device = \"tpu\"\n", "", &["as my.toml says", "auto, cpu, cuda"]);
    // What an option sets is not the file's fault.
    refuse(&place, "epochs = 1\n", "--epochs 0", &["error: epochs: must be at least 1"]);
    place.train("--config nowhere").bad(&["nowhere"]);
    place.train("--config my.toml --resume run").bad(&["--config"]);
}

#[test]
fn relative_paths_begin_at_the_file() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("sub")).unwrap();
    fs::write(place.path("sub/my.toml"), "data = \"photos\"\n").unwrap();
    place.train("--config sub/my.toml").bad(&["sub/photos", "no such folder"]);
}

#[test]
fn a_dry_run_writes_nothing_and_its_settings_are_the_runs() {
    let Some(place) = Place::new() else { return };
    let said = place.train(&format!("{SHORT} --shards 2 --epochs 2 --dry-run")).good();
    assert_eq!(names(place.folder.path()), [""; 0]);
    for start in ["# network ", "# plan ", "# memory ", "# time "] {
        said.line(start);
    }
    assert!(said.line("# steps ").ends_with(" 8 of 8 images in 2 shards: 2 epochs of 4"), "{}", said.stdout);
    assert!(said.stdout.contains("steps were timed, on the data set's images"), "{}", said.stdout);
    fs::write(place.path("my.toml"), &said.stdout).unwrap();
    place.train("--config my.toml --out one").good();
    place.train(&format!("{SHORT} --shards 2 --epochs 2 --out two")).good();
    assert!(config_of(&place, "one") == config_of(&place, "two"));
    assert!(place.weights("one") == place.weights("two"));
    place.train("--epochs 0 --dry-run").bad(&["epochs", "at least 1"]);
}

/// A data set that is not here is not fetched, and its steps are timed on random images.
#[test]
fn a_dry_run_fetches_nothing() {
    let Some(place) = Place::new() else { return };
    let mut command = place.command(TRAIN, "--preset small --data kmnist --batch-size 8 --dry-run");
    let said = Finished::of(command.env_remove("MLPCONV_DATA").env("XDG_CACHE_HOME", place.path("cache"))).good();
    assert!(said.line("# data ").contains("is not on this machine"), "{}", said.stdout);
    assert!(said.line("# time ").contains("on random images"), "{}", said.stdout);
    assert_eq!(names(place.folder.path()), [""; 0]);
}

#[test]
fn a_network_that_learns_knows_a_batch_by_heart() {
    let Some(place) = Place::new() else { return };
    let said = place.train(&format!("{SHORT} --overfit-batch")).good();
    assert!(said.stdout.contains("the network can learn: it knows the batch by heart after "), "{}", said.stdout);
    assert_eq!(names(place.folder.path()), [""; 0]);
    // At such a rate it learns nothing.
    let said = place.train(&format!("{SHORT} --shards 2 --lr 1e-9 --overfit-batch 3"));
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.line("batch ").contains("8 images in 2 shards, the same"), "{}", said.stdout);
    assert!(said.line("the network did not learn the batch in 3 steps").contains("--lr"), "{}", said.stdout);
}

#[test]
fn options_that_a_check_of_one_batch_ignores_are_refused() {
    let Some(place) = Place::new() else { return };
    for option in ["--out run", "--progress json", "--time-limit 1s", "--save-every 5m", "--tensorboard"] {
        let said = place.train(&format!("{SHORT} --overfit-batch {option}")).bad(&["--overfit-batch"]);
        assert_eq!(said.code, Some(2), "{option}");
    }
}

#[test]
fn a_time_limit_stops_a_run_that_can_go_on() {
    let Some(place) = Place::new() else { return };
    let options = "--preset small --train-limit 512 --test-limit 8 --batch-size 4 --epochs 200";
    let said = place.train(&format!("{options} --time-limit 1s --log-every 100 --out run")).good();
    let stopped = said.line("time limit of 1s reached ");
    assert!(stopped.ends_with("saved to run/weights.safetensors"), "{stopped}");
    let on = said.line("go on with: ");
    assert!(on.ends_with(" --resume run --log-every 100 --time-limit 1s"), "{on}");
    assert!(!config_of(&place, "run").contains_key("time_limit"));
    let said = place.train("--resume run --time-limit 1s").good();
    assert!(said.line("run ").contains(", from epoch "), "{}", said.stdout);
    place.train("--time-limit 10").bad(&["--time-limit", "90s, 5m, 1h"]);
}

#[test]
fn patience_ends_a_run_and_counts_the_epochs_before_a_resumption() {
    let Some(place) = Place::new() else { return };
    // Nothing is learnt, so the first epoch stays the best.
    let options = format!("{SHORT} --lr 1e-9 --epochs 9");
    let said = place.train(&format!("{options} --patience 2 --out run")).good();
    said.line("stopped after epoch 3: for 2 epochs no test accuracy was above ");
    said.line("done: ");
    let said = place.train("--resume run").good();
    assert!(said.line("stopped ").ends_with("of epoch 1; a larger --patience goes on"), "{}", said.stdout);
    let said = place.train("--resume run --patience 4").good();
    said.line("stopped after epoch 5: for 4 epochs ");
    assert_eq!(config_of(&place, "run")["patience"].as_integer(), Some(4));
    assert_eq!(Run::open(place.path("run")).unwrap().metrics().unwrap().len(), 5);
    place.train("--patience 0").bad(&["patience", "at least 1"]);
}

#[cfg(unix)]
#[test]
fn a_shell_takes_the_completions() {
    let Some(place) = Place::new() else { return };
    for (shell, says) in [("bash", "--overfit-batch"), ("zsh", "#compdef mlpconv"), ("fish", "complete -c mlpconv")] {
        assert!(place.mlpconv(&format!("completions {shell}")).good().stdout.contains(says), "{shell}");
    }
    let script = place.mlpconv("completions bash").good().stdout;
    fs::write(place.path("script"), script).unwrap();
    let checked = Finished::of(&mut place.command("bash", "-n script")).good();
    assert_eq!(checked.stderr, "");
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let Some(place) = Place::new() else { return };
    let whole = place.mlpconv("man").good().stdout;
    place.mlpconv("man --out pages").good();
    let pages = names(&place.path("pages"));
    assert!(["mlpconv.1", "mlpconv-train.1", "mlpconv-man.1"].iter().all(|page| pages.iter().any(|name| name == page)));
    assert_eq!(whole.lines().filter(|line| line.starts_with(".TH ")).count(), pages.len());
    let train = fs::read_to_string(place.path("pages/mlpconv-train.1")).unwrap();
    for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIMISER", ".SH DEVICE"] {
        assert!(train.lines().any(|line| line.trim_matches('"') == section), "{section}: {train}");
    }
    // Where there is groff, it has nothing to say against them.
    if Command::new("groff").arg("--version").output().is_ok() {
        for page in pages {
            let checked = Finished::of(&mut place.command("groff", &format!("-man -Tutf8 -ww -z pages/{page}"))).good();
            assert_eq!(checked.stderr, "", "{page}");
        }
    }
}

/// Options that belong to the rest of a command are not listed below a heading that is not theirs.
#[test]
fn help_is_grouped() {
    let Some(place) = Place::new() else { return };
    let help = place.mlpconv("train --help").good().stdout;
    let headings = ["Network and data:", "Training:", "Optimiser:", "Run:", "Output and saving:", "Device:"];
    let at = headings.map(|heading| help.find(heading).unwrap_or_else(|| panic!("{heading} is not in {help}")));
    assert!(at.is_sorted(), "{help}");
    let help = Finished::of(place.command(MLPCONV, "train --help").env("COLUMNS", "40")).good().stdout;
    assert!(help.lines().all(|line| line.chars().count() <= 40), "{help}");
}

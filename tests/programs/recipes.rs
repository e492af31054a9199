//! Recipes: augmentation, averages, holdout and the scores at a run's end.

use mlpconv::train::Score;

use super::*;

/// All that a recipe may have, on few images.
const RECIPE: &str = "--preset tuned --epochs 3 --train-limit 96 --test-limit 40 --batch-size 16 --seed 3 --translate 1 \
                      --erasing 0.9 --erasing-rest 1 --fliplr random --normalize 0.25:0.5 --label-smoothing 0.2 --lsuv \
                      --rate-multiplier *.bias=2 --average tail:0.5 --tta --holdout 30";

fn scores(run: &Path) -> Vec<Score> {
    serde_json::from_str(&fs::read_to_string(run.join("scores.json")).unwrap()).unwrap()
}

#[test]
fn a_run_ends_with_the_scores_that_evaluate_finds() {
    let Some(place) = Place::new() else { return };
    let said = place.train(&format!("{RECIPE} --out run")).good();
    let folder = place.path("run");
    let config: toml::Table = toml::from_str(&fs::read_to_string(folder.join("config.toml")).unwrap()).unwrap();
    let settings = [
        "fliplr",
        "translate",
        "erasing",
        "erasing_rest",
        "normalize",
        "label_smoothing",
        "lsuv",
        "average",
        "tta",
        "holdout",
    ];
    assert!(settings.iter().all(|key| config.contains_key(*key)), "{config:?}");
    assert_eq!(config["normalize"].as_str(), Some("0.25:0.5"));
    assert_eq!(config["rate_multipliers"].as_array().unwrap()[0].as_str(), Some("*.bias=2"));

    let scores = scores(&folder);
    let what: Vec<_> = scores.iter().map(|score| (&*score.weights, score.tta, score.images)).collect();
    let (last, average) = ("weights.safetensors", "average.safetensors");
    assert_eq!(what, [(last, false, 40), (last, true, 40), (average, false, 40), (average, true, 40)]);
    for (score, options) in scores.iter().zip(["", "--tta", "--average", "--average --tta"]) {
        let (loss, accuracy) = (score.loss, score.accuracy);
        let evaluated = place.mlpconv(&format!("evaluate run {options}")).good();
        let line = format!("test loss {loss:.4}, test accuracy {accuracy:.4} on 40 images");
        assert_eq!(evaluated.line("test loss "), line, "{options}");
        assert!(
            said.stdout.contains(&format!("score    test accuracy {accuracy:.4}, loss {loss:.4}, {}", score.weights)),
            "{}",
            said.stdout
        );
    }
    assert!(said.line("done: ").contains(&format!("test accuracy {:.4}", scores[3].accuracy)));
    assert!(said.line("weights  ").ends_with(average), "the weights of the score that counts");
    assert_ne!(scores[0].loss, scores[2].loss, "the average is other weights");
    let report = fs::read_to_string(folder.join("report.html")).unwrap();
    let counts = format!("Test accuracy {:.4} by {average} on images and their mirror images", scores[3].accuracy);
    assert!(report.contains(&counts) && report.contains("holdout accuracy"), "{report:.9000}");
    place.mlpconv("report run --average --out average.html").good();
    assert!(fs::read_to_string(place.path("average.html")).unwrap().contains(&format!("By {average}, on all 40")));
    let compared = place.mlpconv("compare run").good();
    let row: Vec<&str> = compared.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row.contains(&"holdout") && row.contains(&&*format!("{:.4}", scores[3].accuracy)), "{row:?}");
    place.train("--config run/config.toml --out again").good();
    assert!(place.weights("run") == place.weights("again"), "its config.toml is the whole recipe");

    // The scores of a run that was killed at its end are made up for; those of a run that goes on are not kept.
    fs::remove_file(folder.join("scores.json")).unwrap();
    place.train("--resume run").good();
    assert_eq!(self::scores(&folder), scores);
    place.train("--resume run --epochs 4").good();
    assert_ne!(self::scores(&folder), scores);

    // Epochs are measured on 30 images that are not the test images.
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let last: EpochMetrics = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
    assert!(said.line("epoch 3/3: ").contains("holdout acc"), "{}", said.stdout);
    let thirtieths = last.test_accuracy * 30.0;
    assert!((thirtieths - thirtieths.round()).abs() < 1e-9 && last.test_loss != scores[0].loss, "{last:?}");
}

/// The signal comes with the last epoch's line, and 500 images are still to be scored six times, which takes seconds.
#[cfg(unix)]
#[test]
fn a_signal_during_the_final_scores_is_an_interruption() {
    let Some(place) = Place::new() else { return };
    let long = RECIPE.replace("--test-limit 40", "--test-limit 500").replace("--epochs 3", "--epochs 2");
    let command = place.command(TRAIN, &format!("{long} --out run"));
    let said = interruption::interrupt(command, "kill -INT $1", "epoch 2/2: loss");
    assert_eq!(said.code, Some(130), "{}{}", said.stdout, said.stderr);
    assert!(said.line("interrupted ").starts_with("interrupted after epoch 2; saved to "), "{}", said.stdout);
    assert!(!said.stdout.contains("done: ") && !place.path("run/scores.json").exists(), "{}", said.stdout);
    let said = place.train("--resume run").good();
    let accuracy = scores(&place.path("run"))[3].accuracy;
    assert!(said.line("done: ").contains(&format!("test accuracy {accuracy:.4}")), "{}", said.stdout);
}

/// At such a rate no epoch is better than the first.
#[test]
fn patience_and_the_best_weights_go_by_the_holdout() {
    let Some(place) = Place::new() else { return };
    let options = "--preset small --train-limit 16 --test-limit 8 --batch-size 8 --holdout 20 --patience 1 --lr 1e-30";
    let said = place.train(&format!("{options} --epochs 4 --out run --tensorboard")).good();
    let stopped = "stopped after epoch 2: for an epoch no holdout accuracy was above";
    assert!(said.line("stopped ").starts_with(stopped), "{}", said.stdout);
    assert!(said.line("best ").contains("(epoch 1, holdout accuracy "), "{}", said.stdout);
    let best = place.mlpconv("evaluate run --best").good();
    assert!(best.stderr.contains("epoch 1, holdout accuracy "), "{}", best.stderr);
    let events = fs::read_dir(place.path("run")).unwrap().map(|entry| entry.unwrap().path());
    let events = events.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("events."));
    let bytes: Vec<u8> = events.flat_map(|path| fs::read(path).unwrap()).collect();
    let has = |tag: &str| bytes.windows(tag.len()).any(|window| window == tag.as_bytes());
    assert!(has("accuracy/holdout") && !has("accuracy/test"));
}

#[test]
fn parts_of_a_presets_recipe_can_be_switched_off() {
    let Some(place) = Place::new() else { return };
    let limits = "--preset tuned --epochs 1 --train-limit 8 --test-limit 8 --batch-size 8";
    let off = "--average none --tta=false --nesterov=false --decay-weights-only=false --fliplr none";
    let said = place.train(&format!("{limits} {off} --out run")).good();
    assert!(said.stderr.contains("warning: nothing is erased"), "{}", said.stderr);
    let config: toml::Table = toml::from_str(&fs::read_to_string(place.path("run/config.toml")).unwrap()).unwrap();
    assert_eq!(config["average"].as_str(), Some("none"));
    assert!(["tta", "nesterov", "decay_weights_only"].iter().all(|key| config[*key].as_bool() == Some(false)));
    assert!(!place.path("run/scores.json").exists() && !place.path("run/average.safetensors").exists());
    place.mlpconv("evaluate run --average").bad(&["no average of its weights", "average is none"]);
}

/// Interrupted in its first epoch, in which parts of images are erased, and in its second, in which nothing is and the average
/// has begun.
#[cfg(unix)]
#[test]
fn an_interrupted_recipe_ends_with_the_same_bits() {
    let Some(place) = Place::new() else { return };
    let longer =
        RECIPE.replace("--epochs 3", "--epochs 2 --log-every 1").replace("--train-limit 96", "--train-limit 256");
    let longer = longer.replace("--batch-size 16", "--batch-size 4");
    place.train(&format!("{longer} --out whole")).good();
    let commands = [format!("{longer} --out run"), "--resume run --log-every 1".into()];
    for (command, epoch) in commands.into_iter().zip([1, 2]) {
        let command = place.command(TRAIN, &command);
        let said = interruption::interrupt(command, "kill -INT $1", &format!("epoch {epoch}/2, step 9/"));
        assert_eq!(said.code, Some(130), "{}{}", said.stdout, said.stderr);
    }
    assert!(!place.path("run/scores.json").exists());
    place.train("--resume run").good();
    for file in ["weights.safetensors", "average.safetensors", "scores.json"] {
        let read = |run: &str| fs::read(place.path(run).join(file)).unwrap();
        assert!(read("whole") == read("run"), "{file} differs");
    }
}

#[test]
fn a_recipe_has_the_same_bits_with_any_number_of_threads() {
    let Some(place) = Place::new() else { return };
    for (name, threads) in [("one", 1), ("three", 3)] {
        place.train(&format!("{RECIPE} --threads {threads} --out {name}")).good();
    }
    assert!(place.weights("one") == place.weights("three"));
    let without = RECIPE.replace("--fliplr random", "--fliplr none");
    place.train(&format!("{without} --out other")).good();
    assert!(place.weights("one") != place.weights("other"), "flips change nothing");
}

#[test]
fn recipes_that_cannot_be_are_refused_before_the_start() {
    let Some(place) = Place::new() else { return };
    let refused = |options: &str, says: &[&str]| {
        let limits = "--preset small --epochs 1 --train-limit 8 --test-limit 8 --out refused";
        place.train(&format!("{limits} {options}")).bad(says);
        assert!(!place.path("refused").exists(), "{options}");
    };
    refused("--translate 28", &["translate", "28x28"]);
    refused("--erasing 1.5", &["erasing", "from 0 to 1"]);
    refused("--fliplr left", &["none, random, alternate and always"]);
    refused("--normalize 0.3", &["MEAN:DEVIATION"]);
    refused("--normalize 0.1,0.2:1,1", &["2 means for images of 1 channels"]);
    refused("--label-smoothing -0.1", &["label-smoothing", "from 0 to 1"]);
    refused("--rate-multiplier *.gamma=2", &["fits no parameter", "0.0.weight"]);
    refused("--average tail:2", &["tail:SHARE"]);
    refused("--holdout 60000", &["holdout", "none to train on"]);
    refused("--schedule one-cycle:3", &["one-cycle:RISE"]);
}

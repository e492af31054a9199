//! Options and settings that are refused by name.

use super::*;

/// Asserts that `train` with the options in `line` fails with all of `says` in its error, and leaves no file
/// behind.
fn refuse(line: &str, says: &[&str]) {
    let Some(place) = Place::new() else { return };
    place.train(line).bad(says);
    assert_eq!(names(place.folder.path()), [""; 0], "{line}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    refuse("--epochs 0", &["epochs", "at least 1"]);
    refuse("--epochs many", &["--epochs", "many"]);
    refuse("--batch-size 0", &["batch-size", "at least 1"]);
    refuse("--train-limit 0", &["train-limit", "at least 1"]);
    refuse("--test-limit 0", &["test-limit", "at least 1"]);
    refuse("--threads 0", &["threads", "between 1 and 1024"]);
    refuse("--threads 40000", &["threads", "between 1 and 1024"]);
    for rate in ["0", "-1", "nan", "inf"] {
        refuse(&format!("--lr {rate}"), &["lr", "positive and finite"]);
    }
    refuse("--momentum 1", &["momentum", "in [0, 1)"]);
    refuse("--momentum -0.5", &["momentum", "in [0, 1)"]);
    refuse("--weight-decay -1", &["weight-decay", "zero or positive"]);
    refuse("--nesterov --momentum 0", &["nesterov", "--momentum 0.9"]);
    refuse("--beta1 0.5", &["beta1", "sgd has none", "--optimizer adamw"]);
    refuse("--eps 1e-6", &["eps", "sgd has none", "--optimizer adamw"]);
    refuse("--optimizer adamw --momentum 0.9", &["momentum", "adamw has none", "--beta1", "--optimizer sgd"]);
    refuse("--optimizer adamw --nesterov", &["nesterov", "adamw has none", "--optimizer sgd"]);
    refuse("--optimizer adamw --beta1 1", &["beta1", "in [0, 1)"]);
    refuse("--optimizer adamw --beta2 -0.1", &["beta2", "in [0, 1)"]);
    for eps in ["0", "1e-40", "inf", "nan"] {
        refuse(&format!("--optimizer adamw --eps {eps}"), &["eps", "at least 1.2e-38, and finite"]);
    }
    refuse("--schedule sometimes", &["--schedule", "step:EVERY:FACTOR"]);
}

/// Rayon ignores what is no number of threads, and starts tens of thousands for 20 s without a word.
#[test]
fn numbers_of_rayons_threads_are_refused() {
    let Some(place) = Place::new() else { return };
    for threads in ["100000", "0", "-1", "abc"] {
        let refuse = |program: &str, line: &str| {
            let finished = Finished::of(place.command(program, line).env("RAYON_NUM_THREADS", threads));
            finished.bad(&["RAYON_NUM_THREADS", threads, "between 1 and 1024"]);
        };
        refuse(TRAIN, "--train-limit 8");
        refuse(MLPCONV, "summary");
    }
    for threads in ["", "3"] {
        Finished::of(place.command(MLPCONV, "summary").env("RAYON_NUM_THREADS", threads)).good();
    }
}

#[test]
fn images_too_small_or_too_large_are_refused() {
    refuse("--resize 0", &["resize", "between 1 and 1024"]);
    refuse("--resize 100000", &["resize", "between 1 and 1024"]);
    refuse("--preset small --resize 2", &["resize", "2 pixels are too few for preset small", "at least"]);
    // Sides before the three poolings with their windows of 3x3: 14, 6, 2 from 66 pixels, 15, 7, 3 from 67.
    refuse("--preset d2l --resize 28", &["resize", "28 pixels are too few for preset d2l", "67 at least"]);
    let Some(place) = Place::new() else { return };
    place.mlpconv("summary --preset d2l --resize 66").bad(&["resize", "67 at least"]);
    place.mlpconv("summary --preset d2l --resize 67").good();
    place.mlpconv("summary --preset d2l --batch-size 0").bad(&["batch"]);
}

#[test]
fn unknown_names_are_refused() {
    refuse("--optimizer adam", &["--optimizer", "neither sgd nor adamw"]);
    refuse("--preset huge", &["--preset", "none of d2l, d2l-gluon, stable, small, tuned and cifar"]);
    refuse("--device tpu", &["device tpu", "auto, cpu, cuda"]);
    // No machine has a hundred GPUs, so this fails with and without CUDA in the build.
    refuse("--device cuda:99", &["cuda", "--device cpu"]);
    refuse("--device cuda:one", &["device cuda:one", "not a number"]);
    refuse("--device cpu --precision bf16", &["fp32", "--precision"]);
    refuse("--precision fp8", &["fp8", "fp32, tf32 and bf16"]);
    refuse("--data-dir elsewhere", &["elsewhere", "--data-dir", "train-images-idx3-ubyte"]);
    refuse("--resume elsewhere", &["elsewhere", "config.toml", "a folder that a run has made"]);
    refuse("--resume elsewhere --momentum 0.1", &["--resume"]);
    let Some(place) = Place::new() else { return };
    place.mlpconv("evaluate elsewhere").bad(&["elsewhere", "config.toml"]);
    place.mlpconv("time --device cpu --portable").bad(&["portable", "an option of GPUs", "--device cuda"]);
    place.mlpconv("time --batch-size 0").bad(&["batch-size", "at least 1"]);
    place.mlpconv("time --preset small --steps 2000000000000000000").bad(&["steps", "more than 1073741824"]);
    place.mlpconv("model --batch-size 1000000000000").bad(&["batch-size", "more than 131072"]);
    place.mlpconv("scaling --batch-size 1000000000000").bad(&["batch-size", "at most 131072"]);
    place.mlpconv("scaling --total 0").bad(&["total", "at least 1"]);
    place.mlpconv("scaling --measure --steps 2000000000000000000").bad(&["steps", "at most 1048576"]);
}

#[test]
fn a_changed_run_folder_is_refused() {
    let Some(place) = Place::new() else { return };
    place.train("--preset small --train-limit 8 --test-limit 8 --batch-size 8 --epochs 1 --out run").good();
    place.mlpconv("evaluate run --test-limit 0").bad(&["test-limit", "at least 1"]);
    let config = place.path("run/config.toml");
    let good = fs::read_to_string(&config).unwrap();
    for (from, to, says) in [
        ("epochs = 1", "epochs = 0", "epochs"),
        ("batch_size", "bunch_size", "bunch_size"),
        ("seed = 0", "seed = ", "config.toml"),
        ("optimizer = \"sgd\"", "optimizer = \"adamw\"", "momentum"),
    ] {
        assert!(good.contains(from));
        fs::write(&config, good.replace(from, to)).unwrap();
        place.train("--resume run").bad(&["run", "config.toml", says]);
    }
    // Good settings that are not those of the state.
    for (from, to, says) in [
        ("seed = 0", "seed = 1", "seed is 1 instead of 0"),
        ("learning_rate = 0.025", "learning_rate = 0.5", "learning_rate is 0.5 instead of 0.025"),
        ("momentum = 0.9", "momentum = 0.8", "momentum is 0.8 instead of 0.9"),
        ("batch_size = 8\n", "batch_size = 4\n", "batch_size is 4 instead of 8"),
        ("device = \"cpu\"", "device = \"cPu\"", "\"cPu\" is neither cpu nor cuda:N"),
        ("\"small\"", "\"d2l\"", "preset is \"d2l\" instead of \"small\""),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&config, good.replace(from, to)).unwrap();
        place.train("--resume run").bad(&["run", "config.toml", says]);
        place.mlpconv("evaluate run").bad(&["run", "config.toml", says]);
    }
    // Settings without an optimiser, as older versions wrote them, are accepted.
    let lines =
        good.lines().filter(|line| !["optimizer", "beta1", "beta2", "eps"].contains(&line.split(' ').next().unwrap()));
    fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
    place.train("--resume run").good();
    fs::write(&config, good).unwrap();
    fs::remove_file(place.path("run/state.safetensors")).unwrap();
    place.train("--resume run").bad(&["state.safetensors is missing", "metrics.jsonl"]);
}

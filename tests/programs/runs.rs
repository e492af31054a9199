//! Runs to their end, and the folders that they leave.

use super::*;

#[test]
fn a_run_says_what_it_does_and_leaves_it_in_a_folder() {
    let Some(place) = Place::new() else { return };
    let options = "--epochs 2 --train-limit 60 --test-limit 40 --batch-size 16 --lr 0.01 --schedule step:1:0.5";
    let said = place.train(&format!("{options} --seed 3 --log-every 2")).good();

    // Without --out the folder's name has preset and time.
    let runs = names(&place.path("runs"));
    let [name] = &runs[..] else { panic!("{runs:?}") };
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    match name.split('-').collect::<Vec<_>>()[..] {
        ["small", date, time] => assert!(digits(date, 8) && digits(time, 6), "{name}"),
        _ => panic!("{name}"),
    }
    assert!(said.line("run ").ends_with(&format!("runs/{name}")), "{}", said.stdout);

    let folder = place.path("runs").join(name);
    let files = [
        ".lock",
        "best.safetensors",
        "config.toml",
        "metrics.jsonl",
        "report.html",
        "results.csv",
        "state.safetensors",
        "weights.safetensors",
    ];
    assert_eq!(names(&folder), files);

    let device = said.line("device ");
    assert!(device.contains("CPU") && device.contains("(") && device.contains("CUDA"), "{device}");
    let preset = Preset::Small.config();
    let size = preset.resize;
    let line = said.line("preset ");
    assert!(line.contains(&format!("small at {size}x{size} (the default on a CPU")), "{line}");
    assert!(said.line("data ").contains(place.data.to_str().unwrap()));

    // The file has the settings of options, and the defaults.
    let config: toml::Table = toml::from_str(&fs::read_to_string(folder.join("config.toml")).unwrap()).unwrap();
    assert_eq!(config["preset"].as_str(), Some("small"));
    assert_eq!(config["device"].as_str(), Some("cpu"));
    assert_eq!(config["schedule"].as_str(), Some("step:1:0.5"));
    assert_eq!(config["optimizer"].as_str(), Some("sgd"));
    assert_eq!(config["learning_rate"].as_float(), Some(0.01));
    assert_eq!(config["momentum"].as_float(), Some(preset.momentum));
    assert_eq!(config["weight_decay"].as_float(), Some(preset.weight_decay));
    assert_eq!(config["nesterov"].as_bool(), Some(preset.nesterov));
    let integers = [
        ("epochs", 2),
        ("batch_size", 16),
        ("resize", size as i64),
        ("seed", 3),
        ("train_limit", 60),
        ("test_limit", 40),
    ];
    for (key, value) in integers {
        assert_eq!(config[key].as_integer(), Some(value), "{key}");
    }

    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let metrics: Vec<EpochMetrics> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(metrics.len(), 2);
    for (m, (epoch, rate)) in metrics.iter().zip([(1, 0.01), (2, 0.005)]) {
        assert_eq!((m.epoch, m.rate), (epoch, rate));
        assert!((0.5..5.0).contains(&m.loss) && (0.5..5.0).contains(&m.test_loss), "{m:?}");
        assert!((0.0..=1.0).contains(&m.train_accuracy) && (0.0..=1.0).contains(&m.test_accuracy), "{m:?}");
        assert!(m.train_seconds > 0.0 && m.test_seconds > 0.0, "{m:?}");
        let rate = 60.0 / m.train_seconds;
        assert!((m.examples_per_second / rate - 1.0).abs() < 1e-6, "{m:?}");
        // The book's line.
        let line = format!(
            "epoch {}/2: loss {:.3}, train acc {:.3}, test acc {:.3}, {:.1} examples/s",
            m.epoch, m.loss, m.train_accuracy, m.test_accuracy, m.examples_per_second
        );
        assert_eq!(said.line(&format!("epoch {epoch}/2: ")), line);
    }

    // 60 images are four steps: the run's first one is printed, then every second one.
    let steps: Vec<&str> = said.stdout.lines().filter(|line| line.contains(", step ")).collect();
    let told = ["1/2, step 1/4", "1/2, step 2/4", "1/2, step 4/4", "2/2, step 2/4", "2/2, step 4/4"];
    assert_eq!(steps.len(), told.len(), "{steps:?}");
    for (line, start) in steps.iter().zip(told) {
        assert!(line.starts_with(&format!("epoch {start}: loss ")), "{line}");
        let rate = line.strip_suffix(" images/s").and_then(|line| line.rsplit(' ').next()).unwrap();
        // A step of 16 images takes at least 16 µs.
        assert!((1.0..1e6).contains(&rate.parse::<f64>().unwrap()), "{line}");
    }
    assert!(said.line("weights ").ends_with("weights.safetensors"));

    // The saved weights have the run's final accuracy.
    let accuracy = format!("test accuracy {:.4}", metrics[1].test_accuracy);
    assert!(said.line("done: ").contains(&accuracy));
    let evaluated = place.mlpconv(&format!("evaluate {}", folder.display())).good().stdout;
    let expected = format!("test loss {:.4}, {accuracy} on 40 images\n", metrics[1].test_loss);
    assert!(evaluated.starts_with(&expected), "{evaluated}");
    let fewer = place.mlpconv(&format!("evaluate {} --test-limit 7", folder.display())).good();
    assert!(fewer.line("test loss ").ends_with(" on 7 images"), "{}", fewer.stdout);
}

#[test]
fn the_requested_preset_and_device_are_printed_with_their_option() {
    let Some(place) = Place::new() else { return };
    let options = "--preset small --device cpu --train-limit 8 --test-limit 8 --batch-size 8 --epochs 1";
    let said = place.train(&format!("{options} --out run")).good();
    assert!(said.line("device ").ends_with("(as --device says)"), "{}", said.stdout);
    assert!(said.line("preset ").ends_with("(as --preset says)"), "{}", said.stdout);
}

/// That the same seed gives the same bits with any number of threads is a promise, in `tests/promises/bits.rs`.
#[test]
fn threads_are_told_and_another_seed_gives_other_bits() {
    let Some(place) = Place::new() else { return };
    let run = |name: &str, options: &str, rayon: Option<&str>| {
        let limits = "--preset small --epochs 1 --train-limit 8 --test-limit 8 --batch-size 8";
        let mut command = place.command(TRAIN, &format!("{limits} --out {name} {options}"));
        rayon.map(|threads| command.env("RAYON_NUM_THREADS", threads));
        let said = Finished::of(&mut command).good();
        (place.weights(name), said.line("device ").to_owned())
    };
    let (weights, device) = run("one", "--seed 5 --threads 1", None);
    assert!(device.contains("1 thread"), "{device}");
    let (other, device) = run("two", "--seed 6 --threads 2", None);
    assert!(device.contains("2 threads"), "{device}");
    let (_, device) = run("rayon", "--seed 5", Some("1"));
    assert!(device.contains("1 thread"), "{device}");
    assert!(weights != other, "another seed gives the same");
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("mine")).unwrap();
    fs::write(place.path("mine/config.toml"), "precious").unwrap();
    place.train("--train-limit 8 --test-limit 8 --epochs 1 --out mine").bad(&["mine", "--out", "--resume"]);
    assert_eq!(names(&place.path("mine")), ["config.toml"]);
    assert_eq!(fs::read_to_string(place.path("mine/config.toml")).unwrap(), "precious");
}

#[test]
fn d2l_gluon_is_a_preset_of_its_own() {
    let Some(place) = Place::new() else { return };
    let options = "--preset d2l-gluon --resize 68 --epochs 1 --train-limit 4 --test-limit 2 --batch-size 2 --out run";
    let said = place.train(options).good();
    assert!(said.line("preset ").contains("d2l-gluon at 68x68"), "{}", said.stdout);
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("preset = \"d2l-gluon\"\n") && config.contains("learning_rate = 0.1\n"), "{config}");
    place.train("--resume run").good().line("all 1 epochs are done");
}

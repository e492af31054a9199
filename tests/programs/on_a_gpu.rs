//! The programs on a GPU, virtual or real.

use mlpconv::Precision;

use super::*;
use crate::gpu;

fn with_gpu(mut command: Command) -> Finished {
    if !gpu::real() {
        command.env("LD_PRELOAD", gpu::library("libvirtual_gpu.so"));
    }
    command.env_remove("CUDA_VISIBLE_DEVICES");
    Finished::of(&mut command)
}

#[test]
fn a_gpu_run_resumes_on_the_gpu_and_is_evaluated_anywhere() {
    let Some(place) = Place::new() else { return };
    if gpu::gpu(Precision::Bf16).is_none() {
        return;
    }
    let options = "--preset small --train-limit 20 --test-limit 10 --batch-size 8 --log-every 1";
    let train = |line: &str| with_gpu(place.command(TRAIN, line)).good();
    let whole = train(&format!("--device cuda --precision bf16 {options} --epochs 2 --out whole"));
    assert!(place.path("whole/report.html").exists(), "{}", whole.stderr);
    let device = whole.line("device ");
    assert!(device.contains("cuda:0") && device.contains("bf16 (as --device says)"), "{device}");
    let config = fs::read_to_string(place.path("whole/config.toml")).unwrap();
    assert!(config.contains("device = \"cuda:0\"") && config.contains("precision = \"bf16\""), "{config}");

    // The second epoch is resumed, on the device and at the precision of the run.
    train(&format!("--device cuda:0 --precision bf16 {options} --epochs 1 --out parts"));
    let resumed = train("--resume parts --epochs 2");
    assert!(resumed.line("device ").contains("bf16 (as the run began)"), "{}", resumed.stdout);
    assert!(place.weights("whole") == place.weights("parts"), "a resumed run ends elsewhere");

    let there = with_gpu(place.command(MLPCONV, "evaluate whole --device cuda --precision bf16")).good().stdout;
    let metrics: Vec<EpochMetrics> = Run::open(place.path("whole")).unwrap().metrics().unwrap();
    assert!(there.starts_with(&format!("test loss {:.4}", metrics[1].test_loss)), "{there}");
    let here = place.mlpconv("evaluate whole --device cpu").good().stdout;
    let loss = |said: &str| said.split_whitespace().nth(2).unwrap().trim_end_matches(',').parse::<f64>().unwrap();
    assert!((loss(&there) - loss(&here)).abs() < 0.05, "{there}{here}");
}

/// Images of three channels are resized and gathered on the device.
#[cfg(feature = "images")]
#[test]
fn a_gpu_trains_on_a_folder_of_colour_images() {
    if gpu::gpu(Precision::Bf16).is_none() {
        return;
    }
    let place = other_data::place();
    other_data::colours(&place.path("colours"), [16, 18], 8, 2);
    let options = "--preset small --data colours --batch-size 8 --epochs 2 --seed 1 --device cuda --precision bf16";
    let said = with_gpu(place.command(TRAIN, &format!("{options} --out run"))).good();
    assert!(said.line("device ").contains("cuda:0"), "{}", said.stdout);
    let metrics = Run::open(place.path("run")).unwrap().metrics().unwrap();
    let chance = 3f64.ln();
    assert!(metrics.len() == 2 && metrics.iter().all(|m| (m.loss / chance - 1.0).abs() < 0.5), "{metrics:?}");
    let loss = |said: &str| said.split_whitespace().nth(2).unwrap().trim_end_matches(',').parse::<f64>().unwrap();
    let here = place.mlpconv("evaluate run --device cpu").good().stdout;
    assert!((loss(&here) - metrics[1].test_loss).abs() < 0.05, "{here}{metrics:?}");
}

#[test]
fn replayed_and_eager_steps_are_timed() {
    if gpu::gpu(Precision::Bf16).is_none() {
        return;
    }
    let timed = |options: &str| {
        let line = format!("time --preset small --device cuda --precision bf16 --batch-size 2 {options}");
        let mut command = Command::new(MLPCONV);
        command.args(line.split_whitespace());
        with_gpu(command).good().stdout
    };
    let json: serde_json::Value = serde_json::from_str(&timed("--steps 2 --rounds 1 --json")).unwrap();
    assert_eq!(
        (&json["precision"], &json["recorded"], &json["resident"]),
        (&"bf16".into(), &true.into(), &true.into())
    );
    for what in ["train_ms", "infer_ms", "eager_train_ms", "eager_infer_ms", "loss", "peak_bytes", "reserved_bytes"] {
        assert!(json[what].as_f64().unwrap() > 0.0, "{what}: {json}");
    }
    assert!(timed("--steps 1 --rounds 1 --portable").contains("training, eager"));
}

#[test]
fn too_large_a_batch_is_refused_with_one_that_fits() {
    let Some(place) = Place::new() else { return };
    if gpu::real() || gpu::gpu(Precision::Fp32).is_none() {
        return;
    }
    let mut command = place.command(TRAIN, "--device cuda --precision fp32 --preset d2l --batch-size 4096");
    command.env("VIRTUAL_GPU_MEMORY", "256M");
    with_gpu(command).bad(&["batch-size", "4096 images", "--batch-size", "would fit"]);
    assert!(!place.path("runs").exists(), "a run that cannot begin leaves a folder behind");
    let there = with_gpu(place.command(MLPCONV, "doctor")).good();
    assert!(there.line("cuda:0").contains("compute capability"), "{}", there.stdout);
    place.train("--preset small --batch-size 100000 --resize 1024").bad(&["batch-size", "would fit"]);
}

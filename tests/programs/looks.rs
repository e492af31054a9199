//! The commands of `mlpconv` that need no data set.

use super::*;

fn mlpconv(line: &str) -> Finished {
    let mut command = Command::new(MLPCONV);
    command.args(line.split_whitespace()).env("CUDA_VISIBLE_DEVICES", "");
    Finished::of(&mut command).good()
}

#[test]
fn the_doctor_has_a_line_for_everything() {
    let said = mlpconv("doctor").stdout;
    let nccl = if cfg!(feature = "cuda") { "nccl" } else { "kernels" };
    for what in [nccl, "kernels", "data", "cpu"] {
        let line = said.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{what}: {said}"));
        assert!(line.len() > what.len() + 10, "{said}");
    }
}

#[test]
fn the_summary_has_the_books_numbers() {
    let said = mlpconv("summary --preset d2l").stdout;
    assert!(said.starts_with("d2l, input [1, 1, 224, 224]\n"), "{said}");
    assert!(said.contains("1,992,166") && said.contains("762.3 M"), "{said}");
    let shapes: Vec<(&str, &str)> = said.lines().filter_map(|line| line.split_once("output shape  ")).collect();
    let shapes: Vec<(&str, &str)> = shapes.into_iter().map(|(name, shape)| (name.trim(), shape.trim())).collect();
    let expected = [
        ("NinBlock", "[1, 96, 54, 54]"),
        ("MaxPool 3x3/2", "[1, 96, 26, 26]"),
        ("NinBlock", "[1, 256, 26, 26]"),
        ("MaxPool 3x3/2", "[1, 256, 12, 12]"),
        ("NinBlock", "[1, 384, 12, 12]"),
        ("MaxPool 3x3/2", "[1, 384, 5, 5]"),
        ("Dropout 0.5", "[1, 384, 5, 5]"),
        ("NinBlock", "[1, 10, 5, 5]"),
        ("GlobalAvgPool", "[1, 10, 1, 1]"),
        ("Flatten", "[1, 10]"),
    ];
    assert_eq!(shapes, expected);
    // The lines that the chapter shows, to the character.
    let chapter = "\
Sequential output shape:\t torch.Size([1, 96, 54, 54])
MaxPool2d output shape:\t torch.Size([1, 96, 26, 26])
Sequential output shape:\t torch.Size([1, 256, 26, 26])
MaxPool2d output shape:\t torch.Size([1, 256, 12, 12])
Sequential output shape:\t torch.Size([1, 384, 12, 12])
MaxPool2d output shape:\t torch.Size([1, 384, 5, 5])
Dropout output shape:\t torch.Size([1, 384, 5, 5])
Sequential output shape:\t torch.Size([1, 10, 5, 5])
AdaptiveAvgPool2d output shape:\t torch.Size([1, 10, 1, 1])
Flatten output shape:\t torch.Size([1, 10])
";
    assert!(said.contains(&format!("\n{chapter}\n")), "{said}");
}

/// The microseconds of a model's step.
fn modelled(options: &str) -> f64 {
    let said = mlpconv(&format!("model {options}")).stdout;
    assert!(said.starts_with("Estimate: ") && said.contains("Nothing here was measured on that GPU."), "{said}");
    let line = said.lines().find(|line| line.contains(" us a step, ")).expect("a sum");
    line.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_model_is_an_estimate_for_each_gpu_and_precision() {
    for gpu in ["h200", "h100", "a100", "4090", "3090"] {
        let [fp32, tf32, bf16] =
            ["fp32", "tf32", "bf16"].map(|precision| modelled(&format!("--gpu {gpu} --precision {precision}")));
        assert!(fp32 > tf32 && tf32 > bf16 && bf16 > 300.0, "{gpu}: {fp32}, {tf32}, {bf16}");
        let few = modelled(&format!("--gpu {gpu} --precision bf16 --batch-size 8"));
        assert!(few < bf16, "{gpu}: {few} for 8 images, {bf16} for 128");
    }
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("model.html");
    mlpconv(&format!("model --precision bf16 --out {}", page.display()));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("An estimate") && page.contains("conv2d_fprop_192x256"), "{page}");
}

/// The ops of a plan's steps, in order.
fn steps(said: &str) -> Vec<&str> {
    let lines = said.lines().skip(3).take_while(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().nth(1).expect("an op")).collect()
}

#[test]
fn a_plan_is_told_for_each_preset_and_device() {
    for preset in ["d2l", "d2l-gluon", "stable", "small", "tuned", "cifar"] {
        let said = mlpconv(&format!("plan --preset {preset} --device cpu")).stdout;
        assert!(said.starts_with(preset) && said.contains("on cpu in fp32"), "{said}");
        assert!(steps(&said).iter().all(|step| !step.contains('+') && !step.starts_with("mlpconv")), "{said}");
        assert!(said.contains("the CPU runs layers one by one"), "{said}");
    }
}

/// Of a GPU that is not there an H200's.
#[cfg(feature = "cuda")]
#[test]
fn a_plan_for_a_gpu_needs_none() {
    let plan = |preset: &str, precision: &str| {
        let said = mlpconv(&format!("plan --preset {preset} --device cuda --precision {precision}")).stdout;
        assert!(said.contains(&format!("an H200 in {precision}")), "{said}");
        said
    };
    let said = plan("d2l", "bf16");
    let (fused, rest) = (["mlpconv_maxpool", "conv2d", "pointwise", "pointwise_maxpool"], ["conv2d", "pointwise"]);
    let end = ["pointwise_maxpool", "dropout", "conv2d", "pointwise_pair_mean", "flatten"];
    assert_eq!(steps(&said), [&fused[..], &rest, &end].concat(), "{said}");
    assert!(said.contains("53x53 of 54x54") && said.contains("channels are not multiples of 8"), "{said}");
    let said = plan("d2l", "fp32");
    assert!(said.contains("the fused block is for bf16, not fp32"), "{said}");
    for (preset, precision) in [("small", "tf32"), ("small", "bf16"), ("cifar", "bf16"), ("cifar", "fp32")] {
        let said = plan(preset, precision);
        assert!(steps(&said).len() > 8, "{said}");
    }
}

#[test]
fn times_are_json_if_asked_for() {
    let said = mlpconv("time --preset small --batch-size 8 --steps 1 --json").stdout;
    assert_eq!(said.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["preset"], "small");
    assert_eq!((json["batch"].as_u64(), json["steps"].as_u64()), (Some(8), Some(1)));
    for what in ["train", "infer"] {
        let ms = json[format!("{what}_ms")].as_f64().unwrap();
        let rate = json[format!("{what}_img_s")].as_f64().unwrap();
        assert!(ms > 0.0 && (ms * rate / 8000.0 - 1.0).abs() < 1e-9, "{said}");
    }
    assert!(json["peak_bytes"].as_u64().unwrap() > 0);
    let text = mlpconv("time --preset small --batch-size 8 --steps 1").stdout;
    assert!(text.contains("training") && text.contains("inference") && text.contains("images/s"), "{text}");
}

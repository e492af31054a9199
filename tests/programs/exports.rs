//! `mlpconv export`: a run's network goes out.

use super::*;

#[test]
fn a_run_goes_out_in_every_format() {
    let Some(place) = Place::new() else { return };
    place.train("--preset small --epochs 1 --train-limit 32 --test-limit 8 --batch-size 8 --out run").good();
    let done = place.mlpconv("export run --safetensors out.safetensors --torch-py net.py --npy arrays").good();
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", done.stdout);
    assert!(lines[0].starts_with("npy          arrays: 24 files, "), "{}", lines[0]);
    assert!(lines[1].starts_with("safetensors  out.safetensors: "), "{}", lines[1]);
    assert!(lines[2].starts_with("torch-py     net.py: "), "{}", lines[2]);
    let weights = |name: &str| fs::read(place.path(name)).unwrap();
    assert_eq!(weights("out.safetensors"), weights("run/weights.safetensors"));
    assert!(fs::read_to_string(place.path("net.py")).unwrap().contains("\"ankle boot\""));

    place.mlpconv("export run --npy arrays").bad(&["arrays", "is not empty", "name a new or empty one"]);
    place.mlpconv("export run --safetensors same --torch-py same").bad(&["same", "two outputs"]);
    place.mlpconv("export run").bad(&["required arguments"]);
    assert!(!place.path("same").exists());
    #[cfg(feature = "onnx")]
    {
        let done = place.mlpconv("export run --best --onnx net.onnx").good();
        assert!(done.stdout.starts_with("onnx         net.onnx: "), "{}", done.stdout);
        assert!(weights("net.onnx").windows(6).any(|bytes| bytes == b"logits"));
    }
}

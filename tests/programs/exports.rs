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

    place.mlpconv("export run").bad(&["required arguments"]);
    #[cfg(feature = "onnx")]
    {
        let done = place.mlpconv("export run --best --onnx net.onnx").good();
        assert!(done.stdout.starts_with("onnx         net.onnx: "), "{}", done.stdout);
        assert!(weights("net.onnx").windows(6).any(|bytes| bytes == b"logits"));
    }
    #[cfg(not(feature = "onnx"))]
    {
        let says = ["onnx: this build has no ONNX", "the cargo feature onnx"];
        place.mlpconv("export run --onnx net.onnx --npy others").bad(&says);
        assert!(!place.path("others").exists());
    }
}

#[test]
fn an_export_is_whole_or_nothing() {
    let Some(place) = Place::new() else { return };
    place.train("--preset small --epochs 1 --train-limit 32 --test-limit 8 --batch-size 8 --out run").good();
    fs::write(place.path("there"), "old").unwrap();
    let bad = |options: &str, says: &[&str]| {
        place.mlpconv(&format!("export run {options}")).bad(says);
        assert_eq!(names(place.folder.path()), ["run", "there"], "{options}");
    };
    bad("--npy arrays --safetensors there", &["output there: is there already", "name a new one"]);
    bad("--npy arrays --safetensors lacking/net", &["output lacking/net: lacking is not a folder", "make it"]);
    bad("--npy run --torch-py net.py", &["output run: is not empty", "name a new or empty one"]);
    bad("--npy there --torch-py net.py", &["output there: is there already"]);
    bad("--safetensors same --torch-py ./same", &["output ./same: two outputs"]);
    bad("--torch-py net.py --safetensors run", &["output run: is a folder; name a file"]);
    // The run's own files are no exception.
    bad("--npy arrays --best --safetensors run/weights.safetensors", &["is there already"]);
    // A folder in which nobody makes files, which shows only when one is made.
    #[cfg(target_os = "linux")]
    bad("--npy arrays --safetensors net --torch-py /proc/net.py", &["cannot write /proc/net.py"]);
    assert_eq!(fs::read(place.path("there")).unwrap(), b"old");
}

#[cfg(feature = "images")]
#[test]
fn classes_have_names_where_their_folder_is() {
    let place = other_data::place();
    other_data::colours(&place.path("colours"), [20, 24], 4, 1);
    place.train("--preset small --data colours --batch-size 4 --epochs 1 --out run").good();
    let export = |to: &str, options: &str, said: &[&str]| {
        let done = place.mlpconv(&format!("export run --torch-py {to} {options}")).good();
        assert!(said.iter().all(|what| done.stderr.contains(what)) && said.is_empty() == done.stderr.is_empty());
        let text = fs::read_to_string(place.path(to)).unwrap();
        let (_, names) = text.split_once("CLASSES = [").unwrap();
        names.split('"').skip(1).step_by(2).take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    let names = ["blue", "green", "red"];
    assert_eq!(export("there.py", "", &[]), names);
    fs::rename(place.path("colours"), place.path("moved")).unwrap();
    assert_eq!(export("gone.py", "", &["named by their numbers", "--data names", "no such folder"]), ["0", "1", "2"]);
    assert_eq!(export("moved.py", "--data moved", &[]), names);
    assert_eq!(export("folder.py", "--data-dir moved", &[]), names);

    other_data::colours(&place.path("colours"), [20, 24], 2, 1);
    for half in ["train", "test"] {
        fs::remove_dir_all(place.path("colours").join(half).join("red")).unwrap();
    }
    assert_eq!(export("fewer.py", "", &["has 2 classes, but the weights tell 3"]), ["0", "1", "2"]);
    let bad = |options: &str, says: &[&str]| place.mlpconv(&format!("export run --torch-py no.py {options}")).bad(says);
    bad("--data colours", &["colours: has 2 classes", "name their data set"]);
    bad("--data nowhere", &["nowhere", "no such folder"]);
}

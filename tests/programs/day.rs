//! `benches/day.sh`, with programs that do nothing: what is written when steps fail, hang or succeed, with a card and without.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;

use crate::place::Finished;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/day.sh");

/// What is staged, and what a machine with a card has.
const PROGRAMS: [&str; 17] = [
    ".gpu/bin/mlpconv",
    ".gpu/bin/train",
    ".gpu/tests/ops",
    ".gpu/tests/cuda",
    ".gpu/tests/parity",
    ".gpu/tests/network",
    ".gpu/tests/virtual-gpu-forms",
    ".gpu/tests/virtual-gpu-kernels",
    ".gpu/tests/virtual-gpu-driver",
    ".gpu/tests/virtual-gpu-hopper",
    ".gpu/benches/block",
    ".gpu/benches/network",
    ".gpu/benches/convolution",
    "path/nvidia-smi",
    "path/compute-sanitizer",
    "path/ncu",
    "path/python3",
];

/// A project with the script, and with programs that do `each` of their names.
fn staged(each: impl Fn(&str) -> &'static str) -> TempDir {
    let place = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("benches/day.sh", &fs::read_to_string(SCRIPT).unwrap());
    for program in PROGRAMS {
        write(program, &format!("#!/bin/sh\n{}\n", each(program.rsplit('/').next().unwrap())));
    }
    write(".gpu/commit", "0123456\n");
    // The driver that the programs would get. They ask it nothing.
    write(".gpu/tests/libvirtual_gpu.so", "");
    place
}

/// A call of the script with a card, or without.
fn day(place: &Path, call: &str, card: bool, seconds: &str) -> Finished {
    let mut command = Command::new("bash");
    let path = format!("{}:{}", place.join("path").display(), env::var("PATH").unwrap());
    command.current_dir("/").arg(place.join("benches/day.sh")).arg(call).env("PATH", path);
    command.env("OUT", place.join("out")).env("DAY_SECONDS", seconds);
    command.env("DAY_CARD", if card { place.join(".gpu/commit") } else { place.join("none") });
    Finished::of(&mut command)
}

fn read(place: &Path, name: &str) -> String {
    fs::read_to_string(place.join("out").join(name)).unwrap()
}

/// The files of a call, each with its text.
fn files(place: &Path, call: &str) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(fs::File::open(place.join("out").join(format!("{call}.tar"))).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let files = entries.map(|mut entry| {
        let name = entry.path().unwrap().display().to_string();
        (name, std::io::read_to_string(&mut entry).unwrap())
    });
    files.collect()
}

#[test]
fn a_day_goes_on_after_a_step_that_fails_and_one_that_hangs() {
    let place = staged(|name| match name {
        "ops" => "echo the ops fail; exit 3",
        "cuda" => "echo the networks hang; exec sleep 60",
        _ => "exit 0",
    });
    let ended = day(place.path(), "prove", false, "12");
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    let text = read(place.path(), "prove.txt");
    let lines = [
        "left out   the card",
        "good       doctor",
        "failed 3   ops",
        "cut off    networks,",
        "not begun  parity with PyTorch",
        "left out   memcheck in bf16",
    ];
    for line in lines {
        assert!(text.lines().any(|said| said.starts_with(line)), "{line:?} is not in: {text}");
    }
    let log = read(place.path(), "prove.log");
    assert!(log.contains("the ops fail") && log.contains("the networks hang"), "{log}");
    assert!(!files(place.path(), "prove").is_empty());
}

#[test]
fn a_day_keeps_what_its_steps_print_and_write() {
    let writes = "for last; do :; done\necho \"$0 $*\"\ncase $0 in *train) mkdir -p \"$CARGO_TARGET_DIR/run\"; \
                  echo kept >\"$CARGO_TARGET_DIR/run/metrics.jsonl\"; echo heavy >\"$CARGO_TARGET_DIR/run/weights.safetensors\";; esac";
    let place = staged(|_| writes);
    for card in [false, true] {
        let ended = day(place.path(), "explain", card, "60").good();
        let all = ["d2l in bf16, seed 2", "d2l in tf32, seed 0", "stable in bf16, seed 0"];
        assert!(
            all.iter().all(|run| ended.stdout.contains(&format!("good       ten epochs of {run}"))),
            "{}",
            ended.stdout
        );
        let files = files(place.path(), "explain");
        let text = |name: &str| files.iter().find(|file| file.0 == name).map(|file| file.1.as_str());
        assert!(
            text("./model-bf16.txt").is_some_and(|text| text.contains("model --gpu h200 --precision bf16")),
            "{files:?}"
        );
        assert_eq!(text("./ncu-tf32.csv").is_some_and(|text| text.contains("--clock-control none")), card, "{files:?}");
        assert!(text("./run/metrics.jsonl").is_some() && text("./run/weights.safetensors").is_none(), "{files:?}");
    }
    // The call before is kept.
    assert!(!read(place.path(), "explain.before.txt").contains("good       every kernel"));
    let ended = day(place.path(), "measure", true, "60").good();
    assert!(ended.stdout.contains("good       ours and PyTorch's in turn"), "{}", ended.stdout);
    let log = read(place.path(), "measure.log");
    assert!(log.contains("compare.py --device cuda --commit 0123456") && log.contains("--rounds 2"), "{log}");
    assert!(files(place.path(), "measure").iter().any(|file| file.0 == "./time-bf16-128.json"), "{log}");
}

#[test]
fn a_day_says_what_it_needs() {
    let place = staged(|_| "exit 0");
    let refused = day(place.path(), "dance", false, "5");
    assert!(refused.code == Some(2) && refused.stderr.contains("benches/day.sh prove"), "{}", refused.stderr);
    fs::remove_file(place.path().join(".gpu/tests/libvirtual_gpu.so")).unwrap();
    let refused = day(place.path(), "prove", false, "5");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("libvirtual_gpu.so into .gpu/tests"),
        "{}",
        refused.stderr
    );
    fs::remove_file(place.path().join(".gpu/commit")).unwrap();
    let refused = day(place.path(), "prove", false, "5");
    assert!(refused.code == Some(1) && refused.stderr.contains(".gpu/commit"), "{}", refused.stderr);
}

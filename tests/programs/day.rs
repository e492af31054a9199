//! `benches/day.sh`, with programs that do nothing: what is written when steps fail, hang or succeed, with a card and without.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;

use crate::place::Finished;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/day.sh");

/// What is staged, and what a machine with a card has.
const PROGRAMS: [&str; 18] = [
    ".gpu/bin/mlpconv",
    ".gpu/bin/mlpconv-checked",
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

/// What the log says of a step.
fn said<'a>(log: &'a str, step: &str) -> &'a str {
    let (_, said) = log.split_once(&format!("\n== {step}: ")).unwrap_or_else(|| panic!("{step:?} is not in: {log}"));
    said.split("\n== ").next().unwrap()
}

/// After a trap CUDA wants the process to end.
#[test]
fn a_day_proves_with_a_process_for_each_trap_and_with_a_build_for_the_sanitizer() {
    let lists = "[ -d \"$CUDA_CACHE_PATH\" ] || exit 7\necho \"$0 $* on ${VIRTUAL_GPU_SM:-its own}\"\n\
                 [ \"$1\" != --list ] || printf 'traps::one: test\\ntraps::two: test\\n\\n2 tests, 0 benchmarks\\n'";
    let place = staged(|_| lists);
    day(place.path(), "prove", true, "60").good();
    let text = read(place.path(), "prove.txt");
    let steps: Vec<&str> = text.lines().map(|line| line[11..].rsplit_once(',').unwrap().0).collect();
    let first = ["the card", "doctor", "memcheck in bf16", "memcheck in tf32", "memcheck in fp32", "ops"];
    assert_eq!(steps[1..=first.len()], first, "{text}");
    let log = read(place.path(), "prove.log");
    assert!(said(&log, "the machine").contains("/path/ncu\n"), "{log}");
    let checked = said(&log, "memcheck in tf32");
    assert!(checked.contains("--report-api-errors no") && checked.contains("/.gpu/bin/mlpconv-checked time"), "{log}");
    assert!(said(&log, "synccheck in bf16").contains("/.gpu/bin/mlpconv-checked time"), "{log}");
    assert!(said(&log, "initcheck in bf16").contains("/.gpu/bin/mlpconv time"), "{log}");
    assert!(said(&log, "the virtual GPU's driver").contains("--skip traps::"), "{log}");
    for test in ["traps::one", "traps::two"] {
        assert!(said(&log, &format!("the driver's {test}")).contains(&format!("--exact {test}")), "{log}");
    }

    fs::remove_file(place.path().join(".gpu/bin/mlpconv-checked")).unwrap();
    day(place.path(), "prove", true, "60").good();
    let log = read(place.path(), "prove.log");
    assert!(said(&log, "racecheck in bf16").contains("/.gpu/bin/mlpconv time"), "{log}");

    // An H200 is a 9.0. The virtual GPU's own tests are of an 8.0 where they do not choose.
    day(place.path(), "prove", false, "60").good();
    let log = read(place.path(), "prove.log");
    assert!(said(&log, "ops").contains("on 9.0"), "{log}");
    assert!(said(&log, "the virtual GPU's driver").contains("on its own"), "{log}");
}

#[test]
fn a_day_keeps_what_its_steps_print_and_write() {
    let writes = "for last; do :; done\necho \"$0 $*\"\ncase $0 in *train) mkdir -p \"$CARGO_TARGET_DIR/run\"; \
                  echo kept >\"$CARGO_TARGET_DIR/run/metrics.jsonl\"; echo heavy >\"$CARGO_TARGET_DIR/run/weights.safetensors\";; \
                  *ncu) while [ \"$1\" != --log-file ]; do shift; done; \
                  printf '==PROF== 60 kernels\\n\"ID\"\\n\"0\"\\n' >\"$2\";; \
                  *python3) echo '{}' >\"$last\";; esac";
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
        assert_eq!(text("./ncu-tf32.csv"), card.then_some("\"ID\"\n\"0\"\n"), "{files:?}");
        assert!(text("./run/metrics.jsonl").is_some() && text("./run/weights.safetensors").is_none(), "{files:?}");
    }
    // The call before is kept.
    assert!(!read(place.path(), "explain.before.txt").contains("good       every kernel"));
    let ended = day(place.path(), "measure", true, "60").good();
    assert!(ended.stdout.contains("good       ours and PyTorch's in turn"), "{}", ended.stdout);
    let log = read(place.path(), "measure.log");
    let (eager, compiled) = (said(&log, "ours and PyTorch's in turn"), said(&log, "ours and torch.compile's in turn"));
    assert!(eager.contains("compare.py --device cuda --commit 0123456") && eager.contains("--rounds 2"), "{log}");
    assert!(!eager.contains("compile") && compiled.contains("/gpu.json --rounds 1 --modes tf32-cl-compile,"), "{log}");
    let files = files(place.path(), "measure");
    for name in ["./time-bf16-128.json", "./gpu.json", "./gpu-compile.json"] {
        assert!(files.iter().any(|file| file.0 == name), "{name}: {log}");
    }
    let portable = files.iter().find(|file| file.0 == "./time-bf16-128-portable.json").unwrap();
    assert!(portable.1.contains("--portable"), "{}", portable.1);
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

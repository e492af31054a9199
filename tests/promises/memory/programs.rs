//! The programs under limits of memory: done, or one line and exit code 1, and a batch that is named fits.

use std::process::Command;

use crate::place::{Finished, MLPCONV, Place, TRAIN};
use crate::promise::{kept, tries};

/// The command with its address space limited to so many KiB.
fn limited(kib: usize, command: &Command) -> Finished {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &kib.to_string()]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.current_dir(command.get_current_dir().unwrap()).stdin(std::process::Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Finished::of(&mut shell)
}

/// The batch that an error names.
fn named(stderr: &str) -> Option<usize> {
    stderr.split("--batch-size ").nth(1)?.split(' ').next()?.parse().ok()
}

/// A batch that no limit of these tests allows.
const LARGE: &str = " --batch-size 8192";

/// The figures of a program under many limits.
#[derive(Default)]
struct Tally {
    done: usize,
    refused: usize,
    /// Limits that are too low for the dynamic loader, before the program.
    not_started: usize,
    named: usize,
}

impl Tally {
    /// Runs a command under a limit. A batch that it names has to fit under the same limit.
    fn run(&mut self, place: &Place, program: &str, line: &str, kib: usize) {
        let what = format!("{line}, {kib} KiB");
        if limited(kib, &place.command(MLPCONV, "--version")).code != Some(0) {
            self.not_started += 1;
            return;
        }
        let _ = std::fs::remove_dir_all(place.path("limited"));
        let Finished { code, stdout, stderr } = limited(kib, &place.command(program, line));
        if code == Some(0) {
            self.done += 1;
            return;
        }
        assert!(code == Some(1) && stderr.lines().count() == 1, "{what}: {code:?}, {stdout}{stderr}");
        assert!(stderr.starts_with("error: "), "{what}: {stderr}");
        self.refused += 1;
        if let Some(batch) = named(&stderr) {
            self.named += 1;
            let _ = std::fs::remove_dir_all(place.path("limited"));
            let smaller = format!("{} --batch-size {batch}", line.replace(LARGE, ""));
            let fits = limited(kib, &place.command(program, &smaller));
            assert_eq!(fits.code, Some(0), "{what}: {stderr}but {batch} does not fit: {}", fits.stderr);
        }
    }
}

/// Limits from `from` to `to` MiB.
fn limits(from: usize, to: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (from << 10) + i * ((to - from) << 10) / (count - 1))
}

#[cfg(target_os = "linux")]
#[test]
fn under_any_limit_a_program_is_done_or_ends_with_a_line() {
    let Some(place) = Place::new() else { return };
    let small = "--device cpu --preset small --epochs 1 --train-limit 40 --test-limit 20";
    place.train(&format!("{small} --batch-size 16 --out run")).good();
    let mut tally = Tally::default();
    for kib in limits(20, 200, tries(12, 60)) {
        tally.run(&place, TRAIN, &format!("{small} --optimizer adamw --out limited"), kib);
    }
    for kib in limits(24, 120, tries(4, 30)) {
        tally.run(&place, MLPCONV, "evaluate run --device cpu", kib);
        tally.run(&place, MLPCONV, "summary", kib);
    }
    let Tally { done, refused, not_started, .. } = tally;
    assert!(done > 0 && refused > 0);
    kept(
        5,
        format_args!(
            "{done} of {} runs of the programs under limits from 20 to 200 MiB are done, {refused} end with one line and \
         exit code 1, {not_started} do not get past the dynamic loader",
            done + refused + not_started
        ),
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_fits_the_cpu_is_named() {
    let Some(place) = Place::new() else { return };
    let line =
        &format!("--device cpu --preset small --epochs 1 --train-limit 1500 --test-limit 20 --out limited{LARGE}");
    let mut tally = Tally::default();
    for kib in limits(180, 300, tries(2, 9)) {
        tally.run(&place, TRAIN, line, kib);
    }
    let Tally { named, .. } = tally;
    assert!(named > 0, "no limit is low enough");
    kept(5, format_args!("{named} batches named under a limit of the address space, and each fits"));
}

#[cfg(feature = "cuda")]
#[test]
fn a_batch_that_fits_the_gpu_is_named() {
    use crate::gpu;
    let Some(place) = Place::new() else { return };
    if gpu::real() || gpu::gpu(mlpconv::Precision::Bf16).is_none() {
        return;
    }
    let line = "--device cuda --precision bf16 --preset small --epochs 1 --train-limit 40 --test-limit 8";
    let train = |batch: usize, out: &str| {
        let mut command = place.command(TRAIN, &format!("{line} --batch-size {batch} --out {out}"));
        command
            .env("LD_PRELOAD", gpu::library("libvirtual_gpu.so"))
            .env_remove("CUDA_VISIBLE_DEVICES")
            .env("VIRTUAL_GPU_MEMORY", "12M");
        command.env("VIRTUAL_GPU_CHECKS", "off");
        Finished::of(&mut command)
    };
    let refused = train(1024, "refused").bad(&["batch-size", "would fit"]);
    let batch = named(&refused.stderr).unwrap();
    train(batch, "named").good();
    kept(5, format_args!("a virtual GPU of 12 MiB refuses 1024 images and trains on the {batch} that are named"));
}

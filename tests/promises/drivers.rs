//! Promise 11. No driver, no GPU, a lacking symbol, an old driver or GPU: a clear word, and the CPU or exit code 2.
//!
//! The drivers here are files that are none, and the virtual GPU behind `faulty_driver.c`.

// The faults are made with the means of this loader, and messages are its own.
#![cfg(all(feature = "cuda", target_os = "linux", target_env = "gnu"))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libloading::Library;
use mlpconv::Precision;

use super::gpu;
use super::place::{Finished, MLPCONV, Place, TRAIN, names};
use super::promise::{kept, tries};

/// A training run of four steps: eager, recorded and replayed.
const RUN: &str = "--preset small --train-limit 4 --test-limit 1 --batch-size 1 --epochs 1";

/// A driver, by the environment that leads a program to it, and what the programs say about it.
struct Driver {
    environment: Vec<(&'static str, String)>,
    says: Vec<String>,
}

impl Driver {
    fn new<const E: usize, const S: usize>(environment: [(&'static str, &str); E], says: [&str; S]) -> Self {
        let environment = environment.map(|(name, value)| (name, value.to_owned())).into();
        Driver { environment, says: says.map(str::to_owned).into() }
    }

    /// A file named libcuda.so.1 in a new folder.
    fn file(place: &Place, contents: &[u8], says: &str) -> Self {
        let folder = place.path(&format!("driver-{}", names(place.folder.path()).len()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("libcuda.so.1"), contents).unwrap();
        Driver::new([("LD_LIBRARY_PATH", folder.to_str().unwrap())], [says])
    }

    fn says(&self) -> Vec<&str> {
        self.says.iter().map(String::as_str).collect()
    }
}

/// A place with the virtual GPU and its faults; `None` after a message in a build without kernels or without data.
struct Bench {
    place: Place,
    faulty: PathBuf,
}

impl Bench {
    fn new() -> Option<Self> {
        gpu::gpu(Precision::Bf16)?;
        let place = Place::new()?;
        let faulty = place.path("faulty_driver.so");
        compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promises/faulty_driver.c"), &faulty);
        Some(Bench { place, faulty })
    }

    fn command(&self, program: &str, line: &str, driver: &Driver) -> Command {
        let mut command = self.place.command(program, line);
        command.env_remove("CUDA_VISIBLE_DEVICES").envs(driver.environment.iter().map(|(name, value)| (name, value)));
        if !driver.environment.iter().any(|(name, _)| *name == "LD_LIBRARY_PATH") {
            let libraries =
                [&self.faulty, &gpu::library("libvirtual_gpu.so")].map(|path| path.to_str().unwrap().to_owned());
            command.env("LD_PRELOAD", libraries.join(":"));
        }
        command
    }

    fn doctor(&self, driver: &Driver) {
        let said = Finished::of(&mut self.command(MLPCONV, "doctor", driver)).good();
        for what in &driver.says {
            assert!(said.stdout.contains(what), "{what:?} is not in:\n{}", said.stdout);
        }
        assert!(said.line("cpu ").contains("threads"));
    }

    fn train(&self, device: &str, driver: &Driver) -> Finished {
        let line = format!("{RUN} --device {device} --out run");
        let finished = Finished::of(&mut self.command(TRAIN, &line, driver));
        let begun = fs::remove_dir_all(self.place.path("run")).is_ok();
        assert!(finished.code == Some(0) || !begun || finished.stdout.contains("run "), "{}", finished.stdout);
        finished
    }

    /// The driver cannot be used: the doctor says so, `cuda` is refused, and `auto` is the CPU.
    fn refused(&self, driver: &Driver) {
        self.doctor(driver);
        let finished = self.train("cuda", driver).bad(&driver.says());
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        assert_eq!(finished.stdout, "");
        let finished = self.train("auto", driver).good();
        let device = finished.line("device ");
        assert!(device.contains("CPU"), "{device}");
        for what in &driver.says {
            assert!(finished.stdout.contains(what), "{what:?} is not in:\n{}", finished.stdout);
        }
    }

    /// What a run with a sound driver asks for: the lines of the log.
    fn log(&self) -> Vec<String> {
        let log = self.place.path("log");
        let driver = Driver::new([("FAULT_LOG", log.to_str().unwrap())], []);
        self.train("cuda --precision bf16", &driver).good();
        fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
    }
}

fn compile(source: &Path, to: &Path) {
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(to).arg(source).arg("-ldl");
    let output = compiler.output().expect("a C compiler is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The names in the log's lines of one kind.
fn of<'a>(kind: &str, log: &'a [String]) -> BTreeSet<&'a str> {
    log.iter().filter_map(|line| line.strip_prefix(kind)).map(str::trim).collect()
}

#[test]
fn a_file_that_is_no_driver_is_named() {
    let Some(bench) = Bench::new() else { return };
    // SAFETY: a driver's library may be loaded at any time.
    if unsafe { Library::new("libcuda.so.1") }.is_ok() {
        return;
    }
    let empty = bench.place.path("empty.so");
    let source = bench.place.path("empty.c");
    fs::write(&source, "").unwrap();
    compile(&source, &empty);
    let library = fs::read(empty).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut library = library.clone();
        library[at] = byte;
        library
    };
    let drivers = [
        Driver::new([("LD_LIBRARY_PATH", "/nowhere")], ["no CUDA driver was found"]),
        Driver::file(&bench.place, b"", "file too short"),
        Driver::file(&bench.place, &b"a text\n".repeat(100), "invalid ELF header"),
        Driver::file(&bench.place, &library[..100], "cannot read file data"),
        // Of 32 bits; of another processor (e_machine), which the loader passes over.
        Driver::file(&bench.place, &changed(4, 1), "wrong ELF class"),
        Driver::file(&bench.place, &changed(18, 0xf3), "no CUDA driver was found"),
        Driver::file(&bench.place, &library, "it has no function cuInit"),
    ];
    drivers.iter().for_each(|driver| bench.refused(driver));
    kept(11, format!("{} files that are no driver: the CPU, or exit code 2 with the reason", drivers.len()));
}

#[test]
fn a_driver_that_does_not_fit_is_named() {
    let Some(bench) = Bench::new() else { return };
    let fails = |function, code, says: &str| Driver::new([("FAULT_FAILS", function), ("FAULT_CODE", code)], [says]);
    let drivers = [
        // `CUDA_VISIBLE_DEVICES=` makes NVIDIA's driver answer 100.
        fails("cuInit", "100", "the CUDA driver finds no GPU"),
        Driver::new([("FAULT_DEVICES", "0")], ["the CUDA driver finds no GPU"]),
        Driver::new([("FAULT_DEVICES", "-1")], ["the CUDA driver finds no GPU"]),
        fails("cuInit", "999", "does not start: CUDA_ERROR_UNKNOWN"),
        fails("cuInit", "34", "the toolkit's stub"),
        fails("cuInit", "802", "nvidia-fabricmanager"),
        fails("cuInit", "803", "different versions"),
        fails("cuInit", "804", "compatibility package"),
        // A number that neither this driver nor cudarc knows.
        fails("cuInit", "1234", "does not start: error 1234"),
        Driver::new([("VIRTUAL_GPU_DRIVER_VERSION", "11.8")], ["the driver, of CUDA 11.8, is older", "update"]),
        Driver::new([("VIRTUAL_GPU_DRIVER_VERSION", "11.4")], ["the driver, of CUDA 11.4, is older", "update"]),
        fails("cuModuleLoadDataEx", "222", "is older than the kernels' PTX (ISA"),
        fails("cuModuleLoadDataEx", "218", "the driver refuses module cast: CUDA_ERROR_INVALID_PTX"),
        fails("cuModuleLoadDataEx", "209", "the driver refuses module cast: CUDA_ERROR_NO_BINARY_FOR_GPU"),
        Driver::new([("VIRTUAL_GPU_SM", "7.5")], ["compute capability 7.5", "8.0"]),
        Driver::new([("VIRTUAL_GPU_SM", "7.0")], ["compute capability 7.0", "8.0"]),
        // Others hold the GPU, or all of its memory.
        fails("cuDevicePrimaryCtxRetain", "46", "CUDA_ERROR_DEVICE_UNAVAILABLE"),
        fails("cuMemAlloc_v2", "2", "no memory for a buffer"),
    ];
    let (last, others) = drivers.split_last().unwrap();
    others.iter().for_each(|driver| bench.refused(driver));
    // A lack of memory is not the device's fault, so its exit code is that of any error.
    assert_eq!(bench.train("cuda", last).bad(&last.says()).code, Some(1));
    bench.train("auto", last).good();
    bench.doctor(last);
    kept(11, format!("{} drivers that do not fit: the CPU, or exit code 2 with the reason", drivers.len()));
}

/// The driver compiles the PTX: a debug build has no machine code, and the virtual GPU executes none. Other tests run on a driver
/// of CUDA 13.0.
#[test]
fn a_driver_of_cuda_12_0_runs_the_kernels() {
    let Some(bench) = Bench::new() else { return };
    let driver =
        Driver::new([("VIRTUAL_GPU_DRIVER_VERSION", "12.0")], ["CUDA 12.0", "this build's PTX: the driver compiles"]);
    bench.doctor(&driver);
    bench.train("cuda", &driver).good();
}

#[test]
fn a_function_that_a_driver_lacks_is_named_before_the_first_call() {
    let Some(bench) = Bench::new() else { return };
    let log = bench.log();
    let first = log.iter().position(|line| line.starts_with("call")).unwrap();
    let asked = of("lookup", &log[..first]);
    let unasked: Vec<_> = of("lookup", &log).difference(&asked).copied().collect();
    assert!(unasked.is_empty(), "cudarc panics if the driver lacks {unasked:?}, which are not asked for first");
    for (i, function) in asked.iter().enumerate() {
        let driver = Driver::new([("FAULT_LACKS", function)], ["the CUDA driver cannot be used", function]);
        match i % tries(8, 1) {
            0 => bench.refused(&driver),
            _ => assert_eq!(bench.train("cuda", &driver).bad(&driver.says()).code, Some(2)),
        }
    }
    kept(11, format!("{} functions, each lacking in turn: the CPU, or exit code 2 with its name", asked.len()));
}

/// Before the kernels are known to run, `auto` is the CPU; once the GPU was chosen, its failure ends the program.
#[test]
fn a_call_that_fails_is_an_error_with_its_name() {
    let Some(bench) = Bench::new() else { return };
    let log = bench.log();
    let (functions, calls) = (of("call", &log), log.iter().filter(|line| line.starts_with("call")).count());
    let always = functions.iter().map(|function| Driver::new([("FAULT_FAILS", function)], []));
    // One call alone, at even distances.
    let once = tries(12, 120);
    let once = (0..once).map(|i| Driver::new([("FAULT_AT", &*(1 + i * calls / once).to_string())], []));
    let mut failed = 0;
    for driver in always.chain(once) {
        for device in ["cuda --precision bf16", "auto"].into_iter().take(tries(1, 2)) {
            let finished = bench.train(device, &driver);
            let what = format!("{:?}, {device}: {}{}", driver.environment, finished.stdout, finished.stderr);
            assert!(!finished.stderr.contains("panicked"), "{what}");
            match finished.code {
                Some(0) => {}
                Some(2) => failed += usize::from(finished.bad(&["error: cuda: "]).code.is_some()),
                _ => panic!("{what}"),
            }
        }
    }
    kept(11, format!("{failed} failed calls, each of {} functions among them: exit code 2", functions.len()));
}

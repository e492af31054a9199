//! A program that uses only cudarc, run in both ways in which a process can load the library.

use std::path::Path;
use std::process::{Command, Output};

use super::*;

/// The `saxpy` example. Cargo builds it with all the tests, but not with `--test driver` alone.
fn saxpy() -> PathBuf {
    let built = library();
    let folders = built.parent().unwrap().ancestors().take(2).map(|folder| folder.join("examples"));
    let found = folders.map(|folder| folder.join("saxpy")).find(|path| path.exists());
    found.expect("`cargo test --test driver` does not build the examples: `cargo build --example saxpy` does")
}

fn run(environment: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(saxpy());
    // cargo adds its own folders to the search path, where the library would be found under other names.
    command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD").envs(environment.iter().copied());
    command.output().unwrap()
}

#[track_caller]
fn succeeds(output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("10007 results are right"), "{out}\n{err}");
    out.into_owned()
}

/// A folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("virtual-gpu-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_program_gets_the_library_by_preloading() {
    if real() {
        return;
    }
    let out = succeeds(run(&[("LD_PRELOAD", &library())]));
    assert!(out.contains("Virtual GPU (PTX interpreter), compute capability (8, 0)"), "{out}");
}

#[test]
fn a_program_finds_the_library_by_either_name() {
    if real() {
        return;
    }
    for name in ["libcuda.so", "libcuda.so.1"] {
        let folder = Folder::new(name);
        std::os::unix::fs::symlink(library(), folder.0.join(name)).unwrap();
        succeeds(run(&[("LD_LIBRARY_PATH", &folder.0)]));
        succeeds(run(&[("LD_LIBRARY_PATH", &folder.0), ("LD_PRELOAD", &library())]));
    }
}

#[test]
fn the_soname_is_enough_for_dlopen() {
    start();
    let by_name = unsafe { dlopen(c"libcuda.so".as_ptr(), RTLD_NOW) };
    assert!(!by_name.is_null());
    assert!(unsafe { sys::is_culib_present() });
    if !real() {
        assert_eq!(by_name, handle(), "one object, by name and by path");
    }
}

#[test]
fn environment_variables_are_obeyed_and_invalid_values_fail() {
    if real() {
        return;
    }
    let preload = library();
    let with = |name, value| run(&[("LD_PRELOAD", &preload), (name, Path::new(value))]);
    assert!(succeeds(with("VIRTUAL_GPU_SM", "sm_90a")).contains("(9, 0)"));
    succeeds(with("VIRTUAL_GPU_CHECKS", "off"));

    let folder = Folder::new("counts");
    let counts = folder.0.join("counts.jsonl");
    succeeds(with("VIRTUAL_GPU_COUNTS", counts.to_str().unwrap()));
    let lines = std::fs::read_to_string(&counts).unwrap();
    assert_eq!(lines.lines().count(), 7, "a line for each launch:\n{lines}");
    let mut streams = Vec::new();
    for line in lines.lines() {
        let (kernel, shape) = line.split_once(",\"grid\":").unwrap();
        streams.push(kernel.strip_prefix("{\"kernel\":\"saxpy\",\"stream\":").unwrap().parse::<u64>().unwrap());
        assert!(shape.starts_with("[10, 1, 1],\"block\":[1024, 1, 1]") && shape.ends_with('}'), "{line}");
    }
    streams.dedup();
    assert_eq!(streams.len(), 1, "the program has one stream:\n{lines}");

    let fails = |name, value, expected: &str| {
        let output = with(name, value);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && err.contains(expected), "{name}={value}: {err}");
    };
    fails("VIRTUAL_GPU_DRIVER_VERSION", "10.0", "UNSUPPORTED_PTX_VERSION");
    fails("VIRTUAL_GPU_MEMORY", "4K", "OUT_OF_MEMORY");
    fails("VIRTUAL_GPU_SM", "ampere", "VIRTUAL_GPU_SM=ampere is not a valid value");
    fails("VIRTUAL_GPU_DEVICES", "9", "VIRTUAL_GPU_DEVICES=9 is not a valid value");
    fails("VIRTUAL_GPU_MULTIPROCESSORS", "0", "VIRTUAL_GPU_MULTIPROCESSORS=0 is not a valid value");
    fails("VIRTUAL_GPU_CHECKS", "maybe", "VIRTUAL_GPU_CHECKS=maybe is not a valid value");
}

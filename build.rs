//! Compiles the kernels to PTX, once for each precision, and embeds it, compressed to an eighth. It needs nvcc, but neither
//! a GPU nor a driver. Without nvcc the crate builds all the same, with the CPU backend alone; `MLPCONV_REQUIRE_CUDA=1` makes that a failure.
//!
//! # Architectures
//! `kernels/NAME.cu` is compiled for the portable architecture, `compute_80`. `kernels/sm_XY/NAME.cu` is compiled for
//! `compute_XY` besides, and `kernels/sm_90a/NAME.cu` for `compute_90a`: a new folder is all that a new architecture
//! takes. When a kernel is loaded, the best architecture that the GPU runs and whose module NAME has the kernel is
//! chosen (`src/device/cuda/kernels.rs`). So a file in such a folder holds only the kernels that differ. One that
//! replaces a portable kernel has its name, grid, block, shared memory and arguments; a kernel that takes another
//! launch has another name, and its launch in `src/ops/*/cuda.rs` asks `Cuda::device().capability`. Headers are found
//! from `kernels/`: `#include "gemm/tile.cuh"`.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

// Both files are the library's, which uses what the build does not.
#[path = "src/device/cuda/architecture.rs"]
#[allow(dead_code)]
mod architecture;
/// The constants that Rust and the kernels share.
#[path = "src/device/cuda/tiles.rs"]
#[allow(dead_code)]
mod tiles;

use architecture::Architecture;
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Values of `-DPRECISION`: fp32, tf32, bf16.
const PRECISIONS: [u32; 3] = [0, 1, 2];

const FLAGS: [&str; 4] = ["-ptx", "-std=c++17", "-O3", "-lineinfo"];

const REMEDY: &str = "install the CUDA toolkit, or `pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime \
                      nvidia-cuda-cccl` and set NVCC to its bin/nvcc, or let `make test` put it into target/nvcc; then touch build.rs";

fn main() {
    for watched in ["build.rs", "kernels", "src/device/cuda/architecture.rs", "src/device/cuda/tiles.rs"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    for watched in ["NVCC", "CUDA_HOME", "CUDA_PATH", "MLPCONV_REQUIRE_CUDA"] {
        println!("cargo::rerun-if-env-changed={watched}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    match find_nvcc() {
        Some(nvcc) => {
            let compiled = compile_all(&nvcc, &out);
            embed(&out, "None", &compiled);
        }
        None => {
            let why = format!("nvcc was not found when this was built: {REMEDY}");
            if env::var_os("MLPCONV_REQUIRE_CUDA").is_some_and(|value| value != "0") {
                fail(&why);
            }
            println!("cargo::warning=the CUDA kernels are left out, only the CPU backend is built: {why}");
            embed(&out, &format!("Some({why:?})"), &[]);
        }
    }
}

fn fail(message: &str) -> ! {
    // Cargo shows an error's first line only if each line is marked.
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    exit(1)
}

/// One kernel file at one precision for one architecture, and the PTX that it became, compressed.
struct Compiled {
    module: String,
    precision: u32,
    architecture: Architecture,
    deflated: PathBuf,
}

/// The first nvcc that runs: `$NVCC`, then toolkits in their usual places, then installations by pip.
fn find_nvcc() -> Option<PathBuf> {
    if let Some(nvcc) = env::var_os("NVCC").filter(|nvcc| !nvcc.is_empty()) {
        let nvcc = PathBuf::from(nvcc);
        if works(&nvcc) {
            return Some(nvcc);
        }
        fail(&format!("NVCC is set to {}, which does not run; unset it, or name an nvcc", nvcc.display()));
    }
    let homes =
        ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(|home| Path::new(&home).join("bin/nvcc"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("nvcc")).collect::<Vec<_>>();
    let mut candidates: Vec<PathBuf> = homes.chain(on_path).collect();
    candidates.push("/usr/local/cuda/bin/nvcc".into());
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let mut prefixes = vec![manifest.join("target/nvcc")];
    prefixes.extend(env::var_os("VIRTUAL_ENV").map(PathBuf::from));
    prefixes.extend(env::var_os("HOME").map(|home| Path::new(&home).join(".local")));
    prefixes.extend([PathBuf::from("/usr/local"), PathBuf::from("/usr")]);
    candidates.extend(prefixes.iter().flat_map(|prefix| in_python(prefix)));
    candidates.into_iter().find(|nvcc| nvcc.is_file() && works(nvcc))
}

/// The nvccs that pip installs under a prefix: `lib/python3.*/{site,dist}-packages/nvidia/cu*/bin/nvcc`.
fn in_python(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for python in children(&prefix.join("lib"), "python3") {
        for packages in ["site-packages", "dist-packages"] {
            let nvidia = python.join(packages).join("nvidia");
            found.extend(children(&nvidia, "cu").into_iter().rev().map(|cuda| cuda.join("bin/nvcc")));
        }
    }
    found
}

/// The entries of a folder whose names begin with `start`, sorted.
fn children(folder: &Path, start: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let matching = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    matching.map(|entry| entry.path()).collect()
}

fn works(nvcc: &Path) -> bool {
    Command::new(nvcc).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Compiles the units that have changed, as many at a time as cargo allows.
fn compile_all(nvcc: &Path, out: &Path) -> Vec<Compiled> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let kernels = manifest.join("kernels");
    let version = Command::new(nvcc).arg("--version").output().expect("it has run before").stdout;
    let defines = tiles::defines();
    let mut units = Vec::new();
    for (source, architecture) in sources(&kernels) {
        let module = source.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        for precision in PRECISIONS {
            let mut hasher = DefaultHasher::new();
            (&version, FLAGS, &defines, precision, architecture).hash(&mut hasher);
            hash_source(&kernels, &source, &mut BTreeSet::new(), &mut hasher);
            let name = format!("{module}.{architecture}.{precision}.{:016x}.deflate", hasher.finish());
            let deflated = out.join(name);
            units.push((source.clone(), Compiled { module: module.clone(), precision, architecture, deflated }));
        }
    }
    // What is not in use: of changed sources, and of a build that was broken off.
    let made = |path: &PathBuf| ["deflate", "ptx", "new"].map(OsStr::new).map(Some).contains(&path.extension());
    for stale in children(out, "").into_iter().filter(made) {
        if !units.iter().any(|(_, unit)| unit.deflated == stale) {
            // A failure is ignored: nothing includes the file any more.
            let _ = fs::remove_file(stale);
        }
    }
    // The largest files take longest and go first, so that no worker waits for one of them at the end.
    let mut due: Vec<_> = units.iter().filter(|(_, unit)| !unit.deflated.exists()).collect();
    due.sort_by_key(|(source, _)| std::cmp::Reverse(fs::metadata(source).map_or(0, |file| file.len())));
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1usize);
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            while let Some((source, unit)) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
                failures.extend(compile(nvcc, &manifest, source, unit, &defines).err());
            }
            failures
        };
        let workers: Vec<_> = (0..jobs.min(due.len())).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a compile does not panic")).collect()
    });
    if !failures.is_empty() {
        fail(&failures.join("\n"));
    }
    units.into_iter().map(|(_, unit)| unit).collect()
}

/// The kernel files, each with the architecture that its folder stands for.
fn sources(kernels: &Path) -> Vec<(PathBuf, Architecture)> {
    let mut folders = vec![(kernels.to_owned(), Architecture::PORTABLE)];
    for folder in children(kernels, "sm_").into_iter().filter(|path| path.is_dir()) {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy();
        let Some(architecture) = name.strip_prefix("sm_").and_then(Architecture::from_name) else {
            fail(&format!("{} names no architecture; name the folder as ptxas does, such as sm_90a", folder.display()));
        };
        folders.push((folder, architecture));
    }
    let files = |(folder, architecture): (PathBuf, Architecture)| {
        let kernels = children(&folder, "").into_iter().filter(|path| path.extension() == Some(OsStr::new("cu")));
        kernels.map(move |kernel| (kernel, architecture))
    };
    folders.into_iter().flat_map(files).collect()
}

/// Hashes a file's text, and that of the headers that it includes by `#include "..."`.
fn hash_source(kernels: &Path, file: &Path, seen: &mut BTreeSet<PathBuf>, hasher: &mut impl Hasher) {
    if !seen.insert(file.to_owned()) {
        return;
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    text.hash(hasher);
    for line in text.lines() {
        let Some(name) = line.trim().strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) else {
            continue;
        };
        let beside = file.parent().expect("a file lies in a folder").join(name);
        let header = if beside.exists() { beside } else { kernels.join(name) };
        hash_source(kernels, &header, seen, hasher);
    }
}

fn compile(
    nvcc: &Path,
    manifest: &Path,
    source: &Path,
    unit: &Compiled,
    defines: &[(String, String)],
) -> Result<(), String> {
    let [fresh, packed] = ["ptx", "new"].map(|extension| unit.deflated.with_extension(extension));
    let mut command = Command::new(nvcc);
    command.args(FLAGS).arg(format!("-arch=compute_{}", unit.architecture)).arg("-I").arg(manifest.join("kernels"));
    command.arg(format!("-DPRECISION={}", unit.precision));
    // To nvcc a comma separates definitions, unless it is escaped.
    command.args(defines.iter().map(|(name, value)| format!("-D{name}={}", value.replace(',', "\\,"))));
    let output = command.arg(source).arg("-o").arg(&fresh).output();
    let what = format!("{} at precision {}", source.display(), unit.precision);
    let output = output.map_err(|error| format!("{} cannot be started for {what}: {error}", nvcc.display()))?;
    if !output.status.success() {
        let said =
            [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).trim().to_owned()).join("\n");
        return Err(format!("{} failed on {what}\n{said}\n{}", nvcc.display(), remedy(&said)));
    }
    // Paths of sources are made relative to the repository: the PTX does not depend on its place.
    let ptx = fs::read_to_string(&fresh).map_err(|error| format!("cannot read {}: {error}", fresh.display()))?;
    let ptx = ptx.replace(&format!("{}/", manifest.display()), "");
    let deflate = || {
        let mut encoder = DeflateEncoder::new(fs::File::create(&packed)?, Compression::default());
        encoder.write_all(ptx.as_bytes())?;
        encoder.finish()?;
        // Renamed when it is whole: a build that is broken off leaves none.
        fs::rename(&packed, &unit.deflated)
    };
    deflate().map_err(|error| format!("cannot write {}: {error}", unit.deflated.display()))?;
    // A failure is ignored: the file is overwritten next time.
    let _ = fs::remove_file(fresh);
    Ok(())
}

fn remedy(said: &str) -> &'static str {
    if said.contains("compute_") || said.contains("nsupported") {
        "the kernels need nvcc 11.7 or newer (they are tested with 13.0), with a host compiler that it supports; name another with NVCC"
    } else if said.contains("No such file") || said.contains("not found") || said.contains("cannot open source file") {
        "parts of the CUDA toolkit are missing (the headers of nvidia-cuda-crt, -runtime, -cccl and a host compiler, gcc, are needed)"
    } else {
        "name another nvcc with NVCC, or build without --features cuda (--no-default-features --features cli,fetch,images)"
    }
}

/// Writes what `src/device/cuda/kernels.rs` includes.
fn embed(out: &Path, missing: &str, compiled: &[Compiled]) {
    let mut text = format!("pub(super) const MISSING: Option<&str> = {missing};\n");
    // A constant would be in the program once for each crate and unit of code that reads it.
    text += "pub(super) static PTX: &[Ptx] = &[\n";
    for Compiled { module, precision, architecture, deflated } in compiled {
        // An architecture's debugging text is the expression for it.
        let precision = format!("precision: Precision::ALL[{precision}]");
        let architecture = format!("architecture: {architecture:?}");
        let deflated = format!("deflated: include_bytes!({deflated:?})");
        writeln!(text, "    Ptx {{ module: {module:?}, {precision}, {architecture}, {deflated} }},")
            .expect("a string takes text");
    }
    text += "];\n";
    let path = out.join("kernels.rs");
    // An unchanged file keeps its date, so that its includer is not compiled again.
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return;
    }
    if let Err(error) = fs::write(&path, text) {
        fail(&format!("cannot write {}: {error}", path.display()));
    }
}

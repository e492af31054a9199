//! Compiles the kernels to PTX, once for each precision, and embeds it, compressed. It needs nvcc, but neither a GPU nor a
//! driver. Without nvcc the crate builds all the same, with the CPU backend alone; `MLPCONV_REQUIRE_CUDA=1` makes that a failure.
//!
//! # Images
//! A driver compiles PTX when it loads it, which takes seconds when a program first starts. A release build has machine code for
//! [`MACHINES`] besides, which newer GPUs of the same major capability run too. Other GPUs get the PTX, and so do drivers of an
//! older major version than nvcc's, which refuse the machine code. A debug build has PTX alone, as ptxas takes longest of all.
//! compute-sanitizer, Nsight Compute and the virtual GPU name the lines of the sources: PTX has them in a debug build, and in a
//! release build with debug information (`CARGO_PROFILE_RELEASE_DEBUG=1`).
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
use std::io::{self, Write as _};
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
use lzma_rust2::{LzmaOptions, XzOptions, XzWriter};

/// Values of `-DPRECISION`: fp32, tf32, bf16.
const PRECISIONS: [u32; 3] = [0, 1, 2];

const FLAGS: [&str; 3] = ["-ptx", "-std=c++17", "-O3"];

/// What the portable kernels are compiled to machine code for, as far as the nvcc knows it: Ampere (A100; RTX 30), Ada
/// (RTX 40), Hopper.
const MACHINES: [&str; 4] = ["80", "86", "89", "90"];

/// nvcc marks PTX with the newest ISA that it knows, and a driver refuses one that it does not know. The portable kernels
/// need no more than this, of CUDA 12.0, and are marked so: `tests/machine` has the ptxas of 12.0 compile them.
const PORTABLE_ISA: (u32, u32) = (8, 0);

/// Machine code is made of the PTX.
const CODE_FLAGS: [&str; 1] = ["-cubin"];

/// The level of compression, of 0 to 9.
const LEVEL: u32 = 6;

/// Machine code has instructions of 16 bytes, so positions are told apart by their last four bits.
const POSITION_BITS: u32 = 4;

/// To be raised when a unit's file becomes another by the same sources and flags.
const FORMAT: u32 = 2;

/// What nvcc itself reads.
const NVCC_FLAGS: [&str; 2] = ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"];

const REMEDY: &str = "install the CUDA toolkit, or `pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime \
                      nvidia-cuda-cccl` and set NVCC to its bin/nvcc, or let `make test` put it into target/nvcc; then touch build.rs";

fn main() {
    for watched in ["build.rs", "kernels", "src/device/cuda/architecture.rs", "src/device/cuda/tiles.rs"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    for watched in ["NVCC", "CUDA_HOME", "CUDA_PATH", "MLPCONV_REQUIRE_CUDA"].into_iter().chain(NVCC_FLAGS) {
        println!("cargo::rerun-if-env-changed={watched}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    match find_nvcc() {
        Some(nvcc) => {
            let units = compile_all(&Compiler::new(nvcc), &out);
            embed(&out, "None", &units);
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

/// One kernel file at one precision for one architecture.
struct Unit {
    source: PathBuf,
    module: String,
    precision: u32,
    architecture: Architecture,
    /// The architectures that it is compiled to machine code for.
    machines: Vec<Architecture>,
    /// An XZ file of the images: machine code for each of `machines`, then the PTX. Before each is its length (4 bytes, the lowest
    /// first).
    packed: PathBuf,
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

/// An nvcc, and what it is told on every call.
struct Compiler {
    nvcc: PathBuf,
    version: Vec<u8>,
    manifest: PathBuf,
    /// The constants that Rust and the kernels share, as options.
    defines: Vec<String>,
    /// Whether PTX keeps the lines of its sources.
    lines: bool,
    /// Those of [`MACHINES`] that portable kernels get code for.
    machines: Vec<Architecture>,
}

impl Compiler {
    fn new(nvcc: PathBuf) -> Self {
        let set = |name: &str, value: &str| env::var_os(name).is_some_and(|now| now == value);
        let tells = |option: &str| Command::new(&nvcc).arg(option).output().map(|output| output.stdout);
        let version = tells("--version").expect("it has run before");
        let known = String::from_utf8_lossy(&tells("--list-gpu-code").unwrap_or_default()).into_owned();
        let known = |machine: &&str| known.lines().any(|line| line.strip_prefix("sm_") == Some(machine));
        let release = set("PROFILE", "release");
        let machines = MACHINES.iter().filter(|machine| release && known(machine));
        // To nvcc a comma separates definitions, unless it is escaped.
        let define = |(name, value): (String, String)| format!("-D{name}={}", value.replace(',', "\\,"));
        Compiler {
            version,
            manifest: PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR")),
            defines: tiles::defines().into_iter().map(define).collect(),
            lines: !(release && set("DEBUG", "false")),
            machines: machines.map(|machine| Architecture::from_name(machine).expect("its name")).collect(),
            nvcc,
        }
    }

    /// What a kernel file of an architecture gets machine code for. That of a specific one runs on nothing else.
    fn machines(&self, architecture: Architecture) -> Vec<Architecture> {
        if architecture.specific && !self.machines.is_empty() {
            return vec![architecture];
        }
        self.machines.iter().filter(|machine| architecture.runs_on(machine.capability)).copied().collect()
    }

    /// Runs nvcc, which writes `to`; `what` it compiles is named if it fails.
    fn run(&self, what: &str, from: &Path, to: &Path, options: &[String]) -> Result<Vec<u8>, String> {
        let output = Command::new(&self.nvcc).args(options).arg(from).arg("-o").arg(to).output();
        let nvcc = self.nvcc.display();
        let output = output.map_err(|error| format!("{nvcc} cannot be started for {what}: {error}"))?;
        if !output.status.success() {
            let said = [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
            let said = said.join("\n");
            return Err(format!("{nvcc} failed on {what}\n{said}\n{}", remedy(&said)));
        }
        fs::read(to).map_err(|error| format!("cannot read {}: {error}", to.display()))
    }

    /// Compiles a unit, and packs its images.
    fn compile(&self, unit: &Unit) -> Result<(), String> {
        let Unit { source, precision, architecture, machines, packed, .. } = unit;
        let [ptx, code, new] = ["ptx", "cubin", "new"].map(|extension| packed.with_extension(extension));
        let what = format!("{} at precision {precision}", source.display());
        let mut options = FLAGS.map(str::to_owned).to_vec();
        options.extend(self.lines.then(|| "-lineinfo".to_owned()));
        options.extend([format!("-arch=compute_{architecture}"), format!("-DPRECISION={precision}")]);
        options.push(format!("-I{}", self.manifest.join("kernels").display()));
        options.extend_from_slice(&self.defines);
        let text = self.run(&what, source, &ptx, &options)?;
        // Paths of sources are made relative to the repository: the PTX does not depend on its place.
        let text = tidy(&String::from_utf8_lossy(&text).replace(&format!("{}/", self.manifest.display()), ""));
        let text = if *architecture == Architecture::PORTABLE { lower(&text) } else { text };
        let written = |error: io::Error| format!("cannot write {}: {error}", packed.display());
        fs::write(&ptx, &text).map_err(written)?;
        let mut images = Vec::new();
        for machine in machines {
            let options = [CODE_FLAGS.map(str::to_owned).to_vec(), vec![format!("-arch=sm_{machine}")]].concat();
            images.push(self.run(&format!("{what} for sm_{machine}"), &ptx, &code, &options)?);
        }
        images.push(text.into_bytes());
        pack(&images, &new).map_err(written)?;
        // Renamed when it is whole: a build that is broken off leaves none.
        fs::rename(&new, packed).map_err(written)?;
        // A failure is ignored: the files are overwritten next time.
        let _ = (fs::remove_file(ptx), fs::remove_file(code));
        Ok(())
    }
}

/// PTX marked with the ISA that it needs, if it is marked with a newer one.
fn lower(text: &str) -> String {
    let Some((before, rest)) = text.split_once(".version ") else { return text.to_owned() };
    let (version, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let marked =
        version.trim().split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) = marked.map_or(PORTABLE_ISA, |marked: (u32, u32)| marked.min(PORTABLE_ISA));
    format!("{before}.version {major}.{minor}\n{rest}")
}

/// Removes what says nothing, which is a hundredth of the packed text: nvcc's remarks around inline PTX, and empty lines.
fn tidy(text: &str) -> String {
    let said = |line: &&str| !matches!(line.trim(), "" | "// begin inline asm" | "// end inline asm");
    text.lines().filter(said).flat_map(|line| [line, "\n"]).collect()
}

/// Each image has its length before it, in 16 bytes, and begins at a multiple of 16.
fn pack(images: &[Vec<u8>], to: &Path) -> io::Result<()> {
    let mut options = XzOptions::with_preset(LEVEL);
    options.lzma_options.pb = POSITION_BITS;
    options.lzma_options.nice_len = LzmaOptions::NICE_LEN_MAX;
    let mut writer = XzWriter::new(fs::File::create(to)?, options)?;
    for image in images {
        writer.write_all(&(image.len() as u128).to_le_bytes())?;
        writer.write_all(image)?;
        writer.write_all(&[0; 16][..image.len().next_multiple_of(16) - image.len()])?;
    }
    writer.finish().map(|_| ())
}

/// Compiles the units that have changed, as many at a time as cargo allows.
fn compile_all(compiler: &Compiler, out: &Path) -> Vec<Unit> {
    let kernels = compiler.manifest.join("kernels");
    let mut units = Vec::new();
    for (source, architecture) in sources(&kernels) {
        let module = source.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        for precision in PRECISIONS {
            let machines = compiler.machines(architecture);
            let mut hasher = DefaultHasher::new();
            (&compiler.version, FLAGS, &compiler.defines, compiler.lines, &machines).hash(&mut hasher);
            (CODE_FLAGS, PORTABLE_ISA, LEVEL, FORMAT, precision, architecture).hash(&mut hasher);
            NVCC_FLAGS.map(env::var_os).hash(&mut hasher);
            hash_source(&kernels, &source, &mut BTreeSet::new(), &mut hasher);
            let packed = out.join(format!("{module}.{architecture}.{precision}.{:016x}.xz", hasher.finish()));
            units.push(Unit {
                source: source.clone(),
                module: module.clone(),
                precision,
                architecture,
                machines,
                packed,
            });
        }
    }
    // What is not in use: of changed sources, and of a build that was broken off.
    let made = |path: &PathBuf| ["xz", "ptx", "cubin", "new"].map(OsStr::new).map(Some).contains(&path.extension());
    for stale in children(out, "").into_iter().filter(made) {
        if !units.iter().any(|unit| unit.packed == stale) {
            // A failure is ignored: nothing includes the file any more.
            let _ = fs::remove_file(stale);
        }
    }
    // The largest files take longest and go first, so that no worker waits for one of them at the end.
    let mut due: Vec<&Unit> = units.iter().filter(|unit| !unit.packed.exists()).collect();
    due.sort_by_key(|unit| std::cmp::Reverse(fs::metadata(&unit.source).map_or(0, |file| file.len())));
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1usize);
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            while let Some(unit) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
                failures.extend(compiler.compile(unit).err());
            }
            failures
        };
        let workers: Vec<_> = (0..jobs.min(due.len())).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a compile does not panic")).collect()
    });
    if !failures.is_empty() {
        fail(&failures.join("\n"));
    }
    units
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

fn remedy(said: &str) -> &'static str {
    if said.contains("compute_") || said.contains("nsupported") {
        "the kernels need nvcc 11.7 or newer (they are tested with 13.0), with a host compiler that it supports; name another with NVCC"
    } else if said.contains("No such file") || said.contains("not found") || said.contains("cannot open source file") {
        "parts of the CUDA toolkit are missing (the headers of nvidia-cuda-crt, -runtime, -cccl and a host compiler, gcc, are needed)"
    } else {
        "name another nvcc with NVCC, or build without --features cuda (--no-default-features --features cli,fetch,images)"
    }
}

/// Writes what `src/device/cuda/image.rs` includes.
fn embed(out: &Path, missing: &str, units: &[Unit]) {
    let mut text = format!("const MISSING: Option<&str> = {missing};\n");
    // A constant would be in the program once for each crate and unit of code that reads it.
    text += "static UNITS: &[Unit] = &[\n";
    for Unit { module, precision, architecture, machines, packed, .. } in units {
        // An architecture's debugging text is the expression for it.
        let precision = format!("precision: Precision::ALL[{precision}]");
        let architecture = format!("architecture: {architecture:?}, machines: &{machines:?}");
        let packed = format!("packed: include_bytes!({packed:?})");
        writeln!(text, "    Unit {{ module: {module:?}, {precision}, {architecture}, {packed} }},")
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

//! Compiles the kernels to PTX, once for each precision, and embeds it, compressed. It needs nvcc, but neither a GPU nor a
//! driver. Without nvcc the crate builds all the same, with the CPU backend alone; `MLPCONV_REQUIRE_CUDA=1` makes that a failure.
//!
//! # Images
//! A driver compiles PTX when it loads it, which takes seconds when a program first starts. A release build has machine code for
//! [`MACHINES`] besides, which newer GPUs of the same major capability run too. Other GPUs get the PTX, and so do drivers of an
//! older major version than nvcc's, which refuse the machine code. A debug build has PTX alone, as ptxas takes longest of all.
//! compute-sanitizer, Nsight Compute and the virtual GPU name the lines of the sources: PTX has them in a debug build, and in a
//! release build with debug information (`CARGO_PROFILE_RELEASE_DEBUG=1`).
//! The images of a module at all precisions, which are much alike, are compressed as one: code for all machines, and PTX.
//!
//! # Architectures
//! `kernels/NAME.cu` is compiled for the portable architecture, `compute_80`. `kernels/sm_XY/NAME.cu` is compiled for
//! `compute_XY` besides, and `kernels/sm_90a/NAME.cu` for `compute_90a`: a new folder is all that a new architecture
//! takes. When a kernel is loaded, the best architecture that the GPU runs and whose module NAME has the kernel is
//! chosen (`src/device/cuda/kernels.rs`). So a file in such a folder holds only the kernels that differ. One that
//! replaces a portable kernel has its name, grid, block, shared memory and arguments; a kernel that takes another
//! launch has another name, and its launch in `src/ops/*/cuda.rs` asks `Cuda::limits`. Headers are found from `kernels/`: `#include
//! "gemm/tile.cuh"`. An architecture that the nvcc does not know is left out: portable kernels run in its place.

use std::cmp::Reverse;
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

/// Values of `-DPRECISION`, by the names that `Precision` gives them: those of `Precision::ALL`, in its order.
const PRECISIONS: [(u32, &str); 3] = [(0, "Fp32"), (1, "Tf32"), (2, "Bf16")];

const FLAGS: [&str; 3] = ["-ptx", "-std=c++17", "-O3"];

/// What the portable kernels are compiled to machine code for, as far as the nvcc knows it: Ampere (A100; RTX 30), Ada
/// (RTX 40), Hopper.
const MACHINES: [&str; 4] = ["80", "86", "89", "90"];

/// nvcc marks PTX with the newest ISA that it knows, and a driver refuses one that it does not know. The kernels need no more
/// than this, of CUDA 12.0, and are marked so: `tests/machine` has the ptxas of 12.0 compile them.
const OLDEST_ISA: (u32, u32) = (8, 0);

/// Machine code is made of the PTX.
const CODE_FLAGS: [&str; 1] = ["-cubin"];

/// To be raised when other images are made by the same sources and flags.
const FORMAT: u32 = 3;

/// The level of compression of a release build, of 0 to 9. A debug build, which a changed kernel waits for, has the lowest.
const LEVEL: u32 = 6;

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
            let compiler = Compiler::new(nvcc);
            embed(&out, "None", &compile_all(&compiler, &out));
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

/// One kernel file for one architecture.
struct Unit {
    source: PathBuf,
    module: String,
    architecture: Architecture,
    /// The architectures that it is compiled to machine code for.
    machines: Vec<Architecture>,
    /// What nvcc makes of it, for each precision.
    images: Vec<Images>,
    /// How hard they are packed.
    lzma: LzmaOptions,
}

/// A unit's files at one precision.
struct Images {
    precision: (u32, &'static str),
    ptx: PathBuf,
    /// Machine code for each of the unit's `machines`.
    code: Vec<PathBuf>,
}

impl Unit {
    /// Its XZ files: machine code by machine, then by precision, and PTX by precision, as `src/device/cuda/image.rs` reads them. There
    /// is none of code where there are no machines.
    fn packs(&self) -> [Option<Pack<'_>>; 2] {
        let of_machine = |machine: usize| self.images.iter().map(move |images| images.code[machine].as_path());
        let code = (0..self.machines.len()).flat_map(of_machine).collect();
        let ptx = self.images.iter().map(|images| images.ptx.as_path()).collect();
        let options = |lc, lp, pb| LzmaOptions { lc, lp, pb, ..self.lzma.clone() };
        [
            // An instruction has 16 bytes. A byte's place in it foretells the byte better than the byte before does.
            self.pack("code", code, options(0, 4, 4)),
            self.pack("ptx", ptx, options(3, 0, 0)),
        ]
    }

    /// The expression for the precisions that it has kernels for, as far as its PTX is there.
    fn precisions(&self) -> String {
        let has_kernels = |images: &&Images| fs::read_to_string(&images.ptx).is_ok_and(|ptx| ptx.contains(".entry "));
        let names = self.images.iter().filter(has_kernels).map(|images| format!("Precision::{}", images.precision.1));
        format!("&[{}]", names.collect::<Vec<_>>().join(", "))
    }

    fn pack<'a>(&self, what: &str, images: Vec<&'a Path>, options: LzmaOptions) -> Option<Pack<'a>> {
        let first = images.first()?;
        let mut hasher = DefaultHasher::new();
        images.iter().for_each(|image| image.file_name().hash(&mut hasher));
        format!("{options:?}").hash(&mut hasher);
        let name = format!("{}.{}.{what}.{:016x}.xz", self.module, self.architecture, hasher.finish());
        Some(Pack { packed: first.with_file_name(name), images, options })
    }
}

/// An XZ file of images.
struct Pack<'a> {
    packed: PathBuf,
    images: Vec<&'a Path>,
    options: LzmaOptions,
}

impl Pack<'_> {
    /// Each image has its length before it, in 16 bytes, and begins at a multiple of 16.
    fn write(&self) -> Result<(), String> {
        let mut options = XzOptions::with_preset(LEVEL);
        options.lzma_options = self.options.clone();
        let write = |to: &Path| {
            let mut writer = XzWriter::new(fs::File::create(to)?, options)?;
            for image in &self.images {
                let image = fs::read(image)?;
                writer.write_all(&(image.len() as u128).to_le_bytes())?;
                writer.write_all(&image)?;
                writer.write_all(&[0; 16][..image.len().next_multiple_of(16) - image.len()])?;
            }
            writer.finish().map(drop)
        };
        let packed = &self.packed;
        write(&unfinished(packed)).and_then(|()| fs::rename(unfinished(packed), packed)).map_err(unwritten(packed))
    }
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
    release: bool,
    /// Whether PTX keeps the lines of its sources.
    lines: bool,
    /// What it compiles for, as ptxas names it: `80`. It does not list the specific ones.
    known: BTreeSet<String>,
    /// Those of [`MACHINES`] that portable kernels get code for.
    machines: Vec<Architecture>,
}

impl Compiler {
    fn new(nvcc: PathBuf) -> Self {
        let set = |name: &str, value: &str| env::var_os(name).is_some_and(|now| now == value);
        let tells = |option: &str| Command::new(&nvcc).arg(option).output().map(|output| output.stdout);
        let version = tells("--version").expect("it has run before");
        let known = String::from_utf8_lossy(&tells("--list-gpu-code").unwrap_or_default()).into_owned();
        let known: BTreeSet<String> = known.lines().filter_map(|line| Some(line.strip_prefix("sm_")?.into())).collect();
        let release = set("PROFILE", "release");
        let machines = MACHINES.iter().filter(|machine| release && known.contains(**machine));
        // To nvcc a comma separates definitions, unless it is escaped.
        let define = |(name, value): (String, String)| format!("-D{name}={}", value.replace(',', "\\,"));
        Compiler {
            version,
            manifest: PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR")),
            defines: tiles::defines().into_iter().map(define).collect(),
            release,
            lines: !(release && set("DEBUG", "false")),
            machines: machines.map(|machine| Architecture::from_name(machine).expect("its name")).collect(),
            known,
            nvcc,
        }
    }

    fn knows(&self, architecture: Architecture) -> bool {
        let plain = Architecture { specific: false, ..architecture };
        // That of CUDA 11.8 knows sm_90, but not sm_90a.
        let older = architecture.specific && String::from_utf8_lossy(&self.version).contains("release 11.");
        architecture == Architecture::PORTABLE || self.known.contains(&plain.to_string()) && !older
    }

    fn lzma(&self) -> LzmaOptions {
        match self.release {
            true => LzmaOptions { nice_len: LzmaOptions::NICE_LEN_MAX, ..LzmaOptions::with_preset(LEVEL) },
            false => LzmaOptions::with_preset(0),
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
    fn run(&self, what: &str, from: &Path, to: &Path, options: &[String]) -> Result<(), String> {
        let output = Command::new(&self.nvcc).args(options).arg(from).arg("-o").arg(to).output();
        let nvcc = self.nvcc.display();
        let output = output.map_err(|error| format!("{nvcc} cannot be started for {what}: {error}"))?;
        if !output.status.success() {
            let said = [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
            let said = said.join("\n");
            return Err(format!("{nvcc} failed on {what}\n{said}\n{}", remedy(&said)));
        }
        Ok(())
    }

    /// Compiles a unit at one precision.
    fn compile(&self, unit: &Unit, images: &Images) -> Result<(), String> {
        let (source, (precision, _)) = (&unit.source, images.precision);
        let what = format!("{} at precision {precision}", source.display());
        let mut options = FLAGS.map(str::to_owned).to_vec();
        options.extend(self.lines.then(|| "-lineinfo".to_owned()));
        options.extend([format!("-arch=compute_{}", unit.architecture), format!("-DPRECISION={precision}")]);
        options.push(format!("-I{}", self.manifest.join("kernels").display()));
        options.extend_from_slice(&self.defines);
        self.run(&what, source, &unfinished(&images.ptx), &options)?;
        let text =
            fs::read(unfinished(&images.ptx)).map_err(|error| format!("cannot read the PTX of {what}: {error}"))?;
        // Paths of sources are made relative to the repository: the PTX does not depend on its place.
        let text = tidy(&String::from_utf8_lossy(&text).replace(&format!("{}/", self.manifest.display()), ""));
        let put = fs::write(unfinished(&images.ptx), lower(&text));
        put.and_then(|()| fs::rename(unfinished(&images.ptx), &images.ptx)).map_err(unwritten(&images.ptx))?;
        for (machine, code) in unit.machines.iter().zip(&images.code) {
            let options = [CODE_FLAGS.map(str::to_owned).to_vec(), vec![format!("-arch=sm_{machine}")]].concat();
            self.run(&format!("{what} for sm_{machine}"), &images.ptx, &unfinished(code), &options)?;
            fs::rename(unfinished(code), code).map_err(unwritten(code))?;
        }
        Ok(())
    }
}

/// The name of a file that is being written. It is renamed when it is whole, so a build that is broken off leaves no part of one by
/// its own name.
fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

fn unwritten(file: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot write {}: {error}", file.display())
}

/// PTX marked with the ISA that it needs, if it is marked with a newer one.
fn lower(text: &str) -> String {
    let Some((before, rest)) = text.split_once(".version ") else { return text.to_owned() };
    let (version, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let marked =
        version.trim().split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) = marked.map_or(OLDEST_ISA, |marked: (u32, u32)| marked.min(OLDEST_ISA));
    format!("{before}.version {major}.{minor}\n{rest}")
}

/// Removes what says nothing, which is a hundredth of the packed text: nvcc's remarks around inline PTX, and empty lines.
fn tidy(text: &str) -> String {
    let said = |line: &&str| !matches!(line.trim(), "" | "// begin inline asm" | "// end inline asm");
    text.lines().filter(said).flat_map(|line| [line, "\n"]).collect()
}

/// Compiles the units that have changed, and packs them.
fn compile_all(compiler: &Compiler, out: &Path) -> Vec<Unit> {
    let kernels = compiler.manifest.join("kernels");
    let unit = |(source, architecture): (PathBuf, Architecture)| {
        let module = source.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let machines = compiler.machines(architecture);
        let images = |precision: (u32, &'static str)| {
            let (number, mut hasher) = (precision.0, DefaultHasher::new());
            (&compiler.version, FLAGS, &compiler.defines, compiler.lines, &machines).hash(&mut hasher);
            (CODE_FLAGS, OLDEST_ISA, FORMAT, number, architecture).hash(&mut hasher);
            NVCC_FLAGS.map(env::var_os).hash(&mut hasher);
            hash_source(&kernels, &source, &mut BTreeSet::new(), &mut hasher);
            let name = format!("{module}.{architecture}.{number}.{:016x}", hasher.finish());
            let code = machines.iter().map(|machine| out.join(format!("{name}.{machine}.cubin"))).collect();
            Images { precision, ptx: out.join(format!("{name}.ptx")), code }
        };
        let images = PRECISIONS.map(images).into();
        Unit { source, module, architecture, machines, images, lzma: compiler.lzma() }
    };
    let known = |(_, architecture): &(PathBuf, Architecture)| compiler.knows(*architecture);
    let units: Vec<Unit> = sources(&kernels).into_iter().filter(known).map(unit).collect();
    let packs: Vec<Pack> = units.iter().flat_map(Unit::packs).flatten().collect();
    remove_stale(out, &units, &packs);
    let beside = beside(out);
    let is_there = |file: &PathBuf| file.exists() || beside.iter().any(|folder| copy(folder, file).is_some());
    let whole = |images: &Images| images.code.iter().chain([&images.ptx]).all(is_there);
    let images = units.iter().flat_map(|unit| unit.images.iter().map(move |images| (unit, images)));
    let due = images.filter(|(_, images)| !whole(images)).collect();
    side_by_side(due, |(unit, _)| size(&unit.source), |(unit, images)| compiler.compile(unit, images));
    let due = packs.iter().filter(|pack| !is_there(&pack.packed)).collect();
    side_by_side(due, |pack| pack.images.iter().map(|image| size(image)).sum(), |pack| pack.write());
    drop(packs);
    units
}

/// The folders of this package's builds with other settings, which cargo has beside `out`. Files there are what they would be here if
/// they have the same names, which are hashes of all that they are made of.
fn beside(out: &Path) -> Vec<PathBuf> {
    let builds = out.ancestors().nth(2).unwrap_or(out);
    children(builds, "mlpconv-").into_iter().map(|build| build.join("out")).filter(|other| other != out).collect()
}

/// Copies a file that is in this folder, too.
fn copy(folder: &Path, file: &Path) -> Option<()> {
    let there = folder.join(file.file_name()?);
    fs::copy(there, unfinished(file)).and_then(|_| fs::rename(unfinished(file), file)).ok()
}

/// Removes what is not in use: of changed sources, and of a build that was broken off.
fn remove_stale(out: &Path, units: &[Unit], packs: &[Pack]) {
    let images = units.iter().flat_map(|unit| &unit.images);
    let images = images.flat_map(|images| images.code.iter().chain([&images.ptx]));
    let used: BTreeSet<&PathBuf> = images.chain(packs.iter().map(|pack| &pack.packed)).collect();
    let made = ["xz", "ptx", "cubin", "unfinished"].map(OsStr::new).map(Some);
    for file in children(out, "").into_iter().filter(|file| made.contains(&file.extension()) && !used.contains(file)) {
        // A failure is ignored: nothing includes the file any more.
        let _ = fs::remove_file(file);
    }
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

/// Does the work for each item, as many at a time as cargo allows, and ends the build if it fails for any. What is largest takes
/// longest and goes first, so that no worker waits for it at the end.
fn side_by_side<T: Sync>(mut items: Vec<T>, size: impl Fn(&T) -> u64, work: impl Fn(&T) -> Result<(), String> + Sync) {
    items.sort_by_key(|item| Reverse(size(item)));
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1usize).max(1);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut failures = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            failures.extend(work(item).err());
        }
        failures
    };
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(items.len())).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("the work does not panic")).collect()
    });
    if !failures.is_empty() {
        fail(&failures.join("\n"));
    }
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
    writeln!(text, "const _: () = assert!(Precision::ALL.len() == {});", PRECISIONS.len())
        .expect("a string takes text");
    // A constant would be in the program once for each crate and unit of code that reads it.
    text += "static UNITS: &[Unit] = &[\n";
    for unit in units {
        let Unit { module, architecture, machines, .. } = unit;
        // An architecture's debugging text is the expression for it.
        let architecture = format!("architecture: {architecture:?}, machines: &{machines:?}");
        let precisions = unit.precisions();
        let [code, ptx] = unit.packs().map(|pack| match pack {
            Some(pack) => format!("include_bytes!({:?})", pack.packed),
            None => "&[]".to_owned(),
        });
        writeln!(
            text,
            "    Unit {{ module: {module:?}, {architecture}, precisions: {precisions}, code: {code}, ptx: {ptx} }},"
        )
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

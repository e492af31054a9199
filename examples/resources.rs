//! Resources of each kernel: `resources OUT` compiles this build's PTX for every GPU of `GPUS`, and writes a table of
//! registers, shared memory and occupancy to OUT (`make resources` keeps it as `kernels/measured/RESOURCES.md`). It
//! fails if a kernel spills or has a stack.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use mlpconv::Precision;
use mlpconv::device::cuda::tiles::{FP32_TILES, GATHER_SHARED, MLPCONV_D2L_SHARED, MMA_TILES};
use mlpconv::device::cuda::{Architecture, Ptx, missing, ptx};

/// A multiprocessor, by the CUDA programming guide ("Compute capabilities"): 64 Ki registers in four partitions.
struct Gpu {
    capability: (u32, u32),
    warps: usize,
    blocks: usize,
    /// The most bytes of shared memory; the rest of the unified memory is the first-level cache.
    shared: usize,
}

const GPUS: [Gpu; 4] = [
    Gpu { capability: (8, 0), warps: 64, blocks: 32, shared: 164 << 10 },
    Gpu { capability: (8, 6), warps: 48, blocks: 16, shared: 100 << 10 },
    Gpu { capability: (8, 9), warps: 48, blocks: 24, shared: 100 << 10 },
    Gpu { capability: (9, 0), warps: 64, blocks: 32, shared: 228 << 10 },
];

impl Gpu {
    fn name(&self) -> String {
        format!("sm_{}", Architecture { capability: self.capability, specific: false })
    }
}

/// Bytes of shared memory that CUDA reserves for each block.
const SHARED_BY_SYSTEM: usize = 1 << 10;

const HEAD: &str = "\
# What each kernel takes of a multiprocessor

By `ptxas -v`, from the PTX of this build. Written by `make resources`, which fails if a kernel spills registers or has
a stack in local memory: none does.

A cell reads *registers a thread*: *blocks* × *warps of a block*, *what binds*, where as many blocks at a time as
possible are on a multiprocessor: **R** registers, **S** shared memory, **W** warps, **B** blocks. Shared memory is bytes
of a block, without the KiB that the system takes for each; of `gather`, and of `cross_entropy`'s threads, the most there
may be; of `mlpconv`'s kernels, what d2l's first block takes (none run where they have 0 blocks: other kernels do). A
multiprocessor has 64 Ki registers, and

| | sm_80 | sm_86 | sm_89 | sm_90 |
|---|---:|---:|---:|---:|
";

/// The resources of a kernel on one GPU, by ptxas.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    registers: usize,
    shared: usize,
    stack: usize,
    spills: usize,
}

/// A kernel's threads and dynamic shared memory, and its usage on each GPU; `None` where it does not run.
#[derive(Clone, PartialEq, Eq)]
struct Kernel {
    threads: usize,
    dynamic: usize,
    usage: [Option<Usage>; GPUS.len()],
}

/// Module, kernel, and the precision's index in `Precision::ALL`.
type Key<'a> = (&'a str, &'a str, usize);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let out = env::args().nth(1).ok_or("usage: resources OUT")?;
    if let Some(why) = missing() {
        return Err(why.into());
    }
    let ptxas = find_ptxas().ok_or("there is no ptxas beside $NVCC, in target/nvcc or on PATH")?;
    let mut units: Vec<Unit> = Precision::ALL
        .into_iter()
        .flat_map(ptx)
        .flat_map(|ptx| (0..GPUS.len()).map(move |on| (ptx, on)))
        .filter(|(ptx, on)| ptx.architecture.runs_on(GPUS[*on].capability))
        .collect();
    // If several architectures have a kernel, the GPU prefers the last one.
    units.sort_by_key(|(ptx, _)| ptx.architecture);
    let reports = compile_all(&ptxas, &units)?;

    let mut kernels: BTreeMap<Key, Kernel> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (&(Ptx { module, precision, text, .. }, on), report) in units.iter().zip(&reports) {
        for (name, threads) in entries(text)? {
            let usage = usage(report, name).ok_or_else(|| format!("ptxas says nothing of {name}:\n{report}"))?;
            let kernel = kernels.entry((module, name, precision as usize)).or_insert_with(|| {
                let dynamic = dynamic_shared(precision, name);
                Kernel { threads, dynamic, usage: Default::default() }
            });
            kernel.usage[on] = Some(usage);
            if usage.spills + usage.stack > 0 {
                let Usage { spills, stack, .. } = usage;
                let on = GPUS[on].name();
                wrong.push(format!("{name} at {precision} on {on} spills {spills} bytes and has {stack} of stack"));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n").into());
    }
    Ok(fs::write(out, markdown(&ptxas, &kernels)?)?)
}

impl Kernel {
    /// Blocks of the kernel that a multiprocessor holds, and the letter of the resource that limits them.
    fn occupancy(&self, usage: &Usage, on: &Gpu) -> (usize, char) {
        let warps = self.threads.div_ceil(32);
        // Registers of a warp are allocated in units of 256. A block's warps are spread evenly over the four
        // partitions.
        let per_partition = (16 << 10) / (usage.registers.max(1) * 32).next_multiple_of(256);
        let shared = (usage.shared + self.dynamic + SHARED_BY_SYSTEM).next_multiple_of(128);
        let bounds = [
            (4 * per_partition / warps.next_multiple_of(4), 'R'),
            (on.shared / shared, 'S'),
            (on.warps / warps, 'W'),
            (on.blocks, 'B'),
        ];
        // Among equal limits the last one is named: warps and blocks, which a kernel cannot change.
        bounds.into_iter().rev().min_by_key(|(blocks, _)| *blocks).expect("four bounds")
    }
}

/// Bytes of dynamic shared memory of a launch. The GEMMs, the gather and the fused block use some.
fn dynamic_shared(precision: Precision, kernel: &str) -> usize {
    if kernel.starts_with("gather") {
        return GATHER_SHARED;
    }
    if let Some((_, bytes)) = MLPCONV_D2L_SHARED.iter().find(|(fused, _)| *fused == kernel) {
        return *bytes;
    }
    let tiles = if precision == Precision::Fp32 { &FP32_TILES[..] } else { &MMA_TILES[..] };
    let gemm = kernel.starts_with("conv2d_") || kernel.starts_with("pointwise_");
    let tile = tiles.iter().find(|tile| gemm && kernel.ends_with(&format!("_{}", tile.name())));
    tile.map_or(0, |tile| if kernel.contains("_wgrad_") { tile.grouped().shared() } else { tile.shared() })
}

/// A module's kernels, each with the threads of its blocks.
fn entries(text: &str) -> Result<Vec<(&str, usize)>, Box<dyn Error>> {
    let starts = text.match_indices(".entry ").map(|(at, word)| &text[at + word.len()..]);
    starts
        .map(|rest| {
            let name = rest.split('(').next().unwrap_or_default().trim();
            let head = rest.split('{').next().unwrap_or_default();
            let extents = head.split_once(".maxntid").and_then(|(_, rest)| rest.trim_start().split('\n').next());
            let threads: Option<usize> = extents
                .and_then(|extents| extents.split(',').map(|extent| extent.trim().parse::<usize>().ok()).product());
            Ok((name, threads.ok_or_else(|| format!("{name} does not say how many threads a block has"))?))
        })
        .collect()
}

/// The first ptxas found: beside `$NVCC`, then where `make test` installs it, then on PATH.
fn find_ptxas() -> Option<PathBuf> {
    let beside = env::var_os("NVCC").map(|nvcc| Path::new(&nvcc).with_file_name("ptxas"));
    let pythons = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/target/nvcc/lib")).into_iter().flatten().flatten();
    let installed = pythons.map(|python| python.path().join("site-packages/nvidia/cu13/bin/ptxas"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join("ptxas")).collect();
    beside.into_iter().chain(installed).chain(on_path).find(|ptxas| ptxas.is_file())
}

/// PTX, and the index in [`GPUS`] of the GPU that it is compiled for.
type Unit = (Ptx, usize);

/// The report of ptxas for each unit, as many at a time as there are cores.
fn compile_all(ptxas: &Path, units: &[Unit]) -> Result<Vec<String>, Box<dyn Error>> {
    // The largest units take longest and go first.
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_key(|&unit| std::cmp::Reverse(units[unit].0.text.len()));
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, String)>, String> {
        let mut done = Vec::new();
        while let Some(&unit) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (Ptx { module, precision, architecture, text }, on) = units[unit];
            let target = if architecture.specific { format!("sm_{architecture}") } else { GPUS[on].name() };
            let report = compile(ptxas, text, &target);
            done.push((unit, report.map_err(|error| format!("{module} at {precision}: {error}"))?));
        }
        Ok(done)
    };
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a compile does not panic")).collect()
    });
    let mut reports = vec![String::new(); units.len()];
    for result in results {
        for (unit, report) in result? {
            reports[unit] = report;
        }
    }
    Ok(reports)
}

fn compile(ptxas: &Path, text: &str, architecture: &str) -> Result<String, String> {
    let run = || -> std::io::Result<std::process::Output> {
        let mut command = Command::new(ptxas);
        command.args(["-v", "-arch", architecture, "-", "-o", "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // A write fails if ptxas refuses the text and exits: its report says why.
        let _ = child.stdin.take().expect("a pipe").write_all(text.as_bytes());
        child.wait_with_output()
    };
    let output = run().map_err(|error| format!("{}: {error}", ptxas.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The resources of a kernel in a report.
fn usage(report: &str, kernel: &str) -> Option<Usage> {
    let rest = report.split_once(&format!("Function properties for {kernel}\n"))?.1;
    let mut lines = rest.lines();
    let (memory, used) = (lines.next()?, lines.next()?);
    // A number stands before its name.
    let before = |line: &str, name: &str| -> Option<usize> {
        line.split(',').find_map(|part| part.trim().strip_suffix(name)?.rsplit(' ').next()?.parse().ok())
    };
    let spilled = before(memory, " bytes spill stores")? + before(memory, " bytes spill loads")?;
    let registers = before(used, " registers")?;
    let shared = before(used, " bytes smem").unwrap_or(0);
    Some(Usage { registers, shared, stack: before(memory, " bytes stack frame")?, spills: spilled })
}

fn markdown(ptxas: &Path, kernels: &BTreeMap<Key, Kernel>) -> Result<String, Box<dyn Error>> {
    let mut text = String::from(HEAD);
    for (what, of) in [
        ("warps", (|gpu| gpu.warps) as fn(&Gpu) -> usize),
        ("blocks", |gpu| gpu.blocks),
        ("KiB of shared memory", |gpu| gpu.shared >> 10),
    ] {
        let cells: Vec<String> = GPUS.iter().map(|gpu| of(gpu).to_string()).collect();
        writeln!(text, "| {what} | {} |", cells.join(" | "))?;
    }
    let version = Command::new(ptxas).arg("--version").output()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version = version.lines().find_map(|line| line.split_once(", V")).ok_or("ptxas does not tell its version")?.1;
    writeln!(text, "\nptxas {version}.")?;

    let gemm = |module: &str| matches!(module, "conv2d" | "pointwise");
    for precision in Precision::ALL {
        writeln!(text, "\n## The convolutions: {precision}\n")?;
        let rows = kernels.iter().filter(|((module, _, of), _)| gemm(module) && *of == precision as usize);
        table(&mut text, rows.map(|((_, name, _), kernel)| (format!("`{name}`"), kernel)))?;
    }
    writeln!(text, "\n## All others\n\nWhere the precision makes no difference, it is not named.\n")?;
    let mut rows: Vec<(String, &Kernel)> = Vec::new();
    let mut others = kernels.iter().filter(|((module, ..), _)| !gemm(module)).peekable();
    while let Some(((_, name, first), kernel)) = others.next() {
        let mut same = vec![Precision::ALL[*first].name()];
        while let Some(((_, _, precision), _)) =
            others.next_if(|((_, next, _), other)| next == name && *other == kernel)
        {
            same.push(Precision::ALL[*precision].name());
        }
        let of = if same.len() == Precision::ALL.len() { String::new() } else { format!(", {}", same.join(", ")) };
        rows.push((format!("`{name}`{of}"), kernel));
    }
    table(&mut text, rows.into_iter())?;
    Ok(text)
}

fn table<'a>(text: &mut String, rows: impl Iterator<Item = (String, &'a Kernel)>) -> std::fmt::Result {
    let names = GPUS.map(|gpu| gpu.name()).join(" | ");
    writeln!(text, "| kernel | threads | static + dynamic shared | spills, stack | {names} |")?;
    writeln!(text, "|---|---:|---:|---:|{}", "---:|".repeat(GPUS.len()))?;
    for (name, kernel) in rows {
        // Shared memory, spills and stack are the same on all GPUs of the list: the table has one column each.
        let most = |of: fn(&Usage) -> usize| kernel.usage.iter().flatten().map(of).max().unwrap_or(0);
        let (threads, dynamic) = (kernel.threads, kernel.dynamic);
        write!(text, "| {name} | {threads} | {} + {dynamic} |", most(|usage| usage.shared))?;
        write!(text, " {}, {} |", most(|usage| usage.spills), most(|usage| usage.stack))?;
        for (usage, on) in kernel.usage.iter().zip(&GPUS) {
            let Some(usage) = usage else {
                write!(text, " |")?;
                continue;
            };
            let (blocks, binds) = kernel.occupancy(usage, on);
            write!(text, " {}: {blocks} × {} {binds} |", usage.registers, threads.div_ceil(32))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

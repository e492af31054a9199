//! What each kernel takes of a multiprocessor: `resources OUT` compiles this build's PTX for every architecture, writes
//! a table to OUT (`make resources` keeps it as `kernels/RESOURCES.md`), and fails if a kernel spills or has a stack.

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
use mlpconv::device::cuda::{missing, ptx};

/// A multiprocessor, by the CUDA programming guide ("Compute capabilities"): 64 Ki registers in four partitions.
struct Architecture {
    name: &'static str,
    warps: usize,
    blocks: usize,
    /// Bytes of shared memory, at the largest share of the first-level cache.
    shared: usize,
}

const ARCHITECTURES: [Architecture; 4] = [
    Architecture { name: "sm_80", warps: 64, blocks: 32, shared: 164 << 10 },
    Architecture { name: "sm_86", warps: 48, blocks: 16, shared: 100 << 10 },
    Architecture { name: "sm_89", warps: 48, blocks: 24, shared: 100 << 10 },
    Architecture { name: "sm_90", warps: 64, blocks: 32, shared: 228 << 10 },
];

/// Shared memory that each block costs beyond its own.
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

/// What ptxas says of a kernel on one architecture.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    registers: usize,
    shared: usize,
    stack: usize,
    spills: usize,
}

/// A kernel, as its PTX declares it, and its use on each architecture.
#[derive(Clone, PartialEq, Eq)]
struct Kernel {
    threads: usize,
    dynamic: usize,
    usage: [Usage; ARCHITECTURES.len()],
}

/// Module, kernel, and the precision's place in `Precision::ALL`.
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
    let units: Vec<_> = Precision::ALL
        .into_iter()
        .flat_map(|precision| ptx(precision).map(move |(module, text)| (precision, module, text)))
        .flat_map(|unit| (0..ARCHITECTURES.len()).map(move |architecture| (unit, architecture)))
        .collect();
    let reports = compile_all(&ptxas, &units)?;

    let mut kernels: BTreeMap<Key, Kernel> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (&((precision, module, text), architecture), report) in units.iter().zip(&reports) {
        for (name, threads) in entries(text)? {
            let usage = usage(report, name).ok_or_else(|| format!("ptxas says nothing of {name}:\n{report}"))?;
            let kernel = kernels.entry((module, name, precision as usize)).or_insert_with(|| {
                let dynamic = dynamic_shared(precision, name);
                Kernel { threads, dynamic, usage: Default::default() }
            });
            kernel.usage[architecture] = usage;
            if usage.spills + usage.stack > 0 {
                let Usage { spills, stack, .. } = usage;
                let on = ARCHITECTURES[architecture].name;
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
    /// Blocks of the kernel that a multiprocessor holds, and what it has no more of.
    fn occupancy(&self, on: usize) -> (usize, char) {
        let (architecture, usage) = (&ARCHITECTURES[on], &self.usage[on]);
        let warps = self.threads.div_ceil(32);
        // A warp's registers come in units of 256; blocks are spread over the partitions by fours of warps.
        let per_partition = (16 << 10) / (usage.registers.max(1) * 32).next_multiple_of(256);
        let shared = (usage.shared + self.dynamic + SHARED_BY_SYSTEM).next_multiple_of(128);
        let bounds = [
            (4 * per_partition / warps.next_multiple_of(4), 'R'),
            (architecture.shared / shared, 'S'),
            (architecture.warps / warps, 'W'),
            (architecture.blocks, 'B'),
        ];
        // Of several that bind alike, what a kernel cannot change.
        bounds.into_iter().rev().min_by_key(|(blocks, _)| *blocks).expect("four bounds")
    }
}

/// The dynamic shared memory of a launch: the GEMMs have some, the gather and the fused block.
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

/// A module's kernels, each with its threads a block.
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

/// `$NVCC`'s neighbour, then that of `make test`, then one on PATH.
fn find_ptxas() -> Option<PathBuf> {
    let beside = env::var_os("NVCC").map(|nvcc| Path::new(&nvcc).with_file_name("ptxas"));
    let pythons = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/target/nvcc/lib")).into_iter().flatten().flatten();
    let installed = pythons.map(|python| python.path().join("site-packages/nvidia/cu13/bin/ptxas"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join("ptxas")).collect();
    beside.into_iter().chain(installed).chain(on_path).find(|ptxas| ptxas.is_file())
}

type Unit<'a> = ((Precision, &'a str, &'a str), usize);

/// What ptxas says of each unit, as many at a time as there are cores.
fn compile_all(ptxas: &Path, units: &[Unit]) -> Result<Vec<String>, Box<dyn Error>> {
    // The largest take longest.
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_key(|&unit| std::cmp::Reverse(units[unit].0.2.len()));
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, String)>, String> {
        let mut done = Vec::new();
        while let Some(&unit) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ((precision, module, text), architecture) = units[unit];
            let report = compile(ptxas, text, ARCHITECTURES[architecture].name);
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
        // It has read all when it begins to speak, unless it refuses; then it says why.
        let _ = child.stdin.take().expect("a pipe").write_all(text.as_bytes());
        child.wait_with_output()
    };
    let output = run().map_err(|error| format!("{}: {error}", ptxas.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// What a report says of a kernel.
fn usage(report: &str, kernel: &str) -> Option<Usage> {
    let rest = report.split_once(&format!("Function properties for {kernel}\n"))?.1;
    let mut lines = rest.lines();
    let (memory, used) = (lines.next()?, lines.next()?);
    // Numbers stand before their names.
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
        ("warps", (|a| a.warps) as fn(&Architecture) -> usize),
        ("blocks", |a| a.blocks),
        ("KiB of shared memory", |a| a.shared >> 10),
    ] {
        let cells: Vec<String> = ARCHITECTURES.iter().map(|architecture| of(architecture).to_string()).collect();
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
    let names = ARCHITECTURES.map(|architecture| architecture.name).join(" | ");
    writeln!(text, "| kernel | threads | static + dynamic shared | spills, stack | {names} |")?;
    writeln!(text, "|---|---:|---:|---:|{}", "---:|".repeat(ARCHITECTURES.len()))?;
    for (name, kernel) in rows {
        // Neither depends on the architecture, as far as these go.
        let most = |of: fn(&Usage) -> usize| kernel.usage.iter().map(of).max().unwrap_or(0);
        let (threads, dynamic) = (kernel.threads, kernel.dynamic);
        write!(text, "| {name} | {threads} | {} + {dynamic} |", most(|usage| usage.shared))?;
        write!(text, " {}, {} |", most(|usage| usage.spills), most(|usage| usage.stack))?;
        for (on, usage) in kernel.usage.iter().enumerate() {
            let (blocks, binds) = kernel.occupancy(on);
            write!(text, " {}: {blocks} × {} {binds} |", usage.registers, threads.div_ceil(32))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

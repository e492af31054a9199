//! Registers, shared memory and occupancy of each kernel.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mlpconv::Precision;
use mlpconv::device::cuda::tiles::{FP32_TILES, GATHER_SHARED, MLPCONV_D2L_SHARED, MMA_TILES, TALL_TILES, WGMMA_TILES};

use crate::gpus::{GPUS, Gpu};
use crate::occupancy::occupancy;
use crate::tools::Compiled;

const HEAD: &str = "\
# What each kernel takes of a multiprocessor

By `ptxas -v`, from the PTX of this build. Written by `make sass`, which fails if a kernel spills registers or has a
stack in local memory, as `cargo test --test machine` does on sm_90: none has.

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
pub struct Usage {
    pub registers: usize,
    pub barriers: usize,
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
type Key = (&'static str, String, usize);

/// Every kernel's resources.
pub struct Resources(BTreeMap<Key, Kernel>);

impl Resources {
    pub fn of(compiled: &[Compiled]) -> Self {
        let mut kernels: BTreeMap<Key, Kernel> = BTreeMap::new();
        for Compiled { unit, precision, on, report, .. } in compiled {
            let (module, text) = (unit.module, unit.ptx(*precision).expect("PTX"));
            for (name, threads) in entries(&text) {
                let usage = usage(report, name).unwrap_or_else(|| panic!("ptxas says nothing of {name}:\n{report}"));
                let kernel = kernels.entry((module, name.to_owned(), *precision as usize)).or_insert_with(|| {
                    let dynamic = dynamic_shared(*precision, name);
                    Kernel { threads, dynamic, usage: Default::default() }
                });
                kernel.usage[*on] = Some(usage);
            }
        }
        Resources(kernels)
    }

    /// The kernels that have spills or a stack, each in a line.
    pub fn spills(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for ((_, name, precision), kernel) in &self.0 {
            let precision = Precision::ALL[*precision];
            for (usage, on) in kernel.usage.iter().zip(&GPUS) {
                if let Some(Usage { spills, stack, .. }) = usage.filter(|usage| usage.spills + usage.stack > 0) {
                    let on = on.name();
                    wrong.push(format!("{name} at {precision} on {on} spills {spills} bytes and has {stack} of stack"));
                }
            }
        }
        wrong
    }

    pub fn markdown(&self, versions: &str) -> String {
        markdown(versions, &self.0).expect("a string takes text")
    }
}

impl Kernel {
    /// Blocks of the kernel that a multiprocessor holds, and the letter of the resource that limits them.
    fn occupancy(&self, usage: &Usage, on: &Gpu) -> (usize, char) {
        occupancy(self.threads.div_ceil(32), usage.registers, usage.shared + self.dynamic, &on.limits)
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
    let mut all = tiles.iter().chain(&TALL_TILES).chain(&WGMMA_TILES);
    let tile = all.find(|tile| gemm && kernel.ends_with(&format!("_{}", tile.name())));
    tile.map_or(
        0,
        |tile| if kernel.contains("_wgrad_") && !tile.warpgroups { tile.grouped().shared() } else { tile.shared() },
    )
}

/// A module's kernels, each with the threads of its blocks.
fn entries(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let starts = text.match_indices(".entry ").map(|(at, word)| &text[at + word.len()..]);
    starts.map(|rest| {
        let name = rest.split('(').next().unwrap_or_default().trim();
        let head = rest.split('{').next().unwrap_or_default();
        let extents = head.split_once(".maxntid").and_then(|(_, rest)| rest.trim_start().split('\n').next());
        let threads: Option<usize> =
            extents.and_then(|extents| extents.split(',').map(|extent| extent.trim().parse::<usize>().ok()).product());
        (name, threads.unwrap_or_else(|| panic!("{name} does not say how many threads a block has")))
    })
}

/// The resources of a kernel in a report.
pub fn usage(report: &str, kernel: &str) -> Option<Usage> {
    let rest = report.split_once(&format!("Function properties for {kernel}\n"))?.1;
    let mut lines = rest.lines();
    let (memory, used) = (lines.next()?, lines.next()?);
    // A number stands before its name.
    let before = |line: &str, name: &str| -> Option<usize> {
        line.split(',').find_map(|part| part.trim().strip_suffix(name)?.rsplit(' ').next()?.parse().ok())
    };
    let spilled = before(memory, " bytes spill stores")? + before(memory, " bytes spill loads")?;
    let registers = before(used, " registers")?;
    let [barriers, shared] = [" barriers", " bytes smem"].map(|name| before(used, name).unwrap_or(0));
    Some(Usage { registers, barriers, shared, stack: before(memory, " bytes stack frame")?, spills: spilled })
}

fn markdown(versions: &str, kernels: &BTreeMap<Key, Kernel>) -> Result<String, std::fmt::Error> {
    let mut text = String::from(HEAD);
    for (what, of) in [
        ("warps", (|gpu| gpu.limits.warps) as fn(&Gpu) -> usize),
        ("blocks", |gpu| gpu.limits.blocks),
        ("KiB of shared memory", |gpu| gpu.limits.shared >> 10),
    ] {
        let cells: Vec<String> = GPUS.iter().map(|gpu| of(gpu).to_string()).collect();
        writeln!(text, "| {what} | {} |", cells.join(" | "))?;
    }
    writeln!(text, "\n{versions}")?;

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

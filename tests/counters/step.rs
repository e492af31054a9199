//! A training step of the book's network, launch by launch: the bytes it moves, against the bytes of the plan.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::{env, fs};

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::device::cuda::tiles::MMA_TILES;
use mlpconv::nn::Nin;
use mlpconv::optim::Sgd;
use mlpconv::train::{Resident, Trainer};
use mlpconv::{Cuda, Device, Precision};
use serde_json::Value;

use crate::estimate::Estimate;
use crate::gpu::gpu;
use crate::least::SECTOR;
use crate::plan::Bytes;
use crate::tables::Kernels;
use crate::{gpus, grid, number, tables};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/measured/STEP.md");

const HEAD: &str = "\
# What a training step launches and moves

A step of the book's network at 224×224, launch by launch, as the virtual GPU (132 multiprocessors) counts it: images from the
resident data set, forward, loss, backward, update. On a GPU the whole of it is one graph. Written by `make counters`;
`cargo test --test counters` runs smaller batches and holds them to this list of kernels, and the total of bf16 to the plan.

* **reads**, **writes**: MB an image, each sector of 32 bytes once a launch: what memory has to give if the caches lose nothing
  while a kernel runs, and keep nothing from one kernel to the next. **asked**: what lanes ask for, as a multiple of
  that; the caches serve it.
* **conflicts**: passes over the banks of shared memory beyond the fewest, for each access to it.
* **GFLOP**: an image, as executed, on rows and columns that tiles have too many as well.
* **estimate**: microseconds on an H200 for 128 images, and what **binds** there: an estimate, as `mlpconv model` makes it of these
  counts and the machine code (`sass.csv`), not a measurement. What was counted on fewer images is taken in proportion.
* **+**: it runs beside the launch after it, whose estimate is what it adds to this one's.
* Images are as many as an interpreter computes in minutes, fewer in fp32: with few, the weights and the partial results weigh
  more. Precisions are not to be compared by these figures.
* **plan**: `tests/counters/plan.rs` says what it counts. It reads the values that mask a gradient, where the kernels read their
  signs, which is less; **with signs** is what they move of a plan that has these. The partial results of long sums, of which a GPU needs as many as it has
  room for at once, are not in it: they do not grow with the batch, and are told apart.
";

/// The most launches of a step where the first block is one kernel. Large batches have 35; in small ones more sums are
/// split.
const MOST: usize = 37;

/// The most bytes that a step may move, divided by the plan's: without partial results, and with them for a large batch. Hopper's
/// tiles are larger, so that each multiprocessor has one block, and sums are divided among more.
const EXCESS: f64 = 1.1;
const EXCESS_WITH_PARTS: [(Kernels, f64); 2] = [(Kernels::Portable, 1.15), (Kernels::Hopper, 1.2)];

/// Whether the report is requested. It has larger batches, which take the virtual GPU minutes.
fn report_wanted() -> bool {
    env::var_os("MLPCONV_STEP").is_some()
}

/// The number of images of the step.
fn batch(precision: Precision) -> usize {
    match (precision, report_wanted()) {
        (Precision::Fp32, false) => 1,
        (Precision::Fp32, true) => 8,
        (Precision::Tf32, false) => 2,
        (Precision::Tf32, true) => 32,
        (Precision::Bf16, false) => 8,
        (Precision::Bf16, true) => 128,
    }
}

/// The images that the report estimates the time of.
const ESTIMATED: usize = 128;

/// Runs a step at each precision, and for the report one in bf16 by the portable kernels alone.
pub fn run_all() -> mlpconv::Result<()> {
    for precision in Precision::ALL {
        run(&gpu(precision).expect("kernels"))?;
    }
    if report_wanted() { run(&gpu(Precision::Bf16).expect("kernels").portable()?) } else { Ok(()) }
}

/// Runs one step unrecorded. A recorded step has the same launches.
fn run(gpu: &Cuda) -> mlpconv::Result<()> {
    let n = batch(gpu.precision());
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    let images = (0..n * 28 * 28).map(noise).collect();
    let labels = (0..n).map(|i| (i % 10) as u8).collect();
    let dataset = Arc::new(Dataset::new(images, labels, 28, 28, 10).expect("images and labels"));
    let config = LoaderConfig { batch_size: n, height: 224, width: 224, order: Order::Sequential };
    let data = Resident::new(gpu, Loader::new(dataset, config).expect("a loader"))?;
    let mut trainer = Trainer::new(gpu, Nin::d2l(gpu, 1)?, Sgd::new(gpu), 1)?;
    trainer.record = false;
    trainer.step_resident(&data, 0.1)?;
    gpu.synchronize()
}

/// The columns of `step.csv`, from which `mlpconv model` calculates.
const COLUMNS: &str = "precision,kernels,images,kernel,beside,blocks,threads,shared,moved,asked,flops,mma,instructions,accesses,conflicts";

/// The counters of a launch.
struct Launch {
    kernel: String,
    grid: [usize; 2],
    /// The end of its row in `step.csv`, after the kernel.
    row: String,
    reads: usize,
    writes: usize,
    asked: usize,
    flops: usize,
    /// Bank conflicts of shared memory an access: the passes beyond the fewest possible.
    conflicts: f64,
    /// The same for the model.
    model: tables::Launch,
}

impl Launch {
    /// `main` is the stream of the step's first launch.
    fn new(launch: &Value, images: usize, main: u64) -> Self {
        let beside = stream(launch) != main;
        let sectors = |names: [&str; 2]| names.map(|name| number(launch, name) * SECTOR);
        let [reads, writes] = sectors(["global_load_footprint", "global_store_footprint"]);
        let asked = sectors(["global_load_sectors", "global_store_sectors"]).iter().sum();
        let (grid, flops) = (grid(launch), number(launch, "flops"));
        let threads: u64 = (0..3).map(|axis| launch["block"][axis].as_u64().expect("threads")).product();
        let shared = launch["dynamic_shared"].as_u64().expect("bytes");
        let counts = ["mma", "warp_instructions", "shared_accesses", "shared_bank_conflicts"];
        let counts = counts.map(|name| number(launch, name));
        let (blocks, moved, kernel) = (grid[0] * grid[1], reads + writes, launch["kernel"].as_str().expect("a name"));
        let row = format!(
            "{},{blocks},{threads},{shared},{moved},{asked},{flops},{}",
            u8::from(beside),
            counts.map(|count| count.to_string()).join(",")
        );
        let [mma, instructions, accesses, conflicts] = counts.map(|count| count as f64);
        let model = tables::Launch {
            kernel: kernel.to_owned(),
            images,
            beside,
            blocks,
            warps: (threads as usize).div_ceil(32),
            shared: shared as usize,
            moved: moved as f64,
            asked: asked as f64,
            flops: flops as f64,
            mma,
            instructions,
            accesses,
            conflicts,
        };
        Launch {
            kernel: kernel.to_owned(),
            grid,
            row,
            reads,
            writes,
            asked,
            flops,
            conflicts: conflicts / accesses.max(1.0),
            model,
        }
    }

    fn code(&self, precision: Precision) -> tables::Code {
        let h200 = gpus::gpu("h200").expect("it is in the list");
        let code = tables::code(&self.kernel, precision, &h200.architecture());
        code.unwrap_or_else(|| panic!("{} is not in kernels/measured/sass.csv: `make sass` first", self.kernel))
    }
}

/// The number of a launch's stream.
fn stream(launch: &Value) -> u64 {
    launch["stream"].as_u64().expect("a stream")
}

/// A step at one precision.
struct Step {
    precision: Precision,
    kernels: Kernels,
    batch: usize,
    launches: Vec<Launch>,
}

impl Step {
    fn plan(&self) -> Bytes {
        Bytes::of(self.batch, self.precision)
    }

    fn moved(&self) -> usize {
        self.launches.iter().map(|launch| launch.reads + launch.writes).sum()
    }

    /// The bytes that partial results add. Those of gradients are written and read instead of the sums. Those of
    /// fprop's sums are written by one kernel and read by another.
    fn partial(&self) -> usize {
        let plan = self.plan();
        // The other bytes that kernels with partial results of gradients write.
        let beside = |launch: &Launch| match launch.kernel.as_str() {
            "mlpconv_backward" | "mlpconv_maxpool_backward" => Some(plan.between),
            "pointwise_pair_backward" => Some(plan.before_pair),
            name => name.contains("_wgrad_").then_some(0),
        };
        let written: usize = self.launches.iter().filter_map(|launch| Some(launch.writes - beside(launch)?)).sum();
        let between = self.launches.iter().filter(|launch| launch.kernel.contains("_fprop_parts_"));
        2 * (written.saturating_sub(plan.gradients) + between.map(|launch| launch.writes).sum::<usize>())
    }

    fn excess(&self) -> f64 {
        (self.moved() - self.partial()) as f64 / self.plan().total() as f64
    }

    fn excess_with_parts(&self) -> f64 {
        self.moved() as f64 / self.plan().total() as f64
    }

    fn section(&self, text: &mut String) {
        let Step { precision, kernels, batch, launches } = self;
        let each = |bytes: usize| bytes as f64 / 1e6 / *batch as f64;
        let plan = self.plan();
        let coded: Vec<_> = launches.iter().map(|launch| (launch.model.clone(), launch.code(*precision))).collect();
        let h200 = gpus::gpu("h200").expect("it is in the list");
        let estimates = Estimate::of_step(&coded, h200, *precision, ESTIMATED);
        let estimate: f64 = estimates.iter().map(|estimate| estimate.time).sum();
        let images = if *batch == 1 { "image" } else { "images" };
        write!(
            text,
            "\n## {}: {} launches\n\n\
             {batch} {images}; {:.2} MB an image, of which {:.2} are partial results. The plan has {:.2} ({:.2} forward, \
             {:.2} backward, {:.2} update): {:.2} of it is moved without the partial results ({:.2} with signs), {:.2} with them. \
             The estimates add up to {estimate:.0} µs.\n\n\
             | | kernel | grid | reads | writes | asked | conflicts | GFLOP | estimate | binds |\n\
             |---:|---|---:|---:|---:|---:|---:|---:|---:|---|\n",
            heading(*precision, *kernels),
            launches.len(),
            each(self.moved()),
            each(self.partial()),
            each(plan.total()),
            each(plan.forward),
            each(plan.backward),
            each(plan.update),
            self.excess(),
            (self.moved() - self.partial()) as f64 / plan.with_signs() as f64,
            self.excess_with_parts(),
        )
        .unwrap();
        for (i, (launch, estimate)) in launches.iter().zip(&estimates).enumerate() {
            let Launch { kernel, grid, reads, writes, asked, flops, conflicts, .. } = launch;
            let beside = if launch.model.beside { " +" } else { "" };
            let grid = if grid[1] == 1 { grid[0].to_string() } else { format!("{}×{}", grid[0], grid[1]) };
            let (asked, flops) = (*asked as f64 / (reads + writes) as f64, *flops as f64 / 1e9 / *batch as f64);
            writeln!(
                text,
                "| {} | `{kernel}`{beside} | {grid} | {:.3} | {:.3} | {asked:.2} | {conflicts:.2} | {flops:.3} | {:.1} | {} |",
                i + 1,
                each(*reads),
                each(*writes),
                estimate.time,
                estimate.binds.name()
            )
            .unwrap();
        }
    }

    /// The rows of `step.csv`.
    fn rows(&self) -> Vec<String> {
        let Step { precision, kernels, batch, launches } = self;
        let of = format!("{precision},{},{batch}", kernels.name());
        launches.iter().map(|launch| format!("{of},{},{}", launch.kernel, launch.row)).collect()
    }

    fn kernels(&self) -> Vec<String> {
        of_any_batch(self.launches.iter().map(|launch| launch.kernel.as_str()))
    }

    /// The list of kernels in the committed report: of the portable ones, as small batches take none of Hopper's.
    fn committed(&self, report: &str) -> Vec<String> {
        let heading = format!("## {}:", heading(self.precision, Kernels::Portable));
        let lines = report.lines().skip_while(|line| !line.starts_with(&heading)).skip(1);
        let lines = lines.take_while(|line| !line.starts_with("## "));
        of_any_batch(lines.filter_map(|line| line.split('`').nth(1)))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (precision, count) = (self.precision, self.launches.len());
        for pair in self.launches.windows(2) {
            let [wgrad, next] = pair else { continue };
            let op = wgrad.kernel.split_once("_wgrad_").map(|(op, _)| op);
            let paired = op.is_some_and(|op| next.kernel.starts_with(&format!("{op}_dgrad_")));
            if wgrad.model.beside != paired {
                problems.push(format!("{precision}: whether {} runs beside {}", wgrad.kernel, next.kernel));
            }
        }
        if precision == Precision::Bf16 {
            if count > MOST {
                problems.push(format!("{precision}: {count} launches, {MOST} were wanted"));
            }
            if self.excess() > EXCESS {
                problems.push(format!("{precision}: moves {:.3} of what was planned", self.excess()));
            }
            let (_, most) = EXCESS_WITH_PARTS.into_iter().find(|(of, _)| *of == self.kernels).expect("one of both");
            if report_wanted() && self.excess_with_parts() > most {
                let excess = self.excess_with_parts();
                problems.push(format!("{precision}: moves {excess:.3} of what was planned, with partial results"));
            }
        }
        problems
    }
}

/// The heading of a step.
fn heading(precision: Precision, kernels: Kernels) -> String {
    match kernels {
        Kernels::Portable => precision.to_string(),
        Kernels::Hopper => format!("{precision}, with Hopper's kernels"),
    }
}

/// The kernels' names as if no fprop's sum were split and no tile were tall, since both depend on the batch.
fn of_any_batch<'a>(kernels: impl Iterator<Item = &'a str>) -> Vec<String> {
    let low = |kernel: String| {
        let pairs = MMA_TILES.iter().filter_map(|tile| Some((tile.tall()?, tile)));
        pairs.fold(kernel, |kernel, (tall, tile)| kernel.replace(&tall.name(), &tile.name()))
    };
    let whole = |kernel: &str| kernel.replace("_fprop_parts_", "_fprop_");
    kernels.filter(|kernel| *kernel != "sum_activated").map(|kernel| low(whole(kernel))).collect()
}

/// Checks the launches of [`run`] at each precision, and writes the report to the path in `MLPCONV_STEP`.
///
/// # Panics
/// If the launches are too many, move too many bytes, or differ from those of the committed report.
pub fn check(launches: &[Value]) {
    // Each step begins with the gather of its images.
    let (mut steps, mut main) = (Vec::new(), None);
    for launch in launches {
        if launch["kernel"] == "gather" {
            main = None;
            // The last one is that of the portable kernels.
            let precision = Precision::ALL.get(steps.len()).copied().unwrap_or(Precision::Bf16);
            steps.push(Step { precision, kernels: Kernels::Portable, batch: batch(precision), launches: Vec::new() });
        }
        let step = steps.last_mut().expect("a step begins with its images");
        let main = *main.get_or_insert(stream(launch));
        step.launches.push(Launch::new(launch, step.batch, main));
    }
    for step in &mut steps {
        if step.launches.iter().any(|launch| launch.model.by_warpgroups()) {
            step.kernels = Kernels::Hopper;
        }
    }
    assert_eq!(steps.len(), Precision::ALL.len() + usize::from(report_wanted()));

    match env::var_os("MLPCONV_STEP") {
        Some(path) => {
            let mut text = HEAD.to_owned();
            steps.iter().for_each(|step| step.section(&mut text));
            fs::write(&path, text).unwrap();
            let rows = steps.iter().flat_map(Step::rows).map(|row| row + "\n");
            fs::write(Path::new(&path).with_file_name("step.csv"), format!("{COLUMNS}\n{}", rows.collect::<String>()))
                .unwrap();
        }
        None => {
            let report = fs::read_to_string(COMMITTED).unwrap();
            for step in &steps {
                assert_eq!(
                    step.kernels(),
                    step.committed(&report),
                    "kernels/measured/STEP.md is stale; `make counters` renews it"
                );
            }
        }
    }
    let problems: Vec<String> = steps.iter().flat_map(Step::problems).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

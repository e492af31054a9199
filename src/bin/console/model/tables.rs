//! What the model is of: the launches of a training step as the virtual GPU counts them, and the machine code of their kernels.
//! Both tables are made by `make counters` and `make sass`.

use mlpconv::Precision;

const STEP: &str = include_str!("../../../../kernels/measured/step.csv");
const SASS: &str = include_str!("../../../../kernels/measured/sass.csv");

/// Which kernels a step was counted with: those of all GPUs, or in their place, where there are such, those of Hopper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    Portable,
    Hopper,
}

impl Kernels {
    /// As `step.csv` has it.
    pub fn name(self) -> &'static str {
        match self {
            Kernels::Portable => "sm_80",
            Kernels::Hopper => "sm_90",
        }
    }

    /// The fewest images whose rows Hopper's tiles suit, by the rules for launches.
    const FEWEST: usize = 16;

    /// Those of a step of `images` images at `precision` on a GPU of `architecture`.
    fn of(precision: Precision, architecture: &str, images: usize) -> Self {
        let own = precision == Precision::Bf16 && architecture == Kernels::Hopper.name() && images >= Self::FEWEST;
        if own { Kernels::Hopper } else { Kernels::Portable }
    }
}

/// A launch of a step, counted for `images` images.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kernel: String,
    pub images: usize,
    /// Whether it runs on the second stream. The model takes the last of these and the launch after it as a pair.
    pub beside: bool,
    pub blocks: usize,
    /// Warps of a block, and its dynamic shared memory in bytes.
    pub warps: usize,
    pub shared: usize,
    /// Bytes of memory that it reads and writes once, and that its lanes ask for.
    pub moved: f64,
    pub asked: f64,
    pub flops: f64,
    pub mma: f64,
    /// Instructions of warps, in PTX.
    pub instructions: f64,
    /// Accesses to shared memory, and passes beyond the fewest.
    pub accesses: f64,
    pub conflicts: f64,
}

impl Launch {
    /// Whether warpgroups multiply (`wgmma`): an `mma` of a warp has 4096 operations in bf16.
    pub fn by_warpgroups(&self) -> bool {
        self.flops > 2.0 * 4096.0 * self.mma && self.mma > 0.0
    }
}

/// A kernel's machine code on one architecture.
#[derive(Debug)]
pub struct Code {
    pub registers: usize,
    /// All instructions.
    pub instructions: f64,
    /// Of the main loop: `mma`, the usual instructions and passes over shared memory, and the seldom instructions.
    pub mma: f64,
    pub usual: f64,
    pub passes: f64,
    pub seldom: f64,
}

fn cells(line: &'static str) -> (Vec<&'static str>, Vec<f64>) {
    let cells: Vec<&str> = line.split(',').collect();
    let numbers = cells.iter().map(|cell| cell.parse().unwrap_or(f64::NAN)).collect();
    (cells, numbers)
}

/// The launches of a step of `images` images at a precision, in their order, each with its kernel's code.
pub fn launches(precision: Precision, architecture: &str, images: usize) -> Vec<(Launch, Code)> {
    let launch = |(cells, numbers): (Vec<&'static str>, Vec<f64>)| Launch {
        images: numbers[2] as usize,
        kernel: cells[3].to_owned(),
        beside: numbers[4] != 0.0,
        blocks: numbers[5] as usize,
        warps: (numbers[6] as usize).div_ceil(32),
        shared: numbers[7] as usize,
        moved: numbers[8],
        asked: numbers[9],
        flops: numbers[10],
        mma: numbers[11],
        instructions: numbers[12],
        accesses: numbers[13],
        conflicts: numbers[14],
    };
    let coded = |launch: Launch| {
        let code = code(&launch.kernel, precision, architecture)?;
        Some((launch, code))
    };
    rows(precision, architecture, images).map(launch).filter_map(coded).collect()
}

fn rows(
    precision: Precision,
    architecture: &str,
    images: usize,
) -> impl Iterator<Item = (Vec<&'static str>, Vec<f64>)> {
    let of = [precision.name(), Kernels::of(precision, architecture, images).name()];
    STEP.lines().skip(1).map(cells).filter(move |(cells, _)| cells[..2] == of)
}

/// How many launches of a step of `images` images were counted at a precision, for a GPU of `architecture`.
#[cfg(test)]
pub fn counted(precision: Precision, architecture: &str, images: usize) -> usize {
    rows(precision, architecture, images).count()
}

/// The code of a kernel.
pub fn code(kernel: &str, precision: Precision, architecture: &str) -> Option<Code> {
    let wanted = |cells: &[&str]| cells[1..4] == [kernel, precision.name(), architecture];
    let (_, numbers) = SASS.lines().skip(1).map(cells).find(|(cells, _)| wanted(cells))?;
    Some(Code {
        registers: numbers[4] as usize,
        instructions: numbers[6],
        mma: numbers[7],
        usual: numbers[7..14].iter().sum(),
        passes: numbers[14],
        seldom: numbers[15],
    })
}
